import numpy as np
import pytest

from deepseek.compression.calibration import Calibration
from deepseek.compression.quantizer import Quantizer
from deepseek.compression.sensitivity import MOST_GROUPS, sensitivities, trials


class Known(Quantizer):
    """Layers whose harm in INT8 is known beforehand."""

    method = "static"

    def __init__(self, harm):
        self.harm, self.asked = harm, 0
        self.layers = tuple(harm)

    def write(self, folder, *, floats=frozenset()):
        raise NotImplementedError

    def answers(self, calibration, *, floats):
        self.asked += 1
        return [np.ones((4, 2)) * (1 + sum(harm for layer, harm in self.harm.items() if layer not in floats))]


ROWS = Calibration(({"x": np.zeros((4, 1), np.float32)},))


def test_layers_are_ranked_by_what_they_do_alone():
    found = sensitivities(Known({"first": 0.1, "second": 0.5, "third": 0.0}), ROWS)
    assert [one.layers for one in found] == [("second",), ("first",), ("third",)]
    assert [one.error for one in found] == pytest.approx([0.5, 0.1, 0.0])


def test_the_worst_fall_back_first_and_never_all():
    quantizer = Known({"first": 0.1, "second": 0.5, "third": 0.0})
    made = trials(quantizer, ROWS, fall_back=True)
    assert next(made).floats == frozenset()
    assert quantizer.asked == 0  # what passes whole costs no measuring
    assert [trial.floats for trial in made] == [{"second"}, {"second", "first"}]
    assert [trial.floats for trial in trials(quantizer, ROWS, fall_back=False)] == [frozenset()]


def test_many_layers_are_measured_in_groups():
    quantizer = Known({f"layer{place}": place / 100 for place in range(50)})
    chosen = list(trials(quantizer, ROWS, fall_back=True))
    assert quantizer.asked <= MOST_GROUPS + 1
    assert {"layer44", "layer47"} <= chosen[1].floats  # the last group has two layers only
    assert len(chosen) <= 6

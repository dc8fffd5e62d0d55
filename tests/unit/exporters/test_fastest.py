from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from deepseek.exporters.fastest import Timing, fastest, time_backends


def timing(name, one, many):
    return Timing(name, {1: 1 / one, 32: 1 / many}, {1: one, 32: many})


def test_the_fastest_is_never_slower_than_the_first():
    first = timing("torch", 1.0, 1.0)
    assert fastest([first, timing("a", 9.0, 0.9), timing("b", 1.2, 1.1)]).name == "b"
    assert fastest([first, timing("a", 0.5, 0.9)]).name == "torch"
    assert fastest([first, timing("a", 2.0, 2.0), timing("b", 1.5, 3.0)]).name == "b"


class Fake:
    """A backend whose rows take so many seconds of a clock that is looked at instead of the true one."""

    def __init__(self, monkeypatch):
        self.calls, self.now = [], 0.0
        monkeypatch.setattr("deepseek.exporters.fastest.time.perf_counter", lambda: self.now)
        monkeypatch.setattr("deepseek.exporters.fastest._LEAST_S", 0.0)

    def backend(self, name, seconds):
        def run(inputs):
            self.calls.append((name, len(inputs["x"])))
            self.now += seconds * len(inputs["x"])
            return {}

        return SimpleNamespace(run=run)


@pytest.fixture
def fake(monkeypatch):
    return Fake(monkeypatch)


def test_backends_take_turns_on_the_same_arrays(fake):
    backends = {"torch": fake.backend("torch", 1.0), "other": fake.backend("other", 0.25)}
    found = time_backends(backends, {1: {"x": np.zeros(1)}, 4: {"x": np.zeros(4)}})
    assert [one.name for one in found] == ["torch", "other"]
    assert found[1].seconds == {1: 0.25, 4: 1.0}
    assert found[1].speed_up == {1: pytest.approx(4), 4: pytest.approx(4)}
    assert fake.calls[4:8] == [("torch", 1), ("other", 1)] * 2


@pytest.mark.parametrize(("seconds", "turns"), [(0.1, 15), (3.9, 15), (8.0, 8), (40.0, 5)])
def test_slow_backends_have_fewer_turns(fake, seconds, turns):
    time_backends({"torch": fake.backend("torch", seconds)}, {1: {"x": np.zeros(1)}})
    assert len(fake.calls) == turns + 2  # two calls find out how long one takes

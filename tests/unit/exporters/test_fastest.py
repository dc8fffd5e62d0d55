from __future__ import annotations

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


def test_backends_take_turns_on_the_same_arrays(monkeypatch):
    calls, clock = [], [0.0]

    class Fake:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds

        def run(self, inputs):
            calls.append((self.name, len(inputs["x"])))
            clock[0] += self.seconds * len(inputs["x"])
            return {}

    monkeypatch.setattr("deepseek.exporters.fastest.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("deepseek.exporters.fastest._LEAST_S", 0.0)
    found = time_backends({"torch": Fake("torch", 1.0), "other": Fake("other", 0.25)}, {1: {"x": np.zeros(1)}, 4: {"x": np.zeros(4)}})
    assert [one.name for one in found] == ["torch", "other"]
    assert found[1].seconds == {1: 0.25, 4: 1.0}
    assert found[1].speed_up == {1: pytest.approx(4), 4: pytest.approx(4)}
    assert calls[4:8] == [("torch", 1), ("other", 1)] * 2

"""What every detector of change must do, as tests that a plugin's author runs on it.

Derive a class whose name begins with `Test` and say how the detector is made:

    class TestCusum(DetectorContract):
        def make(self): return Cusum(threshold=5.0)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from deepseek.statistics.detectors import Detector

_SURE, _WORSE = 5_000, 2_000
_STEP = 0.6180339887498949
"""The golden ratio's fraction: its multiples modulo 1 are spread evenly, so that errors come at a steady rate without a generator."""


def _errors(count: int, rate: float) -> list[float]:
    return [float((place * _STEP) % 1 < rate) for place in range(count)]


class DetectorContract(ABC):
    """The suite: pytest collects the methods of derived classes."""

    @abstractmethod
    def make(self) -> Detector:
        """Return a fresh detector."""

    def test_more_errors_are_seen(self) -> None:
        """A rate of errors that goes from 10 to 60 % is found within 2,000 values."""
        detector = self.make()
        for value in _errors(_SURE, 0.1):
            detector.update(value)
        assert any(detector.update(value) for value in _errors(_WORSE, 0.6))

    def test_what_does_not_change_is_no_change(self) -> None:
        """A steady rate raises no alarm."""
        detector = self.make()
        assert not any(detector.update(value) for value in _errors(_SURE, 0.1))

    def test_it_goes_on_after_an_alarm(self) -> None:
        """A second change is found as the first was."""
        detector = self.make()
        for rate, count in ((0.1, _SURE), (0.6, _WORSE), (0.1, _SURE)):
            for value in _errors(count, rate):
                detector.update(value)
        assert any(detector.update(value) for value in _errors(_WORSE, 0.6))

    def test_the_same_values_give_the_same_alarms(self) -> None:
        """Nothing is random."""
        values = _errors(_SURE, 0.1) + _errors(_WORSE, 0.6)
        one, two = self.make(), self.make()
        assert [one.update(value) for value in values] == [two.update(value) for value in values]

    def test_its_state_survives_json(self) -> None:
        """A detector that is given what another one held goes on as that one does."""
        values = _errors(_SURE, 0.1) + _errors(_WORSE, 0.6)
        one, two = self.make(), self.make()
        for value in values[: _SURE + 150]:
            one.update(value)
        two.load_state(json.loads(json.dumps(one.state())))
        assert [one.update(value) for value in values[_SURE + 150 :]] == [two.update(value) for value in values[_SURE + 150 :]]

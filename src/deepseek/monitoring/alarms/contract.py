"""What every alarm must do, as tests that a plugin's author runs on it.

Derive a class whose name begins with `Test` and say how the alarm is made, what arrived, and how one is made that cannot tell anybody:

    class TestMail(AlarmContract):
        def make(self): return MailAlarm(to="a@example.org")
        def arrived(self): return [json.loads(mail) for mail in box]
        def broken(self): return MailAlarm(to="nobody@example.invalid")
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from deepseek.errors import RunError
from deepseek.monitoring.alarms.base import Alarm, AlarmEvent

_RAISED = AlarmEvent("drift:größe", "raised", 1_700_000_000.5, "'größe' has drifted: “much”", "runs/a/001", {"psi": 0.31})
_CLEARED = AlarmEvent("drift:größe", "cleared", 1_700_000_060.0, "'größe' is as it was", "runs/a/001")


class AlarmContract(ABC):
    """The suite: pytest collects the methods of derived classes."""

    @abstractmethod
    def make(self) -> Alarm:
        """Return a fresh alarm that reaches somebody."""

    @abstractmethod
    def arrived(self) -> list[dict[str, Any]]:
        """Return the events that came through, as plain JSON values, in their order."""

    @abstractmethod
    def broken(self) -> Alarm:
        """Return an alarm that reaches nobody."""

    def test_every_event_arrives_whole_and_in_order(self) -> None:
        """Nothing is lost, and no letter changed."""
        alarm = self.make()
        for event in (_RAISED, _CLEARED):
            alarm.send(event)
        assert self.arrived() == [_RAISED.to_json(), _CLEARED.to_json()]

    def test_an_event_told_twice_does_no_harm(self) -> None:
        """After a failure the same event is sent again."""
        alarm = self.make()
        alarm.send(_RAISED)
        alarm.send(_RAISED)
        assert self.arrived() == [_RAISED.to_json()] * 2

    def test_what_cannot_be_told_is_an_error_that_the_watch_survives(self) -> None:
        """A `RunError`, and nothing else."""
        try:
            self.broken().send(_RAISED)
        except RunError as error:
            assert str(error)  # noqa: PT017  the suite runs without pytest installed
        else:
            raise AssertionError("nobody was reached, and nothing was said")

"""Alarms as lines of a file."""

from __future__ import annotations

from pathlib import Path

from deepseek.artifacts import append_json
from deepseek.monitoring.alarms.base import Alarm, AlarmEvent


class FileAlarm(Alarm):
    """Appends each event to a file, one JSON object a line.

    Args:
        path: The file; made where it is not there.
    """

    def __init__(self, *, path: str) -> None:
        self.path = Path(path)

    def send(self, event: AlarmEvent) -> None:
        """Append the event, and wait until the disk has it."""
        append_json(self.path, event.to_json())

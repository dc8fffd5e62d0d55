"""Alarms as lines of a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from deepseek.artifacts import plain_disk_errors
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
        line = json.dumps(event.to_json(), ensure_ascii=False) + "\n"
        with plain_disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

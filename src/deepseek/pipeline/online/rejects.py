"""Messages and rows of a live stream that are not learned from: one JSON object a line, in step with the learner's state."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepseek.artifacts.files import plain_disk_errors


class RejectsLog:
    """A file that grows, and is cut back to where it was when the state was saved: nothing in it stands twice.

    Args:
        path: The file; it is made when there is something to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record; it is written by `flush`."""
        self._waiting.append(json.dumps(record, ensure_ascii=False, default=str) + "\n")

    def flush(self) -> int:
        """Write what waits, see that the disk has it, and return the size of the file in bytes."""
        if not self._waiting:
            return self.path.stat().st_size if self.path.is_file() else 0
        with plain_disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(self._waiting)
                file.flush()
                os.fsync(file.fileno())
        self._waiting = []
        return self.path.stat().st_size

    def cut(self, size: int) -> None:
        """Take away what was written behind so many bytes."""
        self._waiting = []
        if self.path.is_file():
            with plain_disk_errors(self.path), self.path.open("r+b") as file:
                file.truncate(size)

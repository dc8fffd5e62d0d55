"""What was done to a model, by whom and when: one line of JSON each, in `experiments/NAME/log.jsonl`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson


def folder_of(folder: Path, model: str) -> Path:
    """Return the folder of a model's experiments, made where it was not there.

    Args:
        folder: The server's folder.
        model: The model.
    """
    made = folder / "experiments" / model
    made.mkdir(parents=True, exist_ok=True)
    return made


def note(folder: Path, model: str, *, who: str, what: str, old: Any, new: Any, **more: Any) -> None:
    """Append what was done; it is on the disk when this returns.

    Args:
        folder: The server's folder.
        model: The model.
        who: Which key, or which part of the server.
        what: What was done: `begin`, `share`, `promote`, `rollback`, `stop`, `load`.
        old: What was there before.
        new: What is there now.
        more: What else there is to know.
    """
    value: Mapping[str, Any] = {"at": datetime.now(UTC).isoformat(), "who": who, "what": what, "old": old, "new": new, **more}
    # one write to a file that is open for appending: lines of several processes do not mix
    handle = os.open(folder_of(folder, model) / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, orjson.dumps(value) + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)


def history(folder: Path, model: str) -> list[dict[str, Any]]:
    """Return what was done, the oldest first.

    Args:
        folder: The server's folder.
        model: The model.
    """
    file = folder / "experiments" / model / "log.jsonl"
    if not file.exists():
        return []
    return [orjson.loads(line) for line in file.read_bytes().splitlines() if line]

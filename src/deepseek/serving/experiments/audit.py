"""What was done to a model, by whom and when: one line of JSON each, in `experiments/NAME/log.jsonl`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepseek.artifacts import append_json, plain_disk_errors


def folder_of(folder: Path, model: str) -> Path:
    """Return the folder of a model's experiments, made where it was not there.

    Args:
        folder: The server's folder.
        model: The model.

    Raises:
        RunError: It cannot be made.
    """
    made = folder / "experiments" / model
    with plain_disk_errors(made):
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
    value = {"at": datetime.now(UTC).isoformat(), "who": who, "what": what, "old": old, "new": new, **more}
    append_json(folder_of(folder, model) / "log.jsonl", value, private=True)


def history(folder: Path, model: str) -> list[dict[str, Any]]:
    """Return what was done, the oldest first.

    Args:
        folder: The server's folder.
        model: The model.
    """
    file = folder / "experiments" / model / "log.jsonl"
    if not file.exists():
        return []
    return [_entry(line) for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line]


def _entry(line: str) -> dict[str, Any]:
    """Return what a line says; one that a full disk or a kill has cut off says nothing but itself."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"what": "unreadable", "line": line}

"""Where example files go: never over what is there."""

from __future__ import annotations

from pathlib import Path

from deepseek.errors import RunError


def free(path: Path) -> Path:
    """Return a path that nothing stands at yet.

    Raises:
        RunError: Something does.
    """
    if path.exists():
        raise RunError(f"{path} is there already", hint="name another folder, or move it away")
    return path

"""Prepared rows and preparations, whichever kind they are: of rows, or of windows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.data.preparation import Preparation
from deepseek.data.windows.preparation import WindowPreparation

if TYPE_CHECKING:
    from deepseek.data.prepared import PreparedDataset


def preparation_of(value: Mapping[str, Any]) -> Preparation:
    """Return the fitted preparation that `to_json` wrote, of rows or of windows."""
    return WindowPreparation.from_json(value) if "windows" in value else Preparation.from_json(value)


def open_prepared(folder: Path) -> PreparedDataset:
    """Open prepared rows, or windows over prepared steps.

    Raises:
        DataError: The folder holds none, or not as they were written.
    """
    from deepseek.data.prepared import PreparedDataset
    from deepseek.data.windows.dataset import WindowDataset, is_windows

    return WindowDataset.open_windows(folder) if is_windows(folder) else PreparedDataset.open(folder)

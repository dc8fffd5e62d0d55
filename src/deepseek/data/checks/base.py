"""The contract of every check: a rule that says which rows are bad."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from deepseek.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

OnFail = Literal["drop", "quarantine", "fail", "flag"]


class Check(ABC):
    """A rule over rows.

    In training, bad rows are dropped, kept aside in the run's `rejects/` folder, or stop the run; in production the same mask becomes a
    422. Every bad row is counted under the check's name whatever happens to it.

    A check that needs the whole table first (`unique`) sets `table_wide` and is shown every batch through `observe` before `bad` is asked.

    Args:
        on_fail: `drop` (counted), `quarantine` (counted and kept with the reason), `fail` (stop), `flag` (counted, kept in the data).

    Attributes:
        table_wide: Whether the check needs the whole table first.
        folder: What the relative paths of a check are relative to; whoever builds checks from a recipe sets it to the recipe's folder.
    """

    table_wide = False
    folder = Path()

    def __init__(self, *, on_fail: OnFail = "quarantine") -> None:
        if on_fail not in get_args(OnFail):
            raise InputError(f"on_fail is {on_fail!r}", hint=f"allowed: {', '.join(get_args(OnFail))}")
        self.on_fail = on_fail

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule reads; they must be in the table."""

    @property
    @abstractmethod
    def reason(self) -> str:
        """Why a row is bad, in words for the rejects file and the 422: `age must be between 0 and 120`."""

    def fingerprint(self) -> str | None:
        """Return what else than its arguments and the rows an answer depends on: the hash of a file that it reads, for example.

        Kept results are found again by it. Nothing (`None`) says that there is no telling, as with the time of day: then rows are asked
        anew each time.
        """
        return ""

    @abstractmethod
    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array of shape `[rows]`: true where the row breaks the rule."""

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch in a first pass over the table (only where `table_wide`)."""

    def finish(self) -> None:
        """End the first pass."""

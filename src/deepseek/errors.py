"""The tree of errors that users meet.

Everything that the framework raises on purpose derives from `DeepSeekError`. The command line turns an `InputError` (something
that was given is wrong) into exit status 2 and any other `DeepSeekError` (the work failed) into exit status 1; anything else is a
defect and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class DeepSeekError(Exception):
    """An error that the framework raises on purpose.

    Args:
        message: What happened, in one sentence that names what was given.
        hint: What to do about it, or nothing.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(DeepSeekError):
    """Something that the user gave is wrong: a recipe, an argument, a file, a table."""

    exit_code = 2


class DataError(InputError):
    """A source cannot be read, or what it holds cannot be used."""


class ColumnError(DataError):
    """A column is missing, doubled, or of another type than the schema says."""


OF_BATCH = "of the batch"
"""What the row of an error is counted in where nobody knows more."""


class RowError(DataError):
    """A row cannot be used.

    Args:
        row: Which row of its batch, from 0.
        problem: What is wrong with it, as it follows after "row N": `": the weight is -1"`, `" holds 'old'"`.
        before: What is said before "row N".
        hint: What to do about it, or nothing.
        of: What the row is counted in, as it follows after "row N".
    """

    def __init__(self, row: int | np.integer[Any], problem: str, *, before: str = "", hint: str | None = None, of: str = OF_BATCH) -> None:
        self.row, self.problem, self.before, self.of = int(row), problem, before, of
        super().__init__(f"{before}row {row} {of}{problem}", hint=hint)

    def but(self, **changed: Any) -> RowError:
        """Return the same error with other arguments."""
        return RowError(**{**{name: getattr(self, name) for name in ("row", "problem", "before", "hint", "of")}, **changed})


@contextmanager
def rows_counted(rows: int | Sequence[int] | np.ndarray, *, of: str = "(counted from 0)") -> Iterator[None]:
    """Let an error about a row of a batch say which row it is of what the user gave.

    Args:
        rows: How many rows came before the batch, or the number of each of its rows.
        of: What the rows are then counted in.
    """
    try:
        yield
    except RowError as error:
        raise error.but(row=rows + error.row if isinstance(rows, int) else rows[error.row], of=of) from None


class CheckError(DataError):
    """A check with `on_fail: fail` met bad rows."""


class UnknownNameError(InputError):
    """A name is not among those allowed.

    Args:
        what: What kind of name it is, for example `"optimizer"`.
        given: The name that was given.
        allowed: Every name that would have been right, in the order to show them in; a set is sorted.
        hint: What else to do; a "did you mean" is added by itself.
    """

    def __init__(self, what: str, given: str, allowed: Iterable[str], *, hint: str | None = None) -> None:
        self.given = given
        self.allowed = sorted(allowed) if isinstance(allowed, AbstractSet) else list(dict.fromkeys(allowed))
        self.suggestion = closest(given, self.allowed)
        message = f"unknown {what} {given!r}; allowed: {', '.join(self.allowed) or 'none'}"
        guess = f"did you mean {self.suggestion!r}?" if self.suggestion else None
        super().__init__(message, hint=" ".join(part for part in (guess, hint) if part) or None)


class MissingExtraError(InputError):
    """An optional library is needed and not installed.

    Args:
        library: The library's import name.
        extra: The extra of this distribution that brings it.
        purpose: What it was wanted for.
    """

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        self.library, self.extra = library, extra
        super().__init__(
            f"{purpose} needs {library!r}, which is not installed",
            hint=f"install it with: pip install 'deepseek-framework[{extra}]'",
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a recipe.

    Attributes:
        path: Where in the recipe, with dots: `train.optimizer.lr`.
        message: What was given and what is allowed.
        file: The recipe's file, where there is one; `--set` for an override.
        line: The line in that file, counted from 1, where it is known.
        suggestion: The name that was probably meant.
    """

    path: str
    message: str
    file: str | None = None
    line: int | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{text}; did you mean {self.suggestion!r}?" if self.suggestion else text


class RecipeError(InputError):
    """A recipe says something that cannot be followed.

    Args:
        problems: Everything that is wrong with it, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(InputError):
    """A plugin cannot be loaded, or does not keep its family's contract."""


class BundleError(InputError):
    """A bundle or run folder is missing, truncated, edited, foreign or from a newer version."""


class RunError(DeepSeekError):
    """The work itself failed: a disk was full, a rank died, memory ran out."""


class TrainingError(RunError):
    """Training cannot go on."""


class NonFiniteError(TrainingError):
    """The loss or a gradient is NaN or infinite."""


class ExportError(RunError):
    """A network cannot be exported, or what was exported does not answer as the network does."""


class CheckpointError(RunError):
    """A checkpoint cannot be written, or the one to resume from cannot be used."""


def closest(given: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that was probably meant, or nothing when none is near.

    Example:
        >>> closest("learning_rte", ["epochs", "learning_rate"])
        'learning_rate'
    """
    folded = {name.casefold().replace("-", "_"): name for name in allowed}
    matches = get_close_matches(given.casefold().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None

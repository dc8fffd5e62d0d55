"""What the command line prints: results to stdout, errors to stderr, and with `--json` one object and nothing else."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from deepseek.errors import CheckpointError, DeepSeekError, InputError, NonFiniteError, RecipeError

_RED, _RESET = "\x1b[31m", "\x1b[0m"


class Output(NamedTuple):
    """What a verb returns.

    Attributes:
        result: Plain values, for `--json`.
        text: The same for people.
        status: The exit status.
    """

    result: Mapping[str, Any]
    text: str
    status: int = 0


def print_output(output: Output, *, as_json: bool) -> None:
    """Print a result: as one JSON object, or as text for people."""
    sys.stdout.write((json.dumps(_plain(output.result), ensure_ascii=False, allow_nan=False) if as_json else output.text) + "\n")


def report_error(error: DeepSeekError, *, as_json: bool) -> None:
    """Print an error with what to do about it."""
    if as_json:
        sys.stdout.write(json.dumps({"error": error_json(error)}, ensure_ascii=False) + "\n")
        return
    red, reset = (_RED, _RESET) if sys.stderr.isatty() else ("", "")
    # where a rank was when it failed: of what is wrong with the input, a checkpoint or the numbers, the message says all
    plain = isinstance(error, InputError | CheckpointError | NonFiniteError)
    kept = [note for note in getattr(error, "__notes__", ()) if not (plain and note.startswith("Traceback"))]
    notes = "".join(f"{note.rstrip()}\n" for note in kept)
    sys.stderr.write(f"{notes}{red}error:{reset} {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))


def error_json(error: DeepSeekError) -> dict[str, Any]:
    """Return an error as plain JSON values; a recipe's problems one by one."""
    value: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, RecipeError):
        keys = ("path", "message", "file", "line", "suggestion")
        value["problems"] = [{key: getattr(problem, key) for key in keys} for problem in error.problems]
    return value


def as_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as text in columns; the last column is not padded."""
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(len(rows[0]) - 1)] if rows else []
    return "\n".join("  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows)


def page_line(output: str | None) -> list[str]:
    """Return the lines that name the page that was written, where one was asked for."""
    return [f"\npage  {output}"] if output else []


def shortened(text: str, width: int) -> str:
    """Return a text cut to a width, the cut marked by an ellipsis."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def as_text(value: Mapping[str, Any]) -> str:
    """Return nested values as lines of `path  value`."""
    return as_table([(path, text) for path, text in _flat({key: part for key, part in value.items() if part not in ([], {})}, "")])


def result_text(value: Mapping[str, Any]) -> str:
    """Return what a run came to, its metrics by split and its folders; warnings were printed as they came."""
    splits = [name for name, metrics in value["metrics"].items() if metrics]
    names = dict.fromkeys(name for split in splits for name in value["metrics"][split])
    width = max(map(len, names), default=0)
    lines = [" " * width + "".join(f"{split:>12}" for split in splits)]
    lines += [f"{name:<{width}}" + "".join(f"{value['metrics'][split].get(name, math.nan):>12.4f}" for split in splits) for name in names]
    head = as_table(
        [
            ("run", value["run"]),
            ("bundle", value["bundle"]),
            ("seconds", f"{value['seconds']:.1f}"),
            ("report", f"deepseek report {value['run']}"),
        ]
    )
    measured = lines if splits else ["nothing was measured: there are no validation or test rows"]
    return "\n".join(["", *measured, "", head])


def _flat(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [row for key, part in value.items() for row in _flat(part, f"{path}.{key}" if path else str(key))]
    if isinstance(value, float):
        return [(path, f"{value:.6g}")]
    return [(path, "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))]


def _plain(value: Any) -> Any:
    """Return values that JSON has a word for: infinity and NaN become null, anything foreign its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)

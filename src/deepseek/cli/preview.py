"""`deepseek preview`: what the network will see, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, RecipePath
from deepseek.cli.output import Output, as_table, page_line, shortened

_WIDTH = 44


def preview_verb(
    recipe: RecipePath,
    *,
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="How many rows to show, 1 to 50.")] = 5,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="An HTML file for the same with pictures.")] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    out: Out = "runs",
    as_json: Json = False,
) -> Output:
    """Show what a network will see; train nothing."""
    progress.quiet(as_json)
    seen = deepseek.preview(recipe, overrides=overrides, rows=rows, out=out, output=output)
    return Output(seen, _text(seen, output))


def _text(seen: Mapping[str, Any], output: str | None) -> str:
    splits = ", ".join(f"{count:,} {name}" for name, count in seen["splits"].items())
    batch, network = seen["batch"], seen["network"]
    parts = [f"{seen['name']}: {splits} rows; a batch has {batch['rows']:,}, an epoch {batch['steps_an_epoch']:,} steps"]
    for row in seen["rows"][:2]:
        parts += ["", f"row {row['row']:,}, target coded {row['target']}", _row(row)]
    tensors = [(item["name"], str(item["shape"]), item["dtype"], f"{item['size_bytes']:,} bytes") for item in batch["tensors"]]
    parts += ["", "the first training batch", as_table([("tensor", "shape", "type", "memory"), *tensors])]
    sizes = [(part["part"], part["what"], f"{part['parameters']:,}") for part in network["parts"]]
    parts += ["", "the network", as_table([("part", "class", "parameters"), *sizes, ("all", "", f"{network['parameters']:,}")])]
    return "\n".join([*parts, *page_line(output)])


def _row(row: Mapping[str, Any]) -> str:
    names = dict.fromkeys([*row["raw"], *row["cleaned"], *row["ready"]])
    lines = [("column", "raw", "cleaned", "as the network meets it")]
    for name in names:
        raw = row["raw"].get(name, "")
        cleaned = row["cleaned"].get(name, raw)
        lines.append((name, _short(raw), "" if cleaned == raw else _short(cleaned), _short(row["ready"].get(name, ""))))
    return as_table(lines)


def _short(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, Mapping):
        value = " ".join(value["tokens"]) if "tokens" in value else f"{value['shape']}, mean {value.get('mean', 0.0):.3f}"
    text = " ".join(str(value).split())
    return shortened(text, _WIDTH)

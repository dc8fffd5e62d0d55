"""`deepseek compress`: a trained model made smaller and faster, and what that costs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Plugins, RunPath
from deepseek.cli.output import Output, as_table


def compress_verb(  # noqa: PLR0913 (what can be said on the command line)
    run: RunPath,
    *,
    precision: Annotated[Literal["int8"], typer.Option(help="The arithmetic.")] = "int8",
    method: Annotated[
        Literal["auto", "static", "dynamic"], typer.Option(help="Ranges measured on training rows, or in each batch.")
    ] = "auto",
    backend: Annotated[Literal["auto", "onnx", "openvino"], typer.Option(help="What runs it; auto keeps the fastest.")] = "auto",
    max_drop: Annotated[float, typer.Option(metavar="PART", help="What the monitored metric may lose; half a point is 0.005.")] = 0.005,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Another key of compress.quantize; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    rows: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Rows that all forms are asked; the run's validation rows where not given.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Rows to measure ranges on; the run's training rows where not given.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes; export/int8 in the run's folder.")
    ] = None,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Bring a model to INT8, and keep the fastest form that loses no more than it may."""
    from deepseek.recipe.overrides import apply_override

    progress.quiet(as_json)
    given: dict[str, Any] = {"precision": precision, "method": method, "backend": backend, "max_drop": max_drop}
    for setting in settings:
        apply_override(given, {}, setting)
    value = deepseek.compress(run, quantize=given, rows=rows, calibrate=calibrate, output=output, plugins=plugins)
    return Output(value, compression_text(value))


def compression_text(value: dict[str, Any]) -> str:
    """Return what was kept and the table of all forms, for people."""
    floats = ", ".join(value["floats"])
    head = [("bundle", value["bundle"]), ("kept", value["chosen"]), ("in float32", floats or f"none of {value['layers']} layers")]
    head += [("left out", f"{name}: {reason}") for name, reason in value["refused"].items()]
    lines: list[tuple[str, ...]] = [("", value["metric"], "other answers", "file", "weights", "1 row", "32 rows", "memory")]
    lines += [
        (
            one["name"],
            f"{one['metric']:.5g}",
            f"{one['flipped']} of {one['rows']}",
            _size(one["bytes"]),
            _size(one["weight_bytes"]),
            f"{one['ms_1']:.3g} ms",
            f"{one['ms_32']:.3g} ms",
            _size(one["peak_memory"]) if one["peak_memory"] else "-",
        )
        for one in value["table"]
    ]
    return "\n".join([as_table(lines), "", as_table(head)])


def _size(count: int) -> str:
    return f"{count / 1e6:.3g} MB" if count >= 1e5 else f"{count / 1e3:.3g} kB"

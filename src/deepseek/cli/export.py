"""`deepseek export`: a trained model for programs and machines without PyTorch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

import deepseek
from deepseek import progress
from deepseek.cli.compress import compression_text
from deepseek.cli.options import Json, Plugins, RunPath
from deepseek.cli.output import Output, as_table


def export_verb(  # noqa: PLR0913 - its arguments are the verb's options
    run: RunPath,
    *,
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="onnx, openvino, tensorrt, torch, or auto: measures which backend is fastest.")
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"] | None,
        typer.Option(help="The arithmetic; fp32 where not given. With auto, int8 is measured with the others.", show_default=False),
    ] = None,
    same_predictions: Annotated[
        bool, typer.Option("--same-predictions", help="With auto: take only what changes no prediction of the rows.")
    ] = False,
    rows: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Rows that both models are asked; the run's validation rows where not given.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes; export/FORMAT in the run's folder.")
    ] = None,
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Export a model, and keep it only where real rows are answered alike."""
    progress.quiet(as_json)
    settings: dict[str, Any] = {} if precision in (None, "int8") else {"precision": precision}
    if same_predictions:
        settings["same_predictions"] = True
    quantize = "int8" if precision == "int8" else None
    value = deepseek.export(run, to={"type": to, **settings}, quantize=quantize, rows=rows, output=output, plugins=plugins)
    return Output(value, compression_text(value) if "table" in value else as_table(_lines(value)))


def _lines(value: dict[str, Any]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [
        ("bundle", value["bundle"]),
        ("backend", f"{value['backend']}, {value['precision']}, {value['bytes'] / 1e6:.2f} MB"),
    ]
    if "parity" in value:
        parity = value["parity"]
        largest = max(parity["largest"].values(), default=0.0)
        lines.append(("agrees", f"{parity['rows']} rows, largest difference {largest:.2g}, {parity['flipped']} other predictions"))
    if "metric" in value:
        metric = value["metric"]
        lines.append((metric["name"], f"{metric['original']:.5g}, exported {metric['exported']:.5g}"))
    lines += [(one["backend"], _speed(one)) for one in value.get("timings", [])]
    return lines + [("left out", f"{name}: {reason}") for name, reason in value.get("refused", {}).items()]


def _speed(timing: dict[str, Any]) -> str:
    sizes = [name.removeprefix("ms_") for name in timing if name.startswith("ms_")]
    return ", ".join(f"{rows} rows {timing[f'ms_{rows}']:.3g} ms ({timing[f'speed_up_{rows}']:.2g}x)" for rows in sizes)

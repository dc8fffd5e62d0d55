"""Compressing a run: every form in INT8 beside those in float32, the fastest that keeps the metric, and what it costs in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from deepseek import progress
from deepseek.artifacts import Bundle
from deepseek.compression.memory import peak_memory
from deepseek.compression.onnx_graph import weight_bytes as onnx_weight_bytes
from deepseek.compression.openvino_int8 import weight_bytes as openvino_weight_bytes
from deepseek.compression.settings import Int8Settings
from deepseek.errors import ExportError, RecipeError
from deepseek.exporters.fastest import SIZES, Timing
from deepseek.exporters.metric import drop_of
from deepseek.exporters.original import Original
from deepseek.exporters.writing import Exported, keep
from deepseek.inference.backends.choice import machine
from deepseek.inference.backends.onnxruntime import ONNX_FILE
from deepseek.inference.backends.openvino import OPENVINO_FILE
from deepseek.inference.backends.signal_stack import keeping_signal_stack
from deepseek.inference.predictor import Predictor
from deepseek.pipeline.export_candidates import (
    arrays_of,
    export_folder,
    float_candidates,
    int8_candidates,
    make,
    require_place,
    timed,
    timing_row,
)
from deepseek.pipeline.export_rows import rows_to_calibrate, rows_to_compare
from deepseek.recipe import QuantizeSection
from deepseek.registry import load_plugin
from deepseek.validation import problems_of

INT8 = "int8"
"""The folder of the compressed bundle among a run's exports."""
Quantize = str | Mapping[str, Any]
"""`int8`, or a mapping with the keys of a recipe's `compress.quantize`."""


@keeping_signal_stack()
def compress(
    run: str | PathLike[str],
    *,
    quantize: Quantize = INT8,
    rows: Any = None,
    calibrate: Any = None,
    output: str | PathLike[str] | None = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Bring a run's model to INT8, and keep the fastest form that loses no more of the monitored metric than it may.

    Ranges of activations are measured on training rows only; what is lost, on validation rows. Where the whole in INT8 loses too much, the
    layers that change the answers most stay in float32.

    Args:
        run: A run's folder or its bundle.
        quantize: `int8`, or a mapping with the keys of a recipe's `compress.quantize`: `method`, `backend`, `calibration_rows`,
            `calibration`, `per_channel`, `max_drop`, `fall_back`.
        rows: The rows that all forms are asked, with the target: a path or a table. The run's validation rows where not given.
        calibrate: The rows on which ranges are measured: a path or a table. The run's training rows where not given.
        output: The compressed bundle's folder; `export/int8` in the run's folder where not given. One that is there is replaced.
        plugins: The files or modules of the plugins that the bundle needs.

    Returns:
        `bundle`, the folder of what was kept; `chosen`, which form that is; `floats`, the layers that stayed in float32; `table`, one row
        for each form with its metric, answers that are others, bytes, times and memory; `refused`: what was not taken, and why. The same
        stands in the bundle's `compression.json`.

    Raises:
        ExportError: Every form loses more than it may; nothing is kept.
        InputError: There are no rows, or the settings are wrong.
        MissingExtraError: The libraries are not installed.
    """
    settings = int8_settings(quantize)
    formats = ("onnx", "openvino") if settings.backend == "auto" else (settings.backend,)
    return compress_to(run, settings=settings, formats=formats, rows=(rows, calibrate), output=output, plugins=plugins)


def compress_to(
    run: str | PathLike[str],
    *,
    settings: Int8Settings,
    formats: Sequence[str],
    spec: Mapping[str, Any] | None = None,
    rows: tuple[Any, Any] = (None, None),
    output: str | PathLike[str] | None = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Do what `compress` does, with checked settings.

    Args:
        run: A run's folder or its bundle.
        settings: How it is brought to INT8.
        formats: The exporters whose float32 forms it is compared with.
        spec: The exporter to take, instead of those that the settings name.
        rows: What to compare and what to calibrate on; the run's own where nothing.
        output: Where it goes.
        plugins: What the bundle needs.
    """
    for plugin in plugins:
        load_plugin(plugin, Path())
    original = original_of(Bundle.open(Path(run)), settings, rows=rows)
    name = INT8 if spec is None else f"{spec['type']}-{INT8}"
    target = Path(output) if output is not None else export_folder(original.bundle) / name
    parent = require_place(target)
    with ExitStack() as stack:
        made, refused = make(original, int8_candidates(settings, spec=spec), parent, stack=stack)
        if not made:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
            raise ExportError(f"nothing in INT8 can be kept: {reasons}", hint="allow more with max_drop, or export in fp32")
        others, more_refused = make(original, float_candidates(formats), parent, stack=stack)
        timings = timed(original, {**others, **made})
        chosen = max((timing for timing in timings if timing.name in made), key=lambda timing: timing.gain).name
        table = _table(original, {**others, **made}, timings, plugins=plugins)
        document = {
            "chosen": chosen,
            "floats": made[chosen].document["int8"]["floats"],
            "layers": made[chosen].document["int8"]["layers"],
            "metric": original.predictor.task.monitor,
            "max_drop": settings.max_drop,
            "calibration_rows": made[chosen].document["int8"]["calibration_rows"],
            "threads": torch.get_num_threads(),
            "machine": machine(),
            "table": table,
            "refused": {**refused, **more_refused},
        }
        kept = keep(made[chosen], target, table=document)
    progress.log(f"kept {chosen} in {kept.path}")
    return {"bundle": str(kept.path), **document}


def original_of(bundle: Bundle, settings: Int8Settings | None, *, rows: tuple[Any, Any] = (None, None)) -> Original:
    """Open a bundle with the rows that its exports are compared, and in INT8 calibrated, on.

    Args:
        bundle: The bundle.
        settings: How it is brought to INT8; nothing where it is not.
        rows: What to compare and what to calibrate on; the run's own where nothing.
    """
    training = None if settings is None else rows_to_calibrate(bundle, rows[1], settings.calibration_rows)
    compared, split = rows_to_compare(bundle, rows[0])
    return Original.of(bundle, compared, training=training, split=split)


def int8_settings(quantize: Quantize | QuantizeSection) -> Int8Settings:
    """Return checked settings.

    Args:
        quantize: `int8`, a mapping of settings, or a recipe's section.

    Raises:
        RecipeError: A key or a value is none that a recipe could hold.
    """
    if not isinstance(quantize, QuantizeSection):
        given: dict[str, Any] = {"precision": quantize} if isinstance(quantize, str) else dict(quantize)
        try:
            quantize = QuantizeSection.model_validate(given)
        except ValidationError as error:
            raise RecipeError(problems_of(error, QuantizeSection, given, what="quantize")) from None
    return Int8Settings(**quantize.model_dump(exclude={"precision"}))


def _table(original: Original, made: Mapping[str, Exported], timings: Iterable[Timing], *, plugins: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row for PyTorch and for each form."""
    arrays, times = arrays_of(original, max(SIZES)), {timing.name: timing_row(timing) for timing in timings}
    rows = [
        {
            **_first(original),
            **_measures(times["torch"]),
            "peak_memory": peak_memory(original.bundle, "torch", arrays, plugins=plugins),
        }
    ]
    for name, one in made.items():
        backend = one.document["backend"]
        drop = one.document.get("metric") or drop_of(original, Predictor.load(one.bundle.path, backend=backend), allowed=0.0)
        rows.append(
            {
                "name": name,
                "precision": one.document["precision"],
                "metric": drop["exported"],
                "lost": drop["lost"],
                "flipped": one.parity.flipped,
                "rows": one.parity.rows,
                "bytes": sum(one.bundle.file(file).stat().st_size for file in one.files),
                "weight_bytes": _weight_bytes(one.bundle),
                **_measures(times[name]),
                "peak_memory": peak_memory(one.bundle, backend, arrays, plugins=plugins),
            }
        )
    return rows


def _first(original: Original) -> dict[str, Any]:
    size = original.bundle.file("weights.safetensors").stat().st_size
    counted = sum(batch.num_rows for batch in original.batches())
    return {
        "name": "torch",
        "precision": "fp32",
        "metric": original.metric,
        "lost": 0.0,
        "flipped": 0,
        "rows": counted,
        "bytes": size,
        "weight_bytes": size,
    }


def _weight_bytes(bundle: Bundle) -> int:
    files = bundle.manifest["files"]
    return openvino_weight_bytes(bundle.file(OPENVINO_FILE)) if OPENVINO_FILE in files else onnx_weight_bytes(bundle.file(ONNX_FILE))


def _measures(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "backend"}

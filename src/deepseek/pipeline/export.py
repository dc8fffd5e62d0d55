"""Exporting a run: real rows out of its own data, the formats asked for, and which of them is fastest here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from deepseek import progress
from deepseek.artifacts import Bundle, export_name
from deepseek.compression.settings import Int8Settings
from deepseek.errors import InputError, UnknownNameError
from deepseek.exporters.base import Exporter
from deepseek.exporters.export import exported
from deepseek.exporters.fastest import fastest
from deepseek.exporters.original import Original, require_original
from deepseek.exporters.writing import Exported, document_of, keep, replace_bundle
from deepseek.inference.backends.choice import MEASURED, machine
from deepseek.inference.backends.signal_stack import keeping_signal_stack
from deepseek.pipeline.compress import INT8, Quantize, compress_to, int8_settings, original_of
from deepseek.pipeline.export_candidates import export_folder, float_candidates, int8_candidates, make, require_place, timed, timing_row
from deepseek.recipe import QuantizeSection
from deepseek.registry import Spec, family, load_plugin, split_spec

SAME = "same_predictions"
"""The setting of `auto` by which only those forms are taken that change no prediction."""


@keeping_signal_stack()
def export(
    run: str | PathLike[str],
    *,
    to: Spec = "onnx",
    quantize: Quantize | None = None,
    rows: Any = None,
    calibrate: Any = None,
    output: str | PathLike[str] | None = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Export a run's model, and keep it only where real rows are answered alike.

    Graph transforms, network and decoding become one graph; what happens to strings, times and images before it stands as JSON beside it.
    The exported bundle is opened like any other: `deepseek.load`, `deepseek predict`, without PyTorch.

    Args:
        run: A run's folder or its bundle.
        to: `onnx`, `openvino`, `tensorrt`, `torch`, a mapping with the `type` and its settings (`{"type": "openvino", "precision":
            "bf16"}`), or `auto`, which measures PyTorch and every export that agrees with it, and keeps the fastest (`{"type": "auto",
            "same_predictions": True}`: of those that change no prediction of the rows).
        quantize: `int8`, or a mapping of the settings that `compress` takes: the format in INT8; for `auto`, INT8 is measured with the
            others.
        rows: The rows that both are asked: a path or a table, with the target where the precision is not float32. The run's own validation
            rows where not given.
        calibrate: The rows on which ranges are measured in INT8; the run's training rows where not given.
        output: The exported bundle's folder; `export/FORMAT` in the run's folder where not given, in fewer bits `export/FORMAT-PRECISION`.
            One that is there is replaced.
        plugins: The files or modules of the plugins that the bundle needs.

    Returns:
        `bundle`, the exported bundle's folder; `backend`, what runs it; `precision`; `parity`, how far the answers lie apart, on how many
        rows, and how many predictions are others; for `auto` also `timings`, and `refused`: what could not be taken, and why. In INT8 what
        `compress` returns.

    Raises:
        ExportError: It cannot be exported, or answers otherwise; nothing is left behind.
        InputError: There are no rows to compare on.
        MissingExtraError: The format's libraries are not installed.
    """
    for plugin in plugins:
        load_plugin(plugin, Path())
    bundle = Bundle.open(Path(run))
    require_original(bundle)
    spec = _spec(to, quantized=quantize is not None)
    settings = int8_settings(quantize or INT8) if quantize is not None or spec.get("precision") == INT8 else None
    if spec["type"] == MEASURED:
        target = Path(output) if output is not None else export_folder(bundle) / MEASURED
        require_place(target)
        return _measured(original_of(bundle, settings, rows=(rows, calibrate)), target, settings, same=spec[SAME])
    if settings is not None:
        formats = [spec["type"]] if spec["type"] in {"onnx", "openvino"} else ["onnx"]
        return compress_to(run, settings=settings, formats=formats, spec=spec, rows=(rows, calibrate), output=output, plugins=plugins)
    target = Path(output) if output is not None else export_folder(bundle) / export_name(spec)
    parent = require_place(target)
    original = original_of(bundle, None, rows=(rows, None))
    exporter: Exporter = family("exporter").build(spec)
    progress.log(f"exporting {bundle.path} to {spec['type']}")
    with exported(original, exporter, parent) as made:
        return _said(keep(made, target), made.document)


def require_exporters(specs: Iterable[Spec]) -> None:
    """Check, before anything is trained, that a recipe's exports could be written.

    Args:
        specs: What a recipe has under `export`.

    Raises:
        MissingExtraError: A library is not installed.
    """
    for spec in specs:
        if spec != MEASURED:  # what cannot be written is left out of what is measured
            exporter: Exporter = family("exporter").build(spec)
            exporter.require_libraries()


def require_compression(section: QuantizeSection) -> None:
    """Check, before anything is trained, that a recipe's compression could be done.

    Args:
        section: What a recipe has under `compress.quantize`.

    Raises:
        MissingExtraError: A library is not installed.
    """
    for candidate in int8_candidates(int8_settings(section)):
        exporter: Exporter = family("exporter").build(candidate.spec)
        exporter.require_libraries()


def _spec(to: Spec, *, quantized: bool) -> dict[str, Any]:
    """Return the exporter's spec, whole; of `auto` its name alone."""
    registry = family("exporter")
    name, arguments = split_spec("exporter", to)
    if name == MEASURED:
        if set(arguments) - {SAME} or arguments.get(SAME, True) not in (True, False):
            hint = "it tries every precision that the processor has"
            raise InputError(f"'auto' takes no settings but {SAME}, true or false; given: {dict(arguments)!r}", hint=hint)
        return {"type": MEASURED, SAME: bool(arguments.get(SAME, False))}
    if name not in registry.names():
        raise UnknownNameError("format of exports", name, [*registry.names(), MEASURED])
    if quantized and "precision" not in registry.schema(name).model_fields:
        raise InputError(f"the format {name!r} has no INT8", hint="export to onnx, openvino or tensorrt")
    return registry.validate({"type": name, **arguments, **({"precision": INT8} if quantized else {})})


def _measured(original: Original, target: Path, settings: Int8Settings | None, *, same: bool) -> dict[str, Any]:
    """Export in every way there is, measure those that agree (or that change no prediction), and keep the fastest."""
    candidates = [*float_candidates(), *(int8_candidates(settings) if settings is not None else [])]
    with ExitStack() as stack:
        made, refused = make(original, candidates, require_place(target), stack=stack)
        if same:
            others = {name: why for name, one in made.items() if (why := _other_answers(original, one))}
            made, refused = {name: one for name, one in made.items() if name not in others}, refused | others
        timings = timed(original, made)
        best = fastest(timings)
        more = {
            "timings": [timing_row(timing) for timing in timings],
            "refused": refused,
            "threads": torch.get_num_threads(),
            "machine": machine(),
            "chosen": best.name,
        }
        if best.name in made:
            return _said(keep(made[best.name], target, more), {**made[best.name].document, **more})
    document = {**document_of(original, backend="torch", precision="fp32"), **more}
    bundle = replace_bundle(target, original.bundle, document=document, files=("model.json", "weights.safetensors"))
    return _said(bundle, document)


def _other_answers(original: Original, made: Exported) -> str:
    """Return why an export is not taken where no prediction may change, or nothing."""
    if made.document["precision"] != "fp32" and original.predictor.task.kind == "values":
        return f"a number in {made.document['precision']} is another number"
    return f"{made.parity.flipped} of {made.parity.rows} predictions are others" if made.parity.flipped else ""


def _said(bundle: Bundle, document: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("backend", "precision", "parity", "metric", "timings", "refused", "threads", "chosen")
    sizes = sum(bundle.file(name).stat().st_size for name in bundle.manifest["files"])
    return {"bundle": str(bundle.path), **{name: document[name] for name in kept if name in document}, "bytes": sizes}

"""Exporting a run: real rows out of its own data, the formats asked for, and which of them is fastest here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek import progress
from deepseek.artifacts import Bundle, RunFolder
from deepseek.data.landing import LandedTable
from deepseek.data.sources import open_source
from deepseek.data.sources.base import rooted_batches
from deepseek.errors import BundleError, DataError, ExportError, InputError, MissingExtraError, UnknownNameError
from deepseek.exporters.base import Exporter
from deepseek.exporters.export import Exported, Original, exported, keep, replace_bundle, require_original
from deepseek.exporters.fastest import SIZES, Timing, fastest, time_backends
from deepseek.inference.backends.base import Backend
from deepseek.inference.backends.choice import MEASURED, identity_of, machine
from deepseek.inference.backends.signal_stack import keeping_signal_stack
from deepseek.inference.predictor import Predictor
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.pipeline.analysis.predictions import sample_of
from deepseek.pipeline.sources import source_changed
from deepseek.registry import Spec, family, load_plugin, split_spec

MOST_ROWS = 2000
"""The most rows that an export is compared on."""
_BATCH_ROWS = 256
_ROWS = "give rows to compare on with --rows FILE"


@keeping_signal_stack()
def export(
    run: str | PathLike[str], *, to: Spec = "onnx", rows: Any = None, out: str | PathLike[str] | None = None, plugins: Sequence[str] = ()
) -> dict[str, Any]:
    """Export a run's model, and keep it only where real rows are answered alike.

    Graph transforms, network and decoding become one graph; what happens to strings, times and images before it stands as JSON beside it.
    The exported bundle is opened like any other: `deepseek.load`, `deepseek predict`, without PyTorch.

    Args:
        run: A run's folder or its bundle.
        to: `onnx`, `openvino`, a mapping with the `type` and its settings (`{"type": "openvino", "precision": "bf16"}`), or `auto`, which
            measures PyTorch and every export that agrees with it, and keeps the fastest.
        rows: The rows that both are asked: a path or a table, with the target where the precision is not float32. The run's own validation
            rows where not given.
        out: The exported bundle's folder; `export/FORMAT` in the run's folder where not given. One that is there is replaced.
        plugins: The files or modules of the plugins that the bundle needs.

    Returns:
        `bundle`, the exported bundle's folder; `backend`, what runs it; `precision`; `parity`, how far the answers lie apart, on how many
        rows, and how many predictions are others; for `auto` also `timings`, and `refused`: what could not be taken, and why.

    Raises:
        ExportError: It cannot be exported, or answers otherwise; nothing is left behind.
        InputError: There are no rows to compare on.
        MissingExtraError: The format's libraries are not installed.
    """
    for plugin in plugins:
        load_plugin(plugin, Path())
    bundle = Bundle.open(Path(run))
    require_original(bundle)
    original = Original.of(bundle, _rows_of(bundle, rows))
    name = to if isinstance(to, str) else split_spec("exporter", to)[0]
    if name == "torch":
        what = "a file of torch.export is opened with pickle, and its sizes are evaluated as Python: it could run anything"
        raise InputError(what, hint="the run's bundle itself is the form for PyTorch; export to onnx or openvino for other programs")
    target = Path(out) if out is not None else _folder_of(bundle) / name
    if target.exists() and not (target / "manifest.json").is_file():
        raise InputError(f"{str(target)!r} is there, and is no bundle", hint="name another folder with --out")
    if name == MEASURED:
        if not isinstance(to, str):
            raise InputError(f"'auto' takes no settings; given: {dict(to)!r}", hint="it tries every precision that the processor has")
        return _measured(original, target)
    if name not in family("exporter").names():
        raise UnknownNameError("format of exports", name, [*family("exporter").names(), MEASURED])
    exporter: Exporter = family("exporter").build(to)
    progress.log(f"exporting {bundle.path} to {name}")
    with exported(original, exporter, _parent(target)) as made:
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


def _measured(original: Original, target: Path) -> dict[str, Any]:
    """Export in every way there is, measure those that agree, and keep the fastest."""
    made: dict[str, Exported] = {}
    refused: dict[str, str] = {}
    with ExitStack() as stack:
        for name, spec in _candidates():
            progress.log(f"trying {name}")
            try:
                exporter: Exporter = family("exporter").build(spec)
                made[name] = stack.enter_context(exported(original, exporter, _parent(target)))
            except (ExportError, MissingExtraError, InputError) as error:
                refused[name] = error.message
        threads = torch.get_num_threads()
        backends: dict[str, Backend] = {"torch": original.predictor.backend}
        for name, one in made.items():
            backends[name] = family("backend").build({"type": one.document["backend"], "threads": threads}, one.bundle)
        timings = time_backends(backends, {rows: _arrays(original, rows) for rows in SIZES})
        best = fastest(timings)
        more = {
            "timings": [_row(timing) for timing in timings],
            "refused": refused,
            "threads": threads,
            "machine": machine(),
            "chosen": best.name,
        }
        if best.name in made:
            return _said(keep(made[best.name], target, more), {**made[best.name].document, **more})
    document = {
        "backend": "torch",
        "precision": "fp32",
        "outputs": list(original.graph.outputs),
        "origin": identity_of(original.bundle),
        **more,
    }
    bundle = replace_bundle(target, original.bundle, document=document, files=("model.json", "weights.safetensors"))
    return _said(bundle, document)


def _candidates() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = [("onnxruntime", {"type": "onnx"}), ("openvino", {"type": "openvino"})]
    if any(unit in machine().split() for unit in ("amx_bf16", "avx512_bf16")):
        found.append(("openvino bf16", {"type": "openvino", "precision": "bf16"}))
    return found


def _arrays(original: Original, rows: int) -> dict[str, np.ndarray]:
    """Return so many prepared rows; the first ones again where there are fewer."""
    batches = [batch for batch in original.batches() if batch.num_rows]
    whole = pa.Table.from_batches(batches)
    taken = whole.take(pa.array(np.arange(rows) % whole.num_rows)).combine_chunks().to_batches()[0]
    return original.predictor.arrays(taken)


def _rows_of(bundle: Bundle, rows: Any) -> Callable[[], Iterator[pa.RecordBatch]]:
    """Return what gives the rows to compare on, from their beginning."""
    if rows is None:
        return _own_rows(bundle)
    predictor = Predictor.load(bundle.path, backend="torch")
    source = open_source(rows).as_text(predictor.preparation.text_columns)
    predictor.require_columns(source.schema().names)

    def batches() -> Iterator[pa.RecordBatch]:
        left = MOST_ROWS
        for batch in rooted_batches(source.read(batch_rows=_BATCH_ROWS), source.root):
            yield batch.slice(0, left)
            left -= batch.num_rows
            if left <= 0:
                return

    return batches


def _own_rows(bundle: Bundle) -> Callable[[], Iterator[pa.RecordBatch]]:
    """Return what gives the validation rows of a bundle's run as they were read; training rows where there are no others."""
    try:
        run = FinishedRun.open(bundle.path)
    except BundleError:
        raise InputError(f"{bundle.path} belongs to no run, whose validation rows could be asked", hint=_ROWS) from None
    try:
        if source_changed(run.recipe, run.data):
            raise InputError("the source has changed since the run", hint=_ROWS)
        dataset = run.dataset()
    except DataError as error:
        raise InputError(f"the rows of the run cannot be had here: {error.message}", hint=_ROWS) from error
    split = next(name for name in ("validation", "test", "train") if dataset.open(name) is not None)
    data = dataset.open(split)
    assert data is not None
    places = sample_of(len(data), MOST_ROWS, run.recipe.seed)
    numbers = places if data.source_rows is None else np.asarray(data.source_rows[places], dtype=np.int64)
    table = LandedTable.open(dataset.landed["test" if split == "test" and "test" in dataset.landed else "source"])
    return lambda: table.batches(rows=np.sort(numbers), batch_rows=_BATCH_ROWS)


def _folder_of(bundle: Bundle) -> Path:
    if not (bundle.path.parent / "recipe.yaml").is_file():
        raise InputError(f"{bundle.path} belongs to no run, beside which the export could stand", hint="name a folder with --out")
    return RunFolder(bundle.path.parent).export


def _parent(target: Path) -> Path:
    """Return the folder in which a hidden folder can be made that is renamed to the target."""
    return target.absolute().parent


def _row(timing: Timing) -> dict[str, Any]:
    return {
        "backend": timing.name,
        **{f"ms_{rows}": 1000 * seconds for rows, seconds in timing.seconds.items()},
        **{f"speed_up_{rows}": value for rows, value in timing.speed_up.items()},
    }


def _said(bundle: Bundle, document: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("backend", "precision", "parity", "metric", "timings", "refused", "threads", "chosen")
    sizes = sum(bundle.file(name).stat().st_size for name in bundle.manifest["files"])
    return {"bundle": str(bundle.path), **{name: document[name] for name in kept if name in document}, "bytes": sizes}

"""From a bundle to an exported one: written, compared with the original, and kept only where it answers alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from deepseek.artifacts import Bundle, plain_disk_errors, write_bundle
from deepseek.errors import ExportError, InputError
from deepseek.exporters.base import AnswerGraph, Exporter
from deepseek.exporters.parity import TOLERANCE, Parity, compare, require_parity
from deepseek.inference.backends.choice import identity_of
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.evaluation import measure_batches
from deepseek.inference.predictor import Predictor
from deepseek.inference.reading import EXPORT

MAX_DROP: Mapping[str, float] = {"bf16": 0.001, "int8": 0.005}
"""How much of a metric an export in fewer bits may lose: a tenth and a half of a point; of a metric without bound, of its value."""
_KEPT = ("schema.json", "data.json", "task.json", "metrics.json", "environment.json")


@dataclass(frozen=True)
class Exported:
    """An exported bundle and how it compares with the original.

    Attributes:
        bundle: The opened bundle.
        parity: How far the answers lie apart.
        document: Its `export.json`.
    """

    bundle: Bundle
    parity: Parity
    document: dict[str, Any]


@dataclass(frozen=True)
class Original:
    """What is exported, with rows to compare on.

    Attributes:
        predictor: The original, in PyTorch.
        batches: Gives the rows from their beginning.
        graph: What is exported of it.
    """

    predictor: Predictor
    batches: Callable[[], Iterator[pa.RecordBatch]]
    graph: AnswerGraph

    @classmethod
    def of(cls, bundle: Bundle, batches: Callable[[], Iterator[pa.RecordBatch]]) -> Original:
        """Open a bundle in PyTorch; raises as `require_original` does."""
        require_original(bundle)
        backend = TorchBackend(bundle)
        predictor = Predictor(bundle, backend)
        return cls(predictor, batches, AnswerGraph(backend.model, predictor.preparation.inputs))

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        return self.predictor.bundle


def require_original(bundle: Bundle) -> None:
    """Check that a bundle holds the network itself.

    Raises:
        InputError: It is an export.
    """
    if EXPORT in bundle.manifest["files"]:
        raise InputError(f"{bundle.path} is an export itself", hint="export the run that it was made from")


@contextmanager
def exported(original: Original, exporter: Exporter, folder: Path) -> Iterator[Exported]:
    """Write an exported bundle into a hidden folder, compare it with the original, and take it away when the block ends.

    Args:
        original: What is exported.
        exporter: What writes it.
        folder: The folder in which the hidden one is made.

    Raises:
        ExportError: It cannot be written, or answers otherwise than the original.
    """
    hidden = folder / f".export-{uuid4().hex}"
    document: dict[str, Any] = {
        "backend": exporter.backend,
        "precision": exporter.precision,
        "outputs": list(original.graph.outputs),
        "origin": identity_of(original.bundle),
    }
    try:
        with write_bundle(hidden, _documents(original.bundle, document), plugins=original.bundle.manifest["plugins"]) as target:
            exporter.write(original.graph, target)
        bundle = Bundle.open(hidden)
        candidate = Predictor.load(bundle.path, backend=exporter.backend)
        parity = compare(original.predictor, candidate, original.batches())
        document["parity"] = parity.to_json()
        if exporter.precision == "fp32":
            document["tolerance"] = TOLERANCE
            require_parity(parity)
        else:
            document["metric"] = require_metric(original, candidate, exporter.precision)
        yield Exported(bundle, parity, document)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def keep(made: Exported, target: Path, more: Mapping[str, Any] | None = None) -> Bundle:
    """Keep an exported bundle; one that stands there already is replaced in one step.

    Args:
        made: What was exported and compared.
        target: Its folder.
        more: What else its `export.json` says.
    """
    files = [name for name in made.bundle.manifest["files"] if name not in (*_KEPT, EXPORT)]
    return replace_bundle(target, made.bundle, document={**made.document, **(more or {})}, files=files)


def replace_bundle(target: Path, source: Bundle, *, document: Mapping[str, Any], files: Sequence[str]) -> Bundle:
    """Write a bundle with the documents and some files of another one, in the place of whatever stands there.

    Args:
        target: Its folder.
        source: Where documents and files come from.
        document: Its `export.json`.
        files: The files besides the documents.

    Raises:
        RunError: It cannot be written; what stood there is as it was.
    """
    fresh, old = (target.with_name(f".{target.name}.{uuid4().hex}") for _ in range(2))
    try:
        with write_bundle(fresh, _documents(source, document), plugins=source.manifest["plugins"]) as folder, plain_disk_errors(target):
            for name in files:
                shutil.copyfile(source.file(name), folder / name)
        with plain_disk_errors(target):
            if target.exists():
                target.rename(old)
            fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return Bundle.open(target)


def require_metric(original: Original, candidate: Predictor, precision: str) -> dict[str, Any]:
    """Return the monitored metric of both, and refuse a candidate that lost more of it than its precision may.

    Args:
        original: What was exported.
        candidate: The export.
        precision: The type of its arithmetic.

    Raises:
        ExportError: It lost more.
        InputError: The rows have no target to measure by.
    """
    task = original.predictor.task
    metric = task.metrics()[task.monitor]
    both = [
        measure_batches(one.backend, task, one.preparation, tables=original.batches())["metrics"][task.monitor]
        for one in (original.predictor, candidate)
    ]
    bounded = task.target.kind != "values"
    lost = (both[0] - both[1] if metric.higher_is_better else both[1] - both[0]) / (1.0 if bounded else max(abs(both[0]), 1e-12))
    if not lost <= MAX_DROP[precision]:
        raise ExportError(
            f"in {precision} {task.monitor} goes from {both[0]:.5g} to {both[1]:.5g}, which is {100 * lost:.3g} points; allowed are "
            f"{100 * MAX_DROP[precision]:g}",
            hint="nothing was kept; export in fp32, or measure on more rows: of few, one changed answer is a larger part",
        )
    return {"name": task.monitor, "original": both[0], "exported": both[1], "lost": lost, "allowed": MAX_DROP[precision]}


def _documents(bundle: Bundle, document: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: bundle.read(name) for name in _KEPT}, EXPORT: dict(document)}

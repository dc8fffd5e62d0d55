"""From a bundle to an exported one: written, compared with the original, and kept only where it answers alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepseek.artifacts import Bundle
from deepseek.compression.settings import Int8Settings
from deepseek.exporters.base import Exporter
from deepseek.exporters.int8 import exported_int8
from deepseek.exporters.metric import require_metric
from deepseek.exporters.original import Original
from deepseek.exporters.parity import TOLERANCE, Parity, compare, require_parity
from deepseek.exporters.writing import Exported, document_of, hidden_bundle


@contextmanager
def exported(original: Original, exporter: Exporter, folder: Path, *, int8: Int8Settings | None = None) -> Iterator[Exported]:
    """Write an exported bundle into a hidden folder, compare it with the original, and take it away when the block ends.

    Args:
        original: What is exported.
        exporter: What writes it.
        folder: The folder in which the hidden one is made.
        int8: How it is brought to INT8, where the exporter's precision is that; with the defaults where not given.

    Raises:
        ExportError: It cannot be written, or answers otherwise than the original.
    """
    if exporter.precision == "int8":
        with exported_int8(original, exporter, folder, settings=int8 or Int8Settings()) as made:
            yield made
        return
    document = document_of(original, backend=exporter.backend, precision=exporter.precision)

    def write(target: Path) -> None:
        exporter.write(original.graph, target)
        document.update(exporter.check(target))

    with hidden_bundle(original, folder, document=document, write=write, copies=exporter.copies) as bundle:
        yield Exported(bundle, _judged(original, exporter, bundle, document), document)


def _judged(original: Original, exporter: Exporter, bundle: Bundle, document: dict[str, Any]) -> Parity:
    """Compare what was exported with the original, note in the document how they agree, and forget the loaded network."""
    candidate = exporter.candidate(bundle)
    parity = compare(original.predictor, candidate, original.batches())
    document["parity"] = parity.to_json()
    if exporter.precision == "fp32":
        document["tolerance"] = TOLERANCE
        require_parity(parity)
    else:
        document["metric"] = require_metric(original, candidate, exporter.precision)
    return parity

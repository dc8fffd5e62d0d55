"""What compressing a run cost and gained, as `deepseek compress` and INT8 exports noted it beside what they kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepseek.artifacts import Bundle
from deepseek.errors import DeepSeekError
from deepseek.exporters.writing import COMPRESSION
from deepseek.inference.backends.choice import identity_of
from deepseek.inference.reading import read_export
from deepseek.reporting.facts import CompressionFacts, FormFact


def compression_facts(bundle: Bundle, exports: Path) -> tuple[list[CompressionFacts], list[str]]:
    """Return the tables of all that was compressed, and what cannot be told of them, with its reason.

    Args:
        bundle: The run's own bundle.
        exports: The folder with its exports.
    """
    found: list[CompressionFacts] = []
    missing: list[str] = []
    origin = identity_of(bundle)
    for path in sorted(exports.glob(f"*/{COMPRESSION}")):
        try:
            compressed = Bundle.open(path.parent)
            if read_export(compressed).origin != origin:
                missing.append(f"{path.parent} was compressed from another model than the run's: its figures are left out")
                continue
            found.append(_facts(path.parent, compressed.read(COMPRESSION)))
        except DeepSeekError as error:
            missing.append(f"what compressing cost cannot be told: {error.message}")
    return found, missing


def _facts(folder: Path, document: Mapping[str, Any]) -> CompressionFacts:
    return CompressionFacts(
        folder=str(folder),
        metric=document["metric"],
        max_drop=document["max_drop"],
        kept=document["chosen"],
        floats=document["floats"],
        layers=document["layers"],
        machine=document["machine"],
        threads=document["threads"],
        forms=[_form(row) for row in document["table"]],
        refused=document["refused"],
    )


def _form(row: Mapping[str, Any]) -> FormFact:
    return FormFact(
        name=row["name"],
        metric=row["metric"],
        lost=row["lost"],
        others=row["flipped"],
        rows=row["rows"],
        size_bytes=row["bytes"],
        weight_bytes=row["weight_bytes"],
        one_s=row["ms_1"] / 1000,
        many_s=row["ms_32"] / 1000,
        memory_bytes=row["peak_memory"],
    )

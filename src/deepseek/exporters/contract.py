"""Public tests of exporters: derive a test class from `ExporterContract`, and pytest checks that your exporter keeps its contract.

```python
class TestMyExporter(ExporterContract):
    def build(self) -> Exporter:
        return MyExporter()
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.artifacts import Bundle
from deepseek.compression.settings import Int8Settings
from deepseek.data.preparation import Preparation
from deepseek.errors import ExportError
from deepseek.exporters.base import AnswerGraph, Exporter
from deepseek.exporters.export import exported
from deepseek.exporters.original import Original
from deepseek.exporters.writing import keep
from deepseek.fields import Field, Kind, Schema
from deepseek.inference.backends.torch import build_model
from deepseek.inference.predictor import Predictor
from deepseek.inference.saving import save_bundle
from deepseek.registry import family

ROWS = 24
MODEL: dict[str, Any] = {
    "type": "network",
    "encoders": {"table": {"type": "table", "numbers": "identity"}, "text": {"type": "text_cnn", "filters": 4}},
    "trunk": {"type": "mlp", "width": 8, "depth": 1},
}


def rows() -> pa.RecordBatch:
    """Return rows with numbers, categories, texts and gaps, and two classes."""
    draw = np.random.default_rng(0)
    words = np.array(["good", "bad", "film", "story", "a", "the"])
    return pa.record_batch(
        {
            "a size": pa.array([None if place % 7 == 0 else float(value) for place, value in enumerate(draw.normal(size=ROWS))]),
            "kind": pa.array([None if place % 9 == 0 else "xyz"[place % 3] for place in range(ROWS)]),
            "text": pa.array([" ".join(draw.choice(words, 1 + place % 5)) for place in range(ROWS)]),
            "label": pa.array(["no", "yes"] * (ROWS // 2)),
        }
    )


def original_in(
    folder: Path,
    model: dict[str, Any] = MODEL,
    *,
    batch: pa.RecordBatch | None = None,
    schema: Schema | None = None,
    transforms: dict[str, Any] | None = None,
) -> Original:
    """Return an untrained network as a bundle, with the rows that it was fitted on.

    Args:
        folder: Where the bundle goes, as `bundle`.
        model: The model's spec.
        batch: The rows; those of `rows` where not given.
        schema: What their columns are.
        transforms: The transforms that are not the usual ones, by column or kind.
    """
    batch = rows() if batch is None else batch
    fields = (Field("a size", Kind.NUMBER), Field("kind", Kind.CATEGORY), Field("text", Kind.TEXT), Field("label", Kind.BINARY))
    schema = schema or Schema(fields, ("label",))
    preparation = Preparation(schema, transforms=transforms, target="binary").fit(lambda: iter([batch]))
    torch.manual_seed(0)
    spec = family("model").validate(model)
    save_bundle(folder / "bundle", build_model(preparation, spec, {"type": "binary"}), preparation, model=spec, task={"type": "binary"})
    return Original.of(Bundle.open(folder / "bundle"), lambda: iter([batch]), training=lambda: iter([batch]))


class Spoiled(Exporter):
    """Writes what another exporter writes, of a network that is changed behind its back: as an exporter that writes something else.

    Args:
        exporter: The other exporter.
    """

    def __init__(self, exporter: Exporter, /) -> None:
        self._exporter = exporter
        self.backend = exporter.backend  # type: ignore[misc]
        self.copies = exporter.copies  # type: ignore[misc]
        self.precision = exporter.precision

    def write(self, graph: AnswerGraph, folder: Path) -> None:
        """Change the network, then write the files."""
        with torch.no_grad():
            for parameter in graph.model.head.parameters():
                parameter.copy_(torch.linspace(-3, 3, parameter.numel()).reshape(parameter.shape))
        self._exporter.write(graph, folder)

    def candidate(self, bundle: Bundle) -> Predictor:
        """Return what answers with what the other exporter wrote."""
        return self._exporter.candidate(bundle)


class ExporterContract(ABC):
    """What every exporter must do."""

    @abstractmethod
    def build(self) -> Exporter:
        """Return an exporter."""

    def test_its_backend_runs_what_it_writes(self, tmp_path: Path) -> None:
        """The bundle has a file that the backend runs, and answers any number of rows as the network does."""
        original, exporter = original_in(tmp_path), self.build()
        with exported(original, exporter, tmp_path, int8=Int8Settings(max_drop=1.0)) as made:  # an untrained network has no metric to lose
            assert set(family("backend").get(exporter.backend).files) & set(made.bundle.manifest["files"])
            assert exporter.precision != "fp32" or made.parity.difference <= 1e-4
            assert {"rows alone", "no rows", "missing values", "values never seen", "the longest text"} <= set(made.parity.cases)
            kept = keep(made, tmp_path / "kept")
        predictor, batch = Predictor.load(kept.path), rows()
        for size in (0, 1, ROWS):
            assert predictor.answer(batch.slice(0, size)).num_rows == size

    def test_another_network_is_refused_and_nothing_is_left(self, tmp_path: Path) -> None:
        """Where the answers are others, the export fails and its files are gone."""
        original = original_in(tmp_path)
        exporter = Spoiled(self.build())
        if exporter.precision != "fp32":
            return  # measured by metric, of which an untrained network has none to lose
        with pytest.raises(ExportError, match="worst row"), exported(original, exporter, tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]

    def test_the_same_network_gives_the_same_files(self, tmp_path: Path) -> None:
        """Exporting twice gives the same bytes: what a bundle is can be told by its hash."""
        hashes = []
        for name in ("first", "second"):
            with exported(original_in(tmp_path / name), self.build(), tmp_path, int8=Int8Settings(max_drop=1.0)) as made:
                hashes.append({file: value for file, value in made.bundle.manifest["files"].items() if file.startswith("model.")})
        assert hashes[0] == hashes[1]

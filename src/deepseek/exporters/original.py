"""What is exported: a bundle's network, with rows to compare and to calibrate on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import Bundle
from deepseek.compression.calibration import Calibration
from deepseek.errors import InputError
from deepseek.exporters.base import AnswerGraph
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.evaluation import measure_batches
from deepseek.inference.predictor import Predictor
from deepseek.inference.reading import EXPORT

Rows = Callable[[], Iterator[pa.RecordBatch]]
"""Gives rows from their beginning."""
_NO_VALIDATION = {
    "test": "what an export loses is measured on its test rows, and so they have a say in what is kept",
    "train": "what an export loses is measured on rows that it was trained on, and may be more on others",
}


@dataclass(frozen=True)
class Original:
    """What is exported, with rows to compare on.

    Attributes:
        predictor: The original, in PyTorch.
        batches: Gives the rows that both are asked, from their beginning.
        graph: What is exported of it.
        training: Gives rows that it was trained on, where an export has to measure ranges.
        split: Which rows of its run `batches` gives: `validation`, or in default of these `test` or `train`; nothing for others.
    """

    predictor: Predictor
    batches: Rows
    graph: AnswerGraph
    training: Rows | None = None
    split: str | None = None

    @classmethod
    def of(cls, bundle: Bundle, batches: Rows, *, training: Rows | None = None, split: str | None = None) -> Original:
        """Open a bundle in PyTorch; raises as `require_original` does."""
        require_original(bundle)
        if bundle.read("task.json")["type"] == "language_modelling":
            raise InputError(
                "a language model is not exported: it writes with what it has kept of the tokens before",
                hint="let it write in PyTorch: deepseek generate; its vectors can be exported: deepseek embed --bundle FOLDER",
            )
        backend = TorchBackend(bundle)
        predictor = Predictor(bundle, backend)
        return cls(predictor, batches, AnswerGraph(backend.model, predictor.preparation.inputs), training, split)

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        return self.predictor.bundle

    @cached_property
    def metric(self) -> float:
        """The metric that the task is monitored by, on the rows; where those are no validation rows of the run, that is told once."""
        if self.split in _NO_VALIDATION:
            progress.warn(f"the run has no validation rows: {_NO_VALIDATION[self.split]}; others are named with --rows FILE")
        return self.metric_of(self.predictor)

    def metric_of(self, predictor: Predictor) -> float:
        """Return the monitored metric of another form of the model, on the same rows; raises `InputError` where they have no target."""
        task = self.predictor.task
        measured = measure_batches(predictor.backend, task, predictor.preparation, tables=self.batches())
        return float(measured["metrics"][task.monitor])

    def calibration(self, rows: int) -> Calibration:
        """Return so many training rows as the network is given them.

        Raises:
            InputError: There are none.
        """
        if self.training is None:
            raise InputError(
                "ranges are measured on training rows, and none are given", hint="give them: deepseek compress --calibrate FILE"
            )
        return Calibration.of(self.training(), self.predictor.arrays, most=rows)


def require_original(bundle: Bundle) -> None:
    """Check that a bundle holds the network itself.

    Raises:
        InputError: It is an export.
    """
    if EXPORT in bundle.manifest["files"]:
        raise InputError(f"{bundle.path} is an export itself", hint="export the run that it was made from")

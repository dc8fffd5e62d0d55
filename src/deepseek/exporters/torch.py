"""Networks as PyTorch's own graphs, for other programs that run PyTorch and have no deepseek."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from deepseek.artifacts import Bundle
from deepseek.errors import ExportError
from deepseek.exporters.base import AnswerGraph, Exporter
from deepseek.inference.backends.base import Backend, without_empty
from deepseek.inference.predictor import Predictor
from deepseek.inference.reading import input_names, read_export, read_preparation

TORCH_FILE = "model.pt2"


class TorchExporter(Exporter):
    """Writes `model.pt2`, a program of `torch.export`: graph transforms, network and decoding, for any number of rows and length of texts.

    A program whose network is one of Transformers wants one row at least.

    Opening such a file is to trust whoever wrote it: PyTorch may unpickle parts of it, and evaluates its symbolic sizes as Python. deepseek
    therefore opens it once, right after writing, to compare its answers, and never again: the exported bundle also holds the network as
    JSON and safetensors, and that is what deepseek answers with.
    """

    backend = "torch"
    copies = ("model.json", "weights.safetensors")

    def write(self, graph: AnswerGraph, folder: Path) -> None:
        """Write the file."""
        for buffer in graph.buffers():
            buffer.data = buffer.clone()  # views of larger ones, empty ones above all, are not what PyTorch's archive takes
        try:
            program = torch.export.export(graph, tuple(graph.example().values()), dynamic_shapes=(tuple(graph.dynamic()),), strict=False)
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError, ValueError) as error:  # noqa: SLF001 - its errors have no other name
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(f"the network cannot be written as a program: {reason}", hint="export to onnx or openvino") from error
        torch.export.save(program, folder / TORCH_FILE)

    def candidate(self, bundle: Bundle) -> Predictor:
        """Return what answers with the program that was written a moment ago."""
        return Predictor(bundle, _JustWritten(bundle))


class _JustWritten(Backend):
    """Runs the program of a bundle that this very process has written; nothing registers it, so that no other bundle's is ever opened."""

    files = (TORCH_FILE,)
    library = "torch"

    def __init__(self, bundle: Bundle, /) -> None:
        self._program = torch.export.load(bundle.file(TORCH_FILE)).module()
        self._names, self._outputs = input_names(read_preparation(bundle)), read_export(bundle).outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the decoded answers of a batch."""
        return dict(zip(self._outputs, without_empty(self._answers, inputs), strict=True))

    def _answers(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [answer.numpy() for answer in self._program(*(torch.from_numpy(inputs[name]) for name in self._names))]

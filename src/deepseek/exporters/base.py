"""The contract of every exporter: what turns a trained network into a file that a backend runs.

Legend of shapes: `b` rows · `l` elements of a ragged input.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from deepseek.artifacts import Bundle
from deepseek.compression.calibration import Calibration
from deepseek.compression.fusion import folded
from deepseek.compression.quantizer import Quantizer
from deepseek.compression.settings import Int8Settings, Method
from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import ExportError, MissingExtraError
from deepseek.inference.predictor import Predictor
from deepseek.models.network import module_key
from deepseek.tasks.model import TaskModel

Precision = Literal["fp32", "bf16", "int8"]
EXAMPLE_ROWS, EXAMPLE_LENGTH = 3, 5
"""Sizes of the batch that a network is traced with: neither 0 nor 1, which tracing takes for constants, and not alike. A
graph transform that shortens rows says in `example_length` how long they have to be for that to hold behind it too."""


class AnswerGraph(nn.Module):
    """Graph transforms, network and decoding as one function of tensors: what is exported.

    It holds a copy of the network in which batch normalisations are folded into the layers before them.

    Args:
        model: The trained network with its task.
        inputs: What it meets, by name.

    Attributes:
        inputs: What the network meets, by name.
        names: The arguments, in order: the inputs' names, with `NAME_mask` behind each ragged one.
        outputs: What is returned, in order: the names under which the task decodes.
        folded: Which normalisations are part of which layers.
        written: Folders with the graph as ONNX, by the version of its operators: several formats are made of it, and it is written once.
    """

    def __init__(self, model: TaskModel, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        self.names = [name for spec in inputs.values() for name in ((spec.name, mask_name(spec.name)) if spec.ragged else (spec.name,))]
        self._lengths = {name: _example_length(model, name) for name, spec in inputs.items() if spec.ragged}
        made = folded(model, lambda copy: cast("TaskModel", copy).predict(self.example()))
        self.model, self.folded = cast("TaskModel", made.module), made.pairs
        self.written: dict[int, tempfile.TemporaryDirectory[str]] = {}
        with torch.inference_mode():
            self.outputs = tuple(self.model.predict(self.example()))

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return the decoded answers, each `[b, …]`."""
        return tuple(self.model.predict(dict(zip(self.names, arrays, strict=True))).values())

    def example(self) -> dict[str, Tensor]:
        """Return a batch of rows that hold nothing, by name."""
        batch = {}
        for name, spec in self.inputs.items():
            length = (self._lengths[name],) if spec.ragged else ()
            batch[name] = torch.zeros(EXAMPLE_ROWS, *length, *spec.shape, dtype=getattr(torch, spec.dtype))
            if spec.ragged:
                batch[mask_name(name)] = torch.ones(EXAMPLE_ROWS, *length, dtype=torch.bool)
        return batch

    def dynamic(self) -> list[dict[int, torch.export.Dim]]:
        """Return which dimensions of the arguments are of any size: the rows of all, and the length of each ragged input."""
        rows, shapes = torch.export.Dim("rows"), []
        for place, spec in enumerate(self.inputs.values()):
            if spec.ragged:
                shapes += [{0: rows, 1: torch.export.Dim(f"length_{place}")}] * 2
            else:
                shapes.append({0: rows})
        return shapes


def _example_length(model: TaskModel, name: str) -> int:
    key = module_key(name)
    return int(getattr(model.network.graph[key], "example_length", EXAMPLE_LENGTH)) if key in model.network.graph else EXAMPLE_LENGTH


class Exporter(ABC):
    """Writes a network as files that a backend runs.

    Attributes:
        backend: The name of the backend that runs them.
        libraries: What has to be importable.
        copies: The files of the original bundle that stand beside what is written.
        methods: The ways to INT8 that it has, the first being the ordinary one.
        precision: The type of the arithmetic; what is not `fp32` is compared by metric, not by number.
    """

    backend: ClassVar[str]
    libraries: tuple[str, ...] = ()
    copies: ClassVar[tuple[str, ...]] = ()
    methods: ClassVar[tuple[Method, ...]] = ()
    precision: Precision = "fp32"

    @abstractmethod
    def write(self, graph: AnswerGraph, folder: Path) -> None:
        """Write the files; in float32 also where the precision is `int8`, of which `quantizer` then makes the rest.

        Args:
            graph: What is exported.
            folder: Where the files go; it exists, and its other files are left alone.

        Raises:
            ExportError: The network has an operation that the format has no form of.
        """

    def quantizer(self, folder: Path, calibration: Calibration, settings: Int8Settings) -> Quantizer:
        """Return what brings the files to INT8.

        Args:
            folder: Where the float32 files are.
            calibration: Training rows on which ranges are measured.
            settings: How.

        Raises:
            ExportError: The format has no INT8.
        """
        raise ExportError(f"the exporter {type(self).__name__} has no INT8", hint="export to onnx or openvino")

    def check(self, folder: Path) -> dict[str, Any]:
        """Check files that were written as only the format's own reader can, beyond answering with them.

        Returns:
            What `export.json` says of it.

        Raises:
            ExportError: It does not read them.
        """
        return {}

    def candidate(self, bundle: Bundle) -> Predictor:
        """Return what answers with the files of a bundle that was written a moment ago, to be compared with the original."""
        return Predictor.load(bundle.path, backend=self.backend)

    def require_libraries(self) -> None:
        """Check that what the exporter needs is installed.

        Raises:
            MissingExtraError: It is not.
        """
        from importlib.util import find_spec

        for library in self.libraries:
            if find_spec(library) is None:
                raise MissingExtraError(library, "deploy", f"the exporter {type(self).__name__}")

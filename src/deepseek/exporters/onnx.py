"""Networks as ONNX graphs, which ONNX Runtime, OpenVINO, TensorRT and others run."""

from __future__ import annotations

import ast
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le

from deepseek.compression.calibration import Calibration
from deepseek.compression.onnx_graph import LAYERS
from deepseek.compression.onnx_int8 import Form, OnnxQuantizer
from deepseek.compression.quantizer import Quantizer
from deepseek.compression.settings import Int8Settings, Method
from deepseek.errors import ExportError
from deepseek.exporters.base import AnswerGraph, Exporter
from deepseek.inference.backends.onnxruntime import ONNX_FILE
from deepseek.models import recurrent
from deepseek.models.encoders import text_rnn
from deepseek.models.operators.tensor import onnx_forms

_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


class OnnxExporter(Exporter):
    """Writes `model.onnx`: graph transforms, network and decoding in one graph, for any number of rows and any length of texts.

    Its inputs have the names of the batch's, `NAME_mask` among them. A recurrent network becomes ONNX's own LSTM or GRU.

    Args:
        precision: The arithmetic: `fp32`, or `int8`, whose ranges are measured on training rows.
        opset: The version of ONNX's operators; runtimes of some years ago read 18, newer ones more.
    """

    backend = "onnxruntime"
    libraries = ("onnx", "onnxscript", "onnxruntime")
    methods: ClassVar[tuple[Method, ...]] = ("static", "dynamic")
    form: ClassVar[Form] = "onnxruntime"

    def __init__(self, *, precision: Literal["fp32", "int8"] = "fp32", opset: Annotated[int, Ge(18), Le(24)] = 20) -> None:
        self.precision = precision
        self.opset = opset

    def write(self, graph: AnswerGraph, folder: Path) -> None:
        """Write the file; weights beyond 2 GB go into a second one beside it."""
        self.require_libraries()
        if self.opset not in graph.written:
            made = tempfile.TemporaryDirectory()
            self._write(graph, Path(made.name))
            graph.written[self.opset] = made
        for file in Path(graph.written[self.opset].name).iterdir():
            shutil.copyfile(file, folder / file.name)

    def quantizer(self, folder: Path, calibration: Calibration, settings: Int8Settings) -> Quantizer:
        """Return ONNX Runtime's quantizer."""
        return OnnxQuantizer(folder / ONNX_FILE, calibration, settings=settings, form=self.form)

    def _write(self, graph: AnswerGraph, folder: Path) -> None:
        with _hushed():
            try:
                program = torch.onnx.export(
                    graph,
                    tuple(graph.example().values()),
                    dynamo=True,
                    dynamic_shapes=(tuple(graph.dynamic()),),
                    input_names=graph.names,
                    output_names=[name if name not in graph.names else f"answer_{name}" for name in graph.outputs],
                    opset_version=self.opset,
                    custom_translation_table=operators(),
                    verbose=False,
                )
            except (torch.onnx.OnnxExporterError, RuntimeError) as error:
                raise ExportError(
                    f"the network cannot be written as ONNX: {_reason(error)}",
                    hint="an operation of it has no form there; an operator of a plugin is given one by tensor_operator(…, onnx=…)",
                ) from error
            assert program is not None
            # where each operation stood in which file of this machine: nobody's business, and half of a small model's size
            _name_layers(program.model.graph)
            for node in program.model.graph.all_nodes():
                node.metadata_props.clear()
            program.model.metadata_props.clear()
            program.save(folder / ONNX_FILE)


def _name_layers(graph: Any) -> None:
    """Name each node with weights as the module that it comes from, so that people can be told of it."""
    taken: dict[str, int] = {}
    for node in graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        path = [name for name in ast.literal_eval(scopes)[1:-1] if name] if scopes else []
        if node.op_type in LAYERS and path and any(value is not None and value.is_initializer() for value in node.inputs):
            name = path[-1].removeprefix("model.")
            taken[name] = taken.get(name, 0) + 1
            node.name = name if taken[name] == 1 else f"{name}:{taken[name]}"


OPERATORS: dict[Any, Callable[..., Any]] = {}
"""ONNX forms that go before all others: by torch operator, a function in onnxscript of its arguments."""


def operators() -> dict[Any, Callable[..., Any]]:
    """Return the ONNX forms of operators that PyTorch's exporter does not know: the project's, plugins', `OPERATORS`."""
    assert text_rnn.recurrent is not None  # importing its file has registered the operator
    assert recurrent.lstm_from is not None
    own: dict[Any, Callable[..., Any]] = {
        torch.ops.deepseek.recurrent.default: _recurrent,
        torch.ops.deepseek.lstm_from.default: _lstm_from,
    }
    return {**own, **onnx_forms(), **OPERATORS}


def _lstm_from(x: Any, hidden: Any, cell: Any, weight_in: Any, weight: Any, bias_in: Any, bias: Any) -> Any:
    """Write an LSTM that begins in a given state, `[b, l, w]` to `[b, l, h]` and the last cell `[b, h]`."""
    from onnxscript import opset20

    op: Any = opset20
    width = int(weight.shape[1])
    first = op.Constant(value_ints=[0])

    def ordered(value: Any) -> Any:
        ends = [(op.Constant(value_ints=[gate * width]), op.Constant(value_ints=[(gate + 1) * width])) for gate in (0, 3, 1, 2)]
        return op.Concat(*(op.Slice(value, start, end, first) for start, end in ends), axis=0)

    weights = [op.Unsqueeze(ordered(value), first) for value in (weight_in, weight)]
    biases = op.Unsqueeze(op.Concat(ordered(bias_in), ordered(bias), axis=0), first)
    begin = [op.Unsqueeze(value, first) for value in (hidden, cell)]
    states, _, last = op.LSTM(op.Transpose(x, perm=[1, 0, 2]), *weights, biases, None, *begin, hidden_size=width)
    return op.Transpose(op.Squeeze(states, op.Constant(value_ints=[1])), perm=[1, 0, 2]), op.Squeeze(last, first)


def _recurrent(x: Any, weight_in: Any, weight: Any, bias_in: Any, bias: Any) -> Any:
    """Write a layer of an LSTM or GRU, `[b, l, w]` to `[b, l, h]`, whose gates have another order in ONNX."""
    from onnxscript import opset20

    op: Any = opset20
    hidden = int(weight.shape[1])
    gru = int(weight.shape[0]) == 3 * hidden
    gates = (1, 0, 2) if gru else (0, 3, 1, 2)
    first = op.Constant(value_ints=[0])

    def ordered(value: Any) -> Any:
        ends = [(op.Constant(value_ints=[gate * hidden]), op.Constant(value_ints=[(gate + 1) * hidden])) for gate in gates]
        return op.Concat(*(op.Slice(value, start, end, first) for start, end in ends), axis=0)

    weights = [op.Unsqueeze(ordered(value), first) for value in (weight_in, weight)]
    biases = op.Unsqueeze(op.Concat(ordered(bias_in), ordered(bias), axis=0), first)
    by_time = op.Transpose(x, perm=[1, 0, 2])
    if gru:
        states, _ = op.GRU(by_time, *weights, biases, hidden_size=hidden, linear_before_reset=1)
    else:
        states, _, _ = op.LSTM(by_time, *weights, biases, hidden_size=hidden)
    return op.Transpose(op.Squeeze(states, op.Constant(value_ints=[1])), perm=[1, 0, 2])


def _reason(error: BaseException) -> str:
    """Return the first line of what was at the bottom of a failed export: what lies above it is advice to PyTorch's developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the exporter from telling of libraries that nobody asked for, and of its own old code."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

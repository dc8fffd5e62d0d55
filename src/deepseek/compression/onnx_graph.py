"""What can be in INT8 in an ONNX graph: layers with weights, and what lies between them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deepseek.errors import ExportError

if TYPE_CHECKING:
    import onnx

LAYERS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0, "LSTM": 1, "GRU": 1}
"""Operators with weights, and which of their inputs these are."""
_BETWEEN = {"Add", "MaxPool", "AveragePool"}
"""What computes in INT8 where all that it takes comes from convolutions in INT8; elsewhere it would only lose exactness."""
_THROUGH = {"Relu", "Clip"}


def prepared(path: Path) -> onnx.ModelProto:
    """Return a graph ready for quantizing: constants folded, and without the shapes that its exporter noted.

    Those contradict what is inferred anew after nodes are replaced, which dynamic quantization takes for an error.

    Args:
        path: The graph's file.

    Raises:
        ExportError: It has more than 2 GB of weights, which ONNX Runtime's quantizer does not take.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # ONNX's own operators alone, on every processor
    if any(part.name.startswith(f"{path.name}.") for part in path.parent.iterdir()):
        raise ExportError("the network has more than 2 GB of weights, which ONNX Runtime's quantizer does not take", hint="use OpenVINO")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / path.name)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    del model.graph.value_info[:]
    return model


def layers_of(model: onnx.ModelProto, operators: frozenset[str]) -> tuple[str, ...]:
    """Return the names of the nodes with weights, in the graph's order.

    A product with a stack of matrices is none: ONNX Runtime has no INT8 form of it with a scale a channel.

    Args:
        model: The graph.
        operators: Those of `LAYERS` that count.
    """
    ranks = _matrices(model)
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in operators
        and (rank := ranks.get(node.input[LAYERS[node.op_type]], 0)) > 1
        and (node.op_type != "MatMul" or rank == 2)
    )


def between(model: onnx.ModelProto, layers: frozenset[str]) -> list[str]:
    """Return the nodes between convolutions that compute in INT8 with them, so that nothing is turned into floats and back.

    Args:
        model: The graph.
        layers: The layers that are in INT8.
    """
    inside: set[str] = set()
    found = []
    for node in model.graph.node:
        fits = bool(node.input) and all(name in inside for name in node.input if name)
        if node.op_type in {"Conv", "ConvTranspose"} and node.name in layers:
            inside.update(node.output)
        elif fits and node.op_type in _BETWEEN:
            found.append(node.name)
            inside.update(node.output)
        elif fits and node.op_type in _THROUGH:
            inside.update(node.output)
    return found


def weight_bytes(path: Path) -> int:
    """Return the bytes of all numbers that a graph holds.

    Args:
        path: The graph's file.
    """
    import onnx

    return sum(_bytes(tensor) for tensor in onnx.load(path).graph.initializer)


def node_counts(path: Path) -> dict[str, int]:
    """Return how many nodes of each operator a graph has.

    Args:
        path: The graph's file.
    """
    import onnx

    counts: dict[str, int] = {}
    for node in onnx.load(path, load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def _matrices(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many dimensions each fixed tensor of floats has, by name."""
    import onnx

    return {tensor.name: len(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}


def _bytes(tensor: onnx.TensorProto) -> int:
    from math import prod

    from onnx.helper import tensor_dtype_to_np_dtype

    return int(prod(tensor.dims)) * int(tensor_dtype_to_np_dtype(tensor.data_type).itemsize)

"""Weights that no kernel in eight bits takes, kept in eight bits in the file: made floats again when the graph is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

TAKERS = frozenset({"Gather", "GatherND", "MatMul", "Gemm", "Einsum", "Mul", "Add"})
"""Operators of which an input may be stored so: tables, stacks of matrices, and the factors and shifts of ensembles."""
LEAST_NUMBERS = 1_024
"""Of smaller tensors the scales and the two nodes would take what is saved."""
LEAST_EVENNESS = 0.05
"""The least ratio of the root mean square to the largest value, in each slice: eight bits are then off by 4.5 % of it on the average."""
SMALL_FACTOR, MOST_SMALL = 1 / 16, 0.1
"""Factors that are all positive and of which more than a tenth are below a sixteenth of the largest are scales of their own, such as the
reciprocals of a histogram's widths: each has to be right by itself."""
LARGEST = 127


def storable(model: onnx.ModelProto, *, but: Iterable[str] = ()) -> dict[str, str]:
    """Return the tensors that can be kept in eight bits, each with the node that takes it.

    Args:
        model: The graph.
        but: Nodes that are left alone, such as layers that compute in eight bits anyway.
    """
    from onnx import TensorProto, numpy_helper

    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    left = frozenset(but)
    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(takers.get(tensor.name, ())) != 1 or np.prod(tensor.dims) < LEAST_NUMBERS:
            continue
        (taker,) = takers[tensor.name]
        values = numpy_helper.to_array(tensor)
        if taker.op_type in TAKERS and taker.name not in left and _even(values) and not (taker.op_type == "Mul" and _are_scales(values)):
            found[tensor.name] = taker.name
    return found


def store(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Keep these tensors of a graph in eight bits, with a scale for each slice along the first axis.

    Each becomes a product of constants, which runtimes reckon once, when they load the graph: files shrink to a quarter, and neither the
    time of an answer nor memory changes.

    Args:
        model: The graph, which is changed.
        names: The tensors, as `storable` names them.
    """
    from onnx import TensorProto, helper, numpy_helper

    wanted = frozenset(names)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in wanted]
    nodes = []
    for tensor in model.graph.initializer:
        if tensor.name not in wanted:
            continue
        values = numpy_helper.to_array(tensor)
        scale = (_largest(values) / LARGEST).astype(np.float32)
        scale[scale == 0] = 1.0
        small, scales = f"{tensor.name}_stored", f"{tensor.name}_stored_scale"
        kept += [numpy_helper.from_array(np.rint(values / scale).astype(np.int8), small), numpy_helper.from_array(scale, scales)]
        nodes += [
            helper.make_node("Cast", [small], [f"{small}_float"], name=f"{small}_cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{small}_float", scales], [tensor.name], name=f"{small}_scaled"),
        ]
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)


def _largest(values: np.ndarray) -> np.ndarray:
    """Return the largest absolute value of each slice, shaped so that it goes with the tensor."""
    return np.asarray(np.abs(values).max(axis=_slice_axes(values), keepdims=True))


def _slice_axes(values: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1 if values.ndim > 1 else 0, values.ndim))


def _even(values: np.ndarray) -> bool:
    size = np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=_slice_axes(values), keepdims=True))
    return bool(np.isfinite(values).all() and (size >= LEAST_EVENNESS * _largest(values)).all())


def _are_scales(values: np.ndarray) -> bool:
    return bool((values > 0).all() and (values < SMALL_FACTOR * _largest(values)).mean() > MOST_SMALL)

"""INT8 by NNCF, for OpenVINO: weights and activations as eight-bit integers in OpenVINO's own files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deepseek.compression.calibration import Calibration
from deepseek.compression.quantizer import NOTHING, Quantizer
from deepseek.compression.settings import Int8Settings
from deepseek.errors import ExportError, MissingExtraError
from deepseek.inference.backends.openvino import OPENVINO_FILE, inputs_of

_WEIGHTED = {"Convolution": 1, "GroupConvolution": 1, "MatMul": 1, "Gather": 0}
_BETWEEN = {"Add", "MaxPool", "AvgPool"}
_THROUGH = {"Relu", "Clamp"}
_ON_THE_WAY = {"Convert", "Transpose", "Reshape"}
_NO_ARITHMETIC = {"Constant", "Parameter", "Result", "Relu", "Clamp", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "ShapeOf", "Convert"}


class OpenVinoQuantizer(Quantizer):
    """Makes INT8 graphs for OpenVINO.

    Layers get eight-bit weights and ranges of activations that were measured on the calibration rows; tables of embeddings get eight-bit
    weights.

    Args:
        path: The float32 graph, in OpenVINO's form.
        calibration: The rows on which ranges are measured.
        settings: How; `method` is never `dynamic`.

    Raises:
        ExportError: The graph has no layer that could be in INT8.
        MissingExtraError: NNCF is not installed.
    """

    method = "static"

    def __init__(self, path: Path, calibration: Calibration, *, settings: Int8Settings) -> None:
        import openvino

        self._calibration, self._settings = calibration, settings
        self._core, self._path = openvino.Core(), path
        model = self._core.read_model(str(path))
        self._inputs = inputs_of(model)
        self._nodes = list(model.get_ordered_ops())
        self.layers = tuple(node.get_friendly_name() for node in self._nodes if _has_weights(node))
        self._tables = {node.get_friendly_name() for node in self._nodes if _has_weights(node) and node.get_type_name() == "Gather"}
        if not self.layers:
            raise ExportError("the network has no layer whose weights could be in INT8", hint="export it in fp32")

    def write(self, folder: Path, *, floats: frozenset[str] = NOTHING) -> None:
        """Write `model.xml` and `model.bin`."""
        import openvino

        made = self._quantized(floats)
        for place, node in enumerate(made.get_ordered_ops()):
            if node.get_type_name() not in {"Parameter", "Result"} and node.get_friendly_name() not in self.layers:
                node.set_friendly_name(f"{node.get_type_name()}_{place}")
        openvino.save_model(made, str(folder / OPENVINO_FILE), compress_to_fp16=False)

    def answers(self, calibration: Calibration, *, floats: frozenset[str]) -> list[np.ndarray]:
        """Return what the graph answers, each output over all rows."""
        model = self._core.read_model(str(self._path)) if floats >= set(self.layers) else self._quantized(floats)
        compiled = self._core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        parts = []
        for batch in calibration.batches:
            answers = compiled({name: batch[name] for name in self._inputs})
            parts.append([np.array(answers[place]) for place in range(len(compiled.outputs))])
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _quantized(self, floats: frozenset[str]) -> Any:
        nncf = _nncf()
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        chosen = {layer for layer in self.layers if layer not in floats}
        wanted = (chosen - self._tables) | self._between(chosen)
        model = self._core.read_model(str(self._path))
        others = [node.get_friendly_name() for node in self._nodes if node.get_type_name() not in _NO_ARITHMETIC]
        estimators = {
            "minmax": RangeEstimatorParametersSet.MINMAX,
            "entropy": RangeEstimatorParametersSet.HISTOGRAM,
            "percentile": RangeEstimatorParametersSet.MEAN_QUANTILE,
        }
        ranges = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=estimators[self._settings.calibration])
        try:
            with _hushed():
                if wanted:
                    model = nncf.quantize(
                        model,
                        nncf.Dataset([{name: batch[name] for name in self._inputs} for batch in self._calibration.batches]),
                        preset=nncf.QuantizationPreset.MIXED,
                        subset_size=len(self._calibration.batches),
                        ignored_scope=nncf.IgnoredScope(names=[name for name in others if name not in wanted], validate=False),
                        advanced_parameters=ranges,
                    )
                if chosen & self._tables:
                    rest = [name for name in self.layers if name not in chosen & self._tables]
                    scope = nncf.IgnoredScope(names=rest, validate=False)
                    model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=scope)
        except (RuntimeError, ValueError, nncf.ValidationError) as error:
            raise ExportError(f"NNCF cannot bring the graph to INT8: {error}", hint="use ONNX Runtime: --to onnx") from error
        return model

    def _between(self, chosen: set[str]) -> set[str]:
        """Return the nodes between convolutions that compute in INT8 with them."""
        inside: set[str] = set()
        found = set()
        for node in self._nodes:
            name, kind = node.get_friendly_name(), node.get_type_name()
            sources = [value.get_source_output().get_node() for value in node.inputs()]
            moving = [source for source in sources if source.get_type_name() != "Constant"]
            biased = kind == "Add" and len(moving) < len(sources)
            if kind in {"Convolution", "GroupConvolution"} and name in chosen:
                inside.add(name)
            elif moving and all(source.get_friendly_name() in inside for source in moving):
                if kind in _BETWEEN and not biased:
                    found.add(name)
                if kind in _BETWEEN | _THROUGH:
                    inside.add(name)
        return found


def _has_weights(node: Any) -> bool:
    """Whether a node's weights are a constant matrix of floats, perhaps turned on the way to it."""
    if node.get_type_name() not in _WEIGHTED:
        return False
    source = node.input(_WEIGHTED[node.get_type_name()]).get_source_output().get_node()
    while source.get_type_name() in _ON_THE_WAY:
        source = source.input(0).get_source_output().get_node()
    return source.get_type_name() == "Constant" and source.get_element_type().to_string() == "f32" and len(source.get_output_shape(0)) > 1


def _nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # otherwise it tells a server on the internet of each use
    try:
        import nncf
    except ModuleNotFoundError:
        raise MissingExtraError("nncf", "deploy", "INT8 for OpenVINO") from None
    return nncf


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep NNCF from drawing bars and tables on the standard output, which is for results."""
    import rich

    console, logger = rich.get_console(), logging.getLogger("nncf")
    quiet, level = console.quiet, logger.level
    console.quiet = True
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = quiet
        logger.setLevel(level)


def weight_bytes(path: Path) -> int:
    """Return the bytes of all numbers that a graph holds: its `.bin`.

    Args:
        path: The graph's `.xml`.
    """
    return path.with_suffix(".bin").stat().st_size


def node_counts(path: Path) -> dict[str, int]:
    """Return how many nodes of each kind OpenVINO computes after its optimisations.

    Args:
        path: The graph's file.
    """
    import openvino

    counts: dict[str, int] = {}
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for node in compiled.get_runtime_model().get_ordered_ops():
        kind = node.get_rt_info()["layerType"].astype(str)
        counts[kind] = counts.get(kind, 0) + 1
    return counts

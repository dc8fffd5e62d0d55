"""INT8 by ONNX Runtime's quantizer: weights and activations as eight-bit integers in an ONNX graph."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepseek.compression.calibration import BATCH_ROWS, Arrays, Calibration
from deepseek.compression.onnx_graph import between, layers_of, prepared
from deepseek.compression.onnx_storage import storable, store
from deepseek.compression.quantizer import NOTHING, Quantizer
from deepseek.compression.settings import Int8Settings
from deepseek.errors import ExportError
from deepseek.inference.backends.choice import machine
from deepseek.inference.backends.onnxruntime import ONNX_FILE

if TYPE_CHECKING:
    import onnx

Form = Literal["onnxruntime", "tensorrt"]
_STATIC = frozenset({"Conv", "Gemm", "MatMul", "Gather"})
_DYNAMIC = frozenset({"Conv", "MatMul", "Gather", "LSTM"})
_TOGETHER = {"minmax": 4, "entropy": BATCH_ROWS, "percentile": BATCH_ROWS}
"""Rows whose ranges are measured at once: ONNX Runtime keeps every activation of these, a gigabyte a row of a large network. Few are enough
for extremes; histograms begin with the range of the first rows."""
_WIDE_SUMS = ("avx_vnni", "avx512_vnni", "amx_int8")


class OnnxQuantizer(Quantizer):
    """Makes INT8 graphs for ONNX Runtime, and static ones that TensorRT reads.

    Static ones hold pairs of QuantizeLinear and DequantizeLinear around each layer, with scales that were measured on the calibration rows;
    dynamic ones measure the range of what goes into a layer in every batch.

    Weights that no operator in eight bits takes, such as the factors of ensembles, are kept in eight bits in the file alone.

    On processors without instructions that add up products of eight bits in 32, such products overflow; weights then take seven bits.

    Args:
        path: The float32 graph.
        calibration: The rows on which ranges are measured.
        settings: How; `method` is `static` or `dynamic`.
        form: `onnxruntime`: unsigned activations, which processors are quickest with; `tensorrt`: signed and symmetric ones, and biases in
            float32.

    Raises:
        ExportError: The graph has no layer that could be in INT8, or more than 2 GB of weights.
    """

    def __init__(self, path: Path, calibration: Calibration, *, settings: Int8Settings, form: Form = "onnxruntime") -> None:
        self.method = "dynamic" if settings.method == "dynamic" else "static"
        self._calibration, self._settings, self._form = calibration, settings, form
        self._model = prepared(path)
        if self.method == "dynamic":
            _without_gemm(self._model)
        computing = layers_of(self._model, _DYNAMIC if self.method == "dynamic" else _STATIC)
        if not computing:
            raise ExportError("the network has no layer whose weights could be in INT8", hint="export it in fp32")
        self._stored = storable(self._model, but=computing) if form == "onnxruntime" else {}
        inside = {*computing, *self._stored.values()}
        self.layers = tuple(node.name for node in self._model.graph.node if node.name in inside)
        self._computing = frozenset(computing)

    def write(self, folder: Path, *, floats: frozenset[str] = NOTHING) -> None:
        """Write `model.onnx`."""
        (folder / ONNX_FILE).write_bytes(self._quantized(floats).SerializeToString(deterministic=True))

    def answers(self, calibration: Calibration, *, floats: frozenset[str]) -> list[np.ndarray]:
        """Return what the graph answers, each output over all rows."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        model = self._model if floats >= set(self.layers) else self._quantized(floats)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        parts = [session.run(None, {name: batch[name] for name in names}) for batch in calibration.batches]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    @cached_property
    def ranges(self) -> Any:
        """What was seen of each activation on the calibration rows."""
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        methods = {
            "minmax": CalibrationMethod.MinMax,
            "entropy": CalibrationMethod.Entropy,
            "percentile": CalibrationMethod.Percentile,
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ONNX_FILE
            path.write_bytes(self._model.SerializeToString())
            calibrator = create_calibrator(
                path,
                sorted({*_STATIC, "Add", "MaxPool", "AveragePool"}),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=methods[self._settings.calibration],
            )
            for rows in self._calibration.cut(_TOGETHER[self._settings.calibration]).batches:
                calibrator.collect_data(_Reader([{name: rows[name] for name in _inputs(self._model)}]))
            return calibrator.compute_data()

    def _quantized(self, floats: frozenset[str]) -> onnx.ModelProto:
        made = self._computed([layer for layer in self.layers if layer in self._computing and layer not in floats])
        store(made, [tensor for tensor, layer in self._stored.items() if layer not in floats])
        return made

    def _computed(self, chosen: Sequence[str]) -> onnx.ModelProto:
        """Return the graph with these layers computing in eight bits."""
        if not chosen:  # of no names the quantizer would take all
            return deepcopy(self._model)
        try:
            made = self._dynamic(chosen) if self.method == "dynamic" else self._static(chosen)
        except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            raise ExportError(f"ONNX Runtime's quantizer cannot bring the graph to INT8: {error}", hint="use OpenVINO") from error
        del made.graph.value_info[:]
        return made

    def _static(self, chosen: Sequence[str]) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        symmetric = self._form == "tensorrt"
        extra: dict[str, Any] = {"MatMulConstBOnly": True, "WeightSymmetric": True}
        if symmetric:
            extra |= {"ActivationSymmetric": True, "QuantizeBias": False}
        quantizer = QDQQuantizer(
            deepcopy(self._model),
            self._settings.per_channel,
            _narrow() and not symmetric,
            QuantType.QInt8,
            QuantType.QInt8 if symmetric else QuantType.QUInt8,
            self.ranges,
            [*chosen, *between(self._model, frozenset(chosen))],
            [],
            sorted({*_STATIC, "Add", "MaxPool", "AveragePool"}),
            extra,
        )
        quantizer.quantize_model()
        made: onnx.ModelProto = quantizer.model.model
        return made

    def _dynamic(self, chosen: Sequence[str]) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
        from onnxruntime.quantization.quant_utils import QuantizationMode

        quantizer = ONNXQuantizer(
            deepcopy(self._model),
            self._settings.per_channel,
            _narrow(),
            QuantizationMode.IntegerOps,
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            None,
            list(chosen),
            [],
            sorted(_DYNAMIC),
            {"MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
        made: onnx.ModelProto = quantizer.model.model
        return made


class _Reader:
    """Hands batches to a calibrator."""

    def __init__(self, batches: Iterable[Arrays]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)


def _inputs(model: onnx.ModelProto) -> list[str]:
    return [value.name for value in model.graph.input]


def _without_gemm(model: onnx.ModelProto) -> None:
    """Write each product with a bias as a product and a sum, which is what can be dynamic; it keeps its name."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    names = {node.name for node in model.graph.node if node.op_type == "Gemm"}
    ONNXModel(model).replace_gemm_with_matmul()
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.name.removesuffix("_MatMul") in names:
            node.name = node.name.removesuffix("_MatMul")


def _narrow() -> bool:
    return not any(unit in machine().split() for unit in _WIDE_SUMS)

"""Networks as OpenVINO's own files, which its runtime reads without converting."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le

from deepseek.compression.calibration import Calibration
from deepseek.compression.onnx_graph import LAYERS, layers_of
from deepseek.compression.openvino_int8 import OpenVinoQuantizer
from deepseek.compression.quantizer import Quantizer
from deepseek.compression.settings import Int8Settings, Method
from deepseek.errors import ExportError
from deepseek.exporters.base import AnswerGraph, Exporter
from deepseek.exporters.onnx import OnnxExporter
from deepseek.inference.backends.onnxruntime import ONNX_FILE
from deepseek.inference.backends.openvino import LOOP, OPENVINO_FILE, has_loop


class OpenVinoExporter(Exporter):
    """Writes `model.xml` and `model.bin`, made from the ONNX graph; the weights stay float32 unless they are brought to INT8.

    Args:
        precision: The arithmetic that the bundle is compared and run with: `fp32`, or `bf16`, several times as fast where the processor has
            units for it and float32 elsewhere, or `int8`, whose ranges are measured on training rows.
        opset: The version of ONNX's operators on the way.
    """

    backend = "openvino"
    libraries: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime", "openvino")
    methods: ClassVar[tuple[Method, ...]] = ("static",)

    def __init__(self, *, precision: Literal["fp32", "bf16", "int8"] = "fp32", opset: Annotated[int, Ge(18), Le(24)] = 20) -> None:
        self.precision = precision
        self.opset = opset
        if precision == "int8":
            self.libraries = (*self.libraries, "nncf")

    def quantizer(self, folder: Path, calibration: Calibration, settings: Int8Settings) -> Quantizer:
        """Return NNCF's quantizer."""
        return OpenVinoQuantizer(folder / OPENVINO_FILE, calibration, settings=settings)

    def write(self, graph: AnswerGraph, folder: Path) -> None:
        """Write the two files."""
        self.require_libraries()
        import openvino

        with tempfile.TemporaryDirectory() as between:
            OnnxExporter(opset=self.opset).write(graph, Path(between))
            try:
                converted = openvino.Core().read_model(str(Path(between) / ONNX_FILE))
            except RuntimeError as error:
                raise ExportError(f"OpenVINO cannot read the graph: {error}", hint="export to onnx, and run it with onnxruntime") from error
            if has_loop(converted):
                raise ExportError(LOOP, hint="export to onnx, and run it with onnxruntime")
            layers = _layer_names(Path(between) / ONNX_FILE)
            for place, node in enumerate(converted.get_ordered_ops()):
                if node.get_type_name() not in {"Parameter", "Result"} and node.get_friendly_name() not in layers:
                    node.set_friendly_name(f"{node.get_type_name()}_{place}")  # its own name counts on through the process
            openvino.save_model(converted, str(folder / OPENVINO_FILE), compress_to_fp16=False)


def _layer_names(path: Path) -> set[str]:
    import onnx

    return set(layers_of(onnx.load(path, load_external_data=False), frozenset(LAYERS)))

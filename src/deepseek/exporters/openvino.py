"""Networks as OpenVINO's own files, which its runtime reads without converting."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from deepseek.errors import ExportError
from deepseek.exporters.base import AnswerGraph, Exporter
from deepseek.exporters.onnx import OnnxExporter
from deepseek.inference.backends.onnxruntime import ONNX_FILE
from deepseek.inference.backends.openvino import OPENVINO_FILE


class OpenVinoExporter(Exporter):
    """Writes `model.xml` and `model.bin`, made from the ONNX graph; the weights stay float32.

    Args:
        precision: The arithmetic that the bundle is compared and run with: `fp32`, or `bf16`, several times as fast where the processor has
            units for it and float32 elsewhere.
        opset: The version of ONNX's operators on the way.
    """

    backend = "openvino"
    libraries = ("onnx", "onnxscript", "onnxruntime", "openvino")

    def __init__(self, *, precision: Literal["fp32", "bf16"] = "fp32", opset: Annotated[int, Ge(18), Le(24)] = 20) -> None:
        self.precision = precision
        self.opset = opset

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
            for place, node in enumerate(converted.get_ordered_ops()):
                if node.get_type_name() not in {"Parameter", "Result"}:  # the others' names count on through the process
                    node.set_friendly_name(f"{node.get_type_name()}_{place}")
            openvino.save_model(converted, str(folder / OPENVINO_FILE), compress_to_fp16=False)

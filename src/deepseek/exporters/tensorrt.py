"""Networks as ONNX graphs in the form that TensorRT reads, checked by its own parser where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek import progress
from deepseek.compression.calibration import Calibration
from deepseek.compression.onnx_int8 import Form
from deepseek.compression.quantizer import Quantizer
from deepseek.compression.settings import Int8Settings, Method
from deepseek.errors import ExportError
from deepseek.exporters.base import AnswerGraph
from deepseek.exporters.onnx import OnnxExporter
from deepseek.inference.backends.onnxruntime import ONNX_FILE

if TYPE_CHECKING:
    import onnx

MOST_ROWS, MOST_LENGTH = 32, 64
"""The largest batch, and the longest texts, that the engine of the check is built for."""


class TensorRtExporter(OnnxExporter):
    """Writes `model.onnx` in the form that NVIDIA's TensorRT reads; ONNX Runtime answers with the same file, which is how it is compared.

    Bytes are turned into numbers before anything else happens to them; in INT8 activations are signed and symmetric and biases float32, as
    TensorRT asks for. Where the library `tensorrt-rtx` is installed, its parser reads the file and its builder makes an engine of it, for
    which no GPU is needed; nothing is run on one.

    Args:
        precision: The arithmetic: `fp32`, or `int8`, whose ranges are measured on training rows.
        opset: The version of ONNX's operators.
    """

    methods: ClassVar[tuple[Method, ...]] = ("static",)
    form: ClassVar[Form] = "tensorrt"

    def write(self, graph: AnswerGraph, folder: Path) -> None:
        """Write the file; weights beyond 2 GB go into a second one beside it."""
        import onnx

        super().write(graph, folder)
        model = onnx.load(folder / ONNX_FILE, load_external_data=False)
        _cast_bytes_first(model)
        (folder / ONNX_FILE).write_bytes(model.SerializeToString(deterministic=True))

    def quantizer(self, folder: Path, calibration: Calibration, settings: Int8Settings) -> Quantizer:
        """Return ONNX Runtime's quantizer, which makes the form that TensorRT reads."""
        if settings.method == "dynamic":
            raise ExportError("TensorRT has no dynamic INT8", hint="take method static")
        return super().quantizer(folder, calibration, settings)

    def check(self, folder: Path) -> dict[str, Any]:
        """Read the file with TensorRT's parser and build an engine, where the library is installed; return what came of it."""
        try:
            import tensorrt_rtx
        except ModuleNotFoundError:
            progress.log("tensorrt-rtx is not installed: the file is written in TensorRT's form, and not read by its parser")
            return {"tensorrt": None}
        return {"tensorrt": {"version": tensorrt_rtx.__version__, **_built(tensorrt_rtx, folder / ONNX_FILE)}}


def _cast_bytes_first(model: onnx.ModelProto) -> None:
    """Turn inputs of bytes into integers where they come in: TensorRT takes bytes for nothing but being cast."""
    from onnx import TensorProto, helper

    for value in model.graph.input:
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        name = f"{value.name}_integers"
        for node in model.graph.node:
            if node.op_type != "Cast":
                node.input[:] = [name if one == value.name else one for one in node.input]
        if any(name in node.input for node in model.graph.node):
            model.graph.node.insert(0, helper.make_node("Cast", [value.name], [name], f"{name}_cast", to=TensorProto.INT32))
    del model.graph.value_info[:]  # of what was made of bytes they say another type now


def _built(library: Any, path: Path) -> dict[str, Any]:
    """Return how many layers TensorRT's network has, and how large its engine is; raise `ExportError` with the parser's words."""

    class Log(library.ILogger):  # type: ignore[misc]
        """Keeps what goes wrong; without a driver it complains of that, too."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR) and "cudaError" not in message:
                self.errors.append(message)

    log = Log()
    builder = library.Builder(log)
    network = builder.create_network(0)
    parser = library.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        reasons = "; ".join(parser.get_error(place).desc() for place in range(parser.num_errors))
        raise ExportError(f"TensorRT does not read the graph: {reasons}", hint="export to onnx, and run it with onnxruntime")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for place in range(network.num_inputs):
        given = network.get_input(place)
        profile.set_shape(given.name, *(_sizes(tuple(given.shape), share) for share in (1, 4, 1000)))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(library.ComputeCapability.SM89, 0)  # without one it asks the driver for the GPU that is there
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError(f"TensorRT builds no engine of the graph: {'; '.join(log.errors)}", hint="export to onnx")
    return {"layers": network.num_layers, "engine_bytes": engine.nbytes}


def _sizes(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return a shape whose free dimensions, the rows and the length of texts, are at most so large."""
    limits = (MOST_ROWS, *[MOST_LENGTH] * (len(shape) - 1))
    return tuple(min(most, limit) if size < 0 else size for size, limit in zip(shape, limits, strict=True))

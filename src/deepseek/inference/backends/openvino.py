"""The backend that runs an exported bundle in OpenVINO, without torch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from deepseek.artifacts import Bundle
from deepseek.errors import BundleError, MissingExtraError
from deepseek.inference.backends.base import Backend, told_threads, without_empty
from deepseek.inference.backends.onnxruntime import ONNX_FILE, require_same
from deepseek.inference.backends.references import require_own_files
from deepseek.inference.reading import AGAIN, read_export

OPENVINO_FILE = "model.xml"
_LOOPS = frozenset({"Loop", "TensorIterator"})
LOOP = "the network goes over its steps in a loop of its own, on which OpenVINO crashes where there are few of them"


class OpenVinoBackend(Backend):
    """Runs `model.xml`, or the `model.onnx` of a bundle that has no such file, in OpenVINO on the processor.

    The arithmetic is float32 unless the bundle was exported, and compared, as bf16: OpenVINO itself would take bfloat16 wherever a
    processor has units for it, whatever that does to the answers.

    Args:
        bundle: The opened bundle.
        threads: How many threads a batch is computed with; where not given as many as `OMP_NUM_THREADS` says, else OpenVINO's own choice.

    Raises:
        BundleError: The bundle holds neither file, or it is no model of these inputs.
        MissingExtraError: OpenVINO is not installed.
    """

    files = (OPENVINO_FILE, ONNX_FILE)
    library = "openvino"

    def __init__(self, bundle: Bundle, /, *, threads: Annotated[int, Ge(1)] | None = None) -> None:
        export = read_export(bundle)
        self._outputs = export.outputs
        self._model = _compiled(bundle, export.precision, threads or told_threads())
        self._inputs = inputs_of(self._model)
        self._local = threading.local()
        require_same(bundle, self._inputs, outputs=len(self._model.outputs), wanted=self._outputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the decoded answers of a batch."""
        answers = without_empty(self._infer, {name: inputs[name] for name in self._inputs})
        return dict(zip(self._outputs, answers, strict=True))

    def _infer(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if not hasattr(self._local, "request"):  # a request holds the arrays of one batch: each thread has one of its own
            self._local.request = self._model.create_infer_request()
        answers = self._local.request.infer(dict(inputs), share_inputs=True)
        return [np.array(answers[place]) for place in range(len(self._outputs))]


def inputs_of(model: Any) -> list[str]:
    """Return the names of a graph's inputs; a tensor may have several, where what did nothing to it was taken out of the graph."""
    return [value.node.friendly_name for value in model.inputs]


def has_loop(model: Any) -> bool:
    """Whether a graph has a loop over steps, as a recurrent layer of one's own becomes."""
    return any(node.get_type_name() in _LOOPS for node in model.get_ops())


def _compiled(bundle: Bundle, precision: str, threads: int | None) -> Any:
    try:
        import openvino
    except ModuleNotFoundError:
        raise MissingExtraError("openvino", "deploy", "the backend 'openvino'") from None
    path = bundle.file(OPENVINO_FILE if OPENVINO_FILE in bundle.manifest["files"] else ONNX_FILE)
    require_own_files(bundle, path)
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        if has_loop(model):
            raise BundleError(f"{path}: {LOOP}", hint="run it with the backend onnxruntime")
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BundleError(f"{path} cannot be run: {error}", hint=AGAIN) from None

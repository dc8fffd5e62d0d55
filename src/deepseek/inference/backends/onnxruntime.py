"""The backend that runs an exported bundle in ONNX Runtime, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from deepseek.artifacts import Bundle
from deepseek.errors import BundleError, MissingExtraError
from deepseek.inference.backends.base import Backend, told_threads, without_empty
from deepseek.inference.backends.references import require_own_files
from deepseek.inference.reading import AGAIN, input_names, read_export, read_preparation

ONNX_FILE = "model.onnx"


class OnnxRuntimeBackend(Backend):
    """Runs `model.onnx` in ONNX Runtime on the processor.

    Args:
        bundle: The opened bundle.
        threads: How many threads a batch is computed with; where not given as many as `OMP_NUM_THREADS` says, else one a core.

    Raises:
        BundleError: The bundle holds no such file, or it is no model of these inputs.
        MissingExtraError: ONNX Runtime is not installed.
    """

    files = (ONNX_FILE,)
    library = "onnxruntime"

    def __init__(self, bundle: Bundle, /, *, threads: Annotated[int, Ge(1)] | None = None) -> None:
        self._outputs = read_export(bundle).outputs
        self._session = _session(bundle, threads)
        self._inputs = [value.name for value in self._session.get_inputs()]
        require_same(bundle, self._inputs, outputs=len(self._session.get_outputs()), wanted=self._outputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the decoded answers of a batch."""
        answers = without_empty(lambda given: self._session.run(None, given), {name: inputs[name] for name in self._inputs})
        return dict(zip(self._outputs, answers, strict=True))


def require_same(bundle: Bundle, inputs: list[str], *, outputs: int, wanted: tuple[str, ...]) -> None:
    """Check that a graph takes what the bundle's preparation makes and returns what its `export.json` says.

    Raises:
        BundleError: It does not.
    """
    known = input_names(read_preparation(bundle))
    foreign = sorted(set(inputs) - set(known))
    if foreign or not inputs:
        raise BundleError(f"{bundle.path}: the graph takes {foreign or 'nothing'}, and the bundle prepares {known}", hint=AGAIN)
    if outputs != len(wanted):
        raise BundleError(f"{bundle.path}: the graph returns {outputs} arrays, not {list(wanted)}", hint=AGAIN)


def _session(bundle: Bundle, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingExtraError("onnxruntime", "deploy", "the backend 'onnxruntime'") from None
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # warnings are about what its optimiser did not take
    threads = threads or told_threads()
    if threads is not None:
        options.intra_op_num_threads = threads
    # its threads spin while they wait for the next batch, which takes the cores from whatever else runs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = bundle.file(ONNX_FILE)
    require_own_files(bundle, path)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf, states.NotImplemented, RuntimeError) as error:
        raise BundleError(f"{path} cannot be run: {error}", hint=AGAIN) from None

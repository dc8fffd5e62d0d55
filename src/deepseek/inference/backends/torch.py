"""The backend that runs a bundle in PyTorch, as it was trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from deepseek.artifacts import Bundle
from deepseek.data.preparation import Preparation
from deepseek.errors import BundleError, InputError
from deepseek.inference.backends.base import Backend
from deepseek.inference.reading import AGAIN, read_preparation
from deepseek.models.base import other_revisions
from deepseek.registry import family
from deepseek.tasks.base import Task
from deepseek.tasks.model import TaskModel


class TorchBackend(Backend):
    """Runs the trained network in float32 on the CPU; as many threads as PyTorch has in this process.

    Args:
        bundle: The opened bundle.

    Raises:
        BundleError: The weights do not fit the network that the bundle describes.
    """

    files = ("weights.safetensors",)
    library = "torch"

    def __init__(self, bundle: Bundle, /) -> None:
        preparation = read_preparation(bundle)
        with torch.random.fork_rng(devices=[]):  # weights that are drawn to be replaced take nothing from the process's generator
            model = build_model(preparation, bundle.read("model.json"), bundle.read("task.json"))
        try:
            weights = load_file(bundle.file("weights.safetensors"))
        except SafetensorError as error:
            raise BundleError(f"{bundle.path}: the weights cannot be read: {error}", hint=AGAIN) from None
        _require_fit(bundle, model.state_dict(), weights)
        model.load_state_dict(weights)
        self.model = model.eval()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the decoded answers of a batch."""
        with torch.inference_mode():
            decoded = self.model.predict({name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in decoded.items()}


def _require_fit(bundle: Bundle, wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    if others := other_revisions(wanted, given):
        raise BundleError(
            f"{bundle.path}: another version made it, in which the same weights answer otherwise: {'; '.join(others)}",
            hint=f"train it again, or answer with deepseek-framework {bundle.read('environment.json').get('deepseek')}, which made it",
        )
    missing, unexpected = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    shapes = [
        f"{name} is {list(given[name].shape)}, not {list(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(given))
        if given[name].shape != wanted[name].shape
    ]
    wrong = [*(f"{name} is missing" for name in missing), *(f"{name} is not wanted" for name in unexpected), *shapes]
    if wrong:
        raise BundleError(f"{bundle.path}: the weights do not fit the network that model.json describes: {'; '.join(wrong)}", hint=AGAIN)


def build_model(preparation: Preparation, model: Mapping[str, object], task: Mapping[str, object]) -> TaskModel:
    """Return the untrained network that a recipe's `model` and `task` describe for prepared data.

    Args:
        preparation: The fitted preparation, which knows the inputs, the graph transforms and the target.
        model: The spec of the model.
        task: The spec of the task.
    """
    network = family("model").build(dict(model), preparation.inputs, preparation.graph())
    return TaskModel(network, build_task(preparation, task))


def build_task(preparation: Preparation, task: Mapping[str, object]) -> Task:
    """Return the task that a recipe's `task` describes for a fitted target.

    Raises:
        InputError: The data were prepared without a target.
    """
    if preparation.target is None:
        raise InputError("the data were prepared without a target", hint="name the column to predict under data.target")
    built: Task = family("task").build(dict(task), preparation.target.spec)
    return built

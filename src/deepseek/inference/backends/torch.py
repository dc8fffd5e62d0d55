"""The backend that runs a bundle in PyTorch, as it was trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from safetensors.torch import load_file

from deepseek.artifacts import Bundle
from deepseek.data.preparation import Preparation
from deepseek.errors import BundleError, InputError
from deepseek.inference.backends.base import Backend
from deepseek.registry import family
from deepseek.tasks.base import Task
from deepseek.tasks.model import TaskModel


class TorchBackend(Backend):
    """Runs the trained network in float32 on the CPU.

    Args:
        bundle: The opened bundle.

    Raises:
        BundleError: The weights do not fit the network that the bundle describes.
    """

    def __init__(self, bundle: Bundle, /) -> None:
        preparation = Preparation.from_json(bundle.read("data.json"))
        model = build_model(preparation, bundle.read("model.json"), bundle.read("task.json"))
        weights = load_file(bundle.file("weights.safetensors"))
        missing, unexpected = model.load_state_dict(weights, strict=False)
        if missing or unexpected:
            raise BundleError(f"{bundle.path}: weights missing for {missing or 'nothing'}, and not wanted: {unexpected or 'nothing'}")
        self.model = model.eval()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the decoded answers of a batch."""
        with torch.inference_mode():
            decoded = self.model.predict({name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in decoded.items()}


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

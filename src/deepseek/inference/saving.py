"""Writing a bundle: a trained network with everything that is needed to answer rows with it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from deepseek import __version__
from deepseek.artifacts import write_bundle
from deepseek.data.preparation import Preparation
from deepseek.models.network import without_pretrained
from deepseek.registry import Spec, family
from deepseek.tasks.model import TaskModel

_LIBRARIES = ("torch", "numpy", "pyarrow", "polars", "pydantic", "safetensors")


def save_bundle(
    target: str | PathLike[str],
    trained: TaskModel,
    preparation: Preparation,
    *,
    model: Spec,
    task: Spec,
    metrics: Mapping[str, Any] | None = None,
    plugins: Mapping[str, str] | None = None,
) -> Path:
    """Write a bundle that `deepseek.load` opens, also of a network that was trained in a loop of one's own.

    Args:
        target: The bundle's folder; it must not exist.
        trained: The network with its task.
        preparation: The fitted preparation.
        model: The spec that builds this network; a class of one's own is registered under a name first.
        task: The spec that builds this task.
        metrics: What was measured, by split.
        plugins: Name (or file) to version of what has to be imported before the bundle can be opened.

    Returns:
        The bundle's folder.

    Raises:
        RunError: It cannot be written, or something is there already.
    """
    documents = documents_of(preparation, model=model, task=task, metrics=metrics, trained=trained)
    return write_model(target, trained, documents, plugins=plugins)


def documents_of(
    preparation: Preparation, *, model: Spec, task: Spec, metrics: Mapping[str, Any] | None = None, trained: TaskModel | None = None
) -> dict[str, Any]:
    """Return the JSON documents of a bundle, by file name; the arguments are those of `save_bundle`.

    Without the network itself, the spec must be one that was in a bundle: a checkpoint that it names would be forgotten.
    """
    return {
        "schema.json": preparation.schema.to_json(),
        "data.json": preparation.to_json(),
        "model.json": without_pretrained(family("model").validate(model), trained),
        "task.json": family("task").validate(task),
        "metrics.json": dict(metrics or {}),
        "environment.json": environment(),
    }


def write_model(
    target: str | PathLike[str], trained: TaskModel, documents: Mapping[str, Any], *, plugins: Mapping[str, str] | None = None
) -> Path:
    """Write a bundle of a network's weights and JSON documents: those of `documents_of`, and others, such as a reference.

    Args:
        target: The bundle's folder; it must not exist.
        trained: The network with its task.
        documents: By file name.
        plugins: Name (or file) to version of what has to be imported before the bundle can be opened.

    Returns:
        The bundle's folder.

    Raises:
        RunError: It cannot be written, or something is there already.
    """
    with write_bundle(Path(target), documents, plugins=plugins) as folder:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
    return Path(target)


def environment() -> dict[str, str]:
    """Return the versions of what a network was trained with."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"deepseek": __version__, "python": platform.python_version(), "platform": platform.platform(), **libraries}

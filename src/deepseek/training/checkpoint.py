"""Checkpoints: safetensors and JSON in `step-000123/`, whole or not there, and checked when read.

A checkpoint is written into a hidden folder, flushed to the disk and renamed: whoever reads sees all of it or nothing. The hash of every
file is recorded inside, so that a truncated or edited one is refused instead of silently training on. Optimizer state is kept by parameter
*name*.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepseek.artifacts.files import (
    check_hashes,
    fresh_folder,
    hash_files,
    plain_disk_errors,
    read_json,
    sync_file,
    sync_folder,
    write_json,
)
from deepseek.errors import BundleError, CheckpointError, RunError
from deepseek.training.state import Json

FORMAT = 1
_MANIFEST, _STATE = "manifest.json", "state.json"
Tensors = dict[str, dict[str, Tensor]]


def save_checkpoint(folder: Path, step: int, *, tensors: Mapping[str, Mapping[str, Tensor]], state: Json, keep: int) -> Path:
    """Write a checkpoint and remove those that are too many.

    Args:
        folder: The folder of the checkpoints.
        step: Optimizer steps made.
        tensors: By part (`model`, `optimizer` …) and name; one file a part.
        state: Plain JSON values.
        keep: How many checkpoints to keep, at least 1.

    Raises:
        CheckpointError: It cannot be written.
    """
    target = folder / f"step-{step:06d}"
    try:
        if target.exists():
            shutil.rmtree(target)  # the same step again: after a resume, or the last step of a run that checkpoints there anyway
        with fresh_folder(target) as temporary:
            _write(temporary, tensors, state)
        sync_folder(folder)
        for old in list_checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    except (RunError, OSError) as error:
        raise CheckpointError(f"the checkpoint {target} cannot be written: {error}") from error
    return target


def load_checkpoint(path: Path) -> tuple[Tensors, Json]:
    """Read a checkpoint after checking every byte of it.

    Raises:
        CheckpointError: It is missing, truncated, edited, or of another format.
    """
    try:
        manifest = read_json(path / _MANIFEST)
        if manifest.get("format") != FORMAT:
            raise CheckpointError(f"{path} has checkpoint format {manifest.get('format')}", hint=f"this version reads format {FORMAT}")
        check_hashes(path, {**manifest["files"], _MANIFEST: hash_files(path).get(_MANIFEST, "")})
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        return tensors, read_json(path / _STATE)
    except (BundleError, SafetensorError, OSError, KeyError, AttributeError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {getattr(error, 'message', error)}", hint=_RESUME_HINT) from error


def load_latest(folder: Path, *, fall_back: bool) -> tuple[Path, Tensors, Json, list[str]]:
    """Read the newest checkpoint.

    Args:
        folder: The folder of the checkpoints.
        fall_back: Whether to go back to an older one where the newest cannot be used.

    Returns:
        Its folder, its tensors, its state, and why newer ones were passed over.

    Raises:
        CheckpointError: There is none that can be used.
    """
    present = list_checkpoints(folder)
    if not present:
        raise CheckpointError(f"there is no checkpoint in {folder}", hint="start the run without resume")
    passed: list[str] = []
    for path in reversed(present):
        try:
            return path, *load_checkpoint(path), passed
        except CheckpointError as error:
            if not fall_back:
                raise
            passed.append(error.message)
    raise CheckpointError("; ".join(passed), hint="none of the checkpoints can be used: start the run without resume")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), key=lambda path: int(path.name[5:]))


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as `NAME/KEY`, by the parameters' names in the model."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state that `optimizer_tensors` returned.

    Raises:
        CheckpointError: It names a parameter that the model does not have.
    """
    places = {parameter: index for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    parameters = dict(model.named_parameters())
    indices = {name: places[parameter] for name, parameter in parameters.items() if parameter in places}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in indices:
            raise CheckpointError(f"the checkpoint has optimizer state for {name!r}, which the model does not train", hint=_RESUME_HINT)
        parameter = parameters[name]
        same = value.shape == parameter.shape  # moments take the parameter's memory layout: fused kernels walk both in storage order
        state.setdefault(indices[name], {})[entry] = torch.empty_like(parameter).copy_(value) if same and value.ndim else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


_RESUME_HINT = "delete that folder to go on from the checkpoint before it, or start a new run"


def _write(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Json) -> None:
    for part, named in tensors.items():
        path = folder / f"{part}.safetensors"
        with plain_disk_errors(path):
            save_file({name: _plain(tensor) for name, tensor in named.items()}, path)
            sync_file(path)
    write_json(folder / _STATE, state)
    manifest: dict[str, Any] = {"format": FORMAT, "files": hash_files(folder)}
    write_json(folder / _MANIFEST, manifest)


def _plain(tensor: Tensor) -> Tensor:
    # safetensors refuses tensors that share storage (tied weights) or are not contiguous (channels last)
    return tensor.detach().to("cpu", copy=True).contiguous()

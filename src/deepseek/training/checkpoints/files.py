"""Checkpoints: safetensors and JSON in `step-000123/`, whole or not there, and checked when read.

A checkpoint is written into a hidden folder, flushed to the disk and renamed: whoever reads sees all of it or nothing. The hash of every
file is recorded inside, so that a truncated or edited one is refused instead of silently training on. Optimizer state is kept by parameter
*name*. That of a model which is in parts has format 2: a file a rank, and an index (`deepseek.training.checkpoints.shards`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepseek.artifacts.files import (
    check_hashes,
    hash_files,
    plain_disk_errors,
    read_json,
    replace_folder,
    sha256_file,
    sync_file,
    sync_folder,
    write_json,
)
from deepseek.errors import BundleError, CheckpointError, RunError
from deepseek.training.checkpoints.shards import INDEX, Cut, Pieces, complete, read_shards, write_shard
from deepseek.training.state import Json

FORMAT = 1
FORMAT_IN_PARTS = 2
PARTS_S = 300.0
"""How long rank 0 waits for the others' parts of a checkpoint while nothing is written any more."""
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
    temporary, target = _hidden(folder, step, uuid4().hex), folder / f"step-{step:06d}"
    try:
        temporary.mkdir(parents=True)
        _write(temporary, tensors, state)
        _publish(temporary, target, keep=keep)
    except (RunError, OSError) as error:
        raise CheckpointError(f"the checkpoint {target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def save_part(folder: Path, step: int, *, name: str, rank: int, pieces: Pieces) -> Path:
    """Write one rank's part of a checkpoint; `finish_parts` makes a checkpoint of all.

    Args:
        folder: The folder of the checkpoints.
        step: Optimizer steps made.
        name: What this writing is called, the same on every rank and new each time.
        rank: The rank.
        pieces: What it has.

    Returns:
        What the checkpoint will be called.

    Raises:
        CheckpointError: It cannot be written.
    """
    try:
        write_shard(_hidden(folder, step, name), rank, pieces)
    except (RunError, OSError) as error:
        raise CheckpointError(f"rank {rank}'s part of the checkpoint of step {step} cannot be written: {error}") from error
    return folder / f"step-{step:06d}"


def finish_parts(folder: Path, step: int, *, name: str, ranks: int, state: Json, keep: int) -> Path:
    """Make a checkpoint of what all ranks have written, and remove those that are too many; on one rank.

    Args:
        folder: The folder of the checkpoints.
        step: Optimizer steps made.
        name: What this writing is called.
        ranks: How many have written.
        state: Plain JSON values.
        keep: How many checkpoints to keep, at least 1.

    Raises:
        CheckpointError: It cannot be written; the checkpoints before it are as they were.
    """
    temporary, target = _hidden(folder, step, name), folder / f"step-{step:06d}"
    try:
        hashes = complete(temporary, ranks, timeout_s=PARTS_S)
        write_json(temporary / _STATE, state)
        others = {path.name: sha256_file(path) for path in temporary.iterdir() if path.name not in hashes}
        write_json(temporary / _MANIFEST, {"format": FORMAT_IN_PARTS, "files": {**hashes, **others}})
        _publish(temporary, target, keep=keep)
    except (RunError, BundleError, OSError) as error:
        raise CheckpointError(f"the checkpoint {target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _hidden(folder: Path, step: int, name: str) -> Path:
    return folder / f".step-{step:06d}.{name}"


def _publish(temporary: Path, target: Path, *, keep: int) -> None:
    """Give a checkpoint that is whole its name, in the place of one of the same step, and remove what is no longer wanted."""
    folder = target.parent
    sync_folder(temporary)
    replace_folder(temporary, target)
    sync_folder(folder)
    for old in [*list_checkpoints(folder)[:-keep], *folder.glob(".step-*")]:  # the hidden ones are of writings that were interrupted
        shutil.rmtree(old)


def check_checkpoint(path: Path) -> Json:
    """Check every byte of a checkpoint and return its state.

    Raises:
        CheckpointError: It is missing, truncated, edited, or of another format.
    """
    try:
        manifest = read_json(path / _MANIFEST)
        if manifest.get("format") not in (FORMAT, FORMAT_IN_PARTS):
            raise CheckpointError(
                f"{path} has checkpoint format {manifest.get('format')}", hint=f"this version reads format {FORMAT} and {FORMAT_IN_PARTS}"
            )
        check_hashes(path, {**manifest["files"], _MANIFEST: hash_files(path).get(_MANIFEST, "")})
        state: Json = read_json(path / _STATE)
    except (BundleError, OSError, KeyError, AttributeError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {getattr(error, 'message', error)}", hint=_without(path)) from error
    return state


def read_tensors(path: Path, cut: Cut | None = None) -> Tensors:
    """Return the tensors of a checkpoint that was checked.

    Args:
        path: The checkpoint.
        cut: Part, name and whole tensor to what is kept of it; all of it where not given.

    Raises:
        CheckpointError: They cannot be read.
    """
    try:
        if (path / INDEX).is_file():
            return read_shards(path, cut)
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    except (BundleError, SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {getattr(error, 'message', error)}", hint=_without(path)) from error
    if cut is None:
        return tensors
    return {part: {name: cut(part, name, tensor).clone() for name, tensor in named.items()} for part, named in tensors.items()}


def load_checkpoint(path: Path) -> tuple[Tensors, Json]:
    """Read a checkpoint after checking every byte of it.

    Raises:
        CheckpointError: It is missing, truncated, edited, or of another format.
    """
    state = check_checkpoint(path)
    return read_tensors(path), state


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
    path, state, passed = find_latest(folder, fall_back=fall_back)
    return path, read_tensors(path), state, passed


def find_latest(folder: Path, *, fall_back: bool) -> tuple[Path, Json, list[str]]:
    """Find the newest checkpoint and check it, without reading its tensors.

    Args:
        folder: The folder of the checkpoints.
        fall_back: Whether to go back to an older one where the newest cannot be used.

    Returns:
        Its folder, its state, and why newer ones were passed over.

    Raises:
        CheckpointError: There is none that can be used.
    """
    present = list_checkpoints(folder)
    if not present:
        raise CheckpointError(f"there is no checkpoint in {folder}", hint="start the run without resume")
    passed: list[str] = []
    for path in reversed(present):
        try:
            return path, check_checkpoint(path), passed
        except CheckpointError as error:
            if not fall_back:
                raise
            passed.append(error.message)
    raise CheckpointError("; ".join(passed), hint="none of the checkpoints can be used: start the run without resume")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first; a folder of another name, a copy that somebody put beside them, is none."""
    return sorted((path for path in folder.glob("step-*") if path.name[5:].isdecimal() and path.is_dir()), key=step_of)


def step_of(path: Path) -> int:
    """Return after how many steps a checkpoint was written, by its name."""
    return int(path.name[5:])


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
            raise CheckpointError(
                f"the checkpoint has optimizer state for {name!r}, which the model does not train", hint="start a new run"
            )
        parameter = parameters[name]
        same = value.shape == parameter.shape  # moments take the parameter's memory layout: fused kernels walk both in storage order
        state.setdefault(indices[name], {})[entry] = torch.empty_like(parameter).copy_(value) if same and value.ndim else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _without(path: Path) -> str:
    """Return what to do where a checkpoint cannot be used: to delete it helps only where one stands before it."""
    present = list_checkpoints(path.parent)
    before = present[: present.index(path)] if path in present else present
    if not before:
        return "no checkpoint stands before it: start a new run"
    return f"delete that folder to go on from the checkpoint before it ({before[-1].name}), or start a new run"


def _write(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Json) -> None:
    for part, named in tensors.items():
        path = folder / f"{part}.safetensors"
        with plain_disk_errors(path):
            save_file({name: snapshot(tensor) for name, tensor in named.items()}, path)
            sync_file(path)
    write_json(folder / _STATE, state)
    manifest: dict[str, Any] = {"format": FORMAT, "files": hash_files(folder)}
    write_json(folder / _MANIFEST, manifest)


def snapshot(tensor: Tensor) -> Tensor:
    """Return a copy on the processor that no step changes, as a file takes it."""
    # safetensors refuses tensors that share storage (tied weights) or are not contiguous (channels last)
    return tensor.detach().to("cpu", copy=True).contiguous()

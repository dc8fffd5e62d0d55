"""Checkpoints of a model that is in parts: every rank writes its own, and one index says where each tensor lies.

The ranks write into one hidden folder, which has to be on a disk that all of them see; each puts down the list of its pieces last. Rank 0
waits for all lists, writes the index and the hashes, and renames the folder: whoever reads sees all of it or nothing. No rank needs another
for that, so that it can be done beside the training. What is read is put together whole, tensor by tensor, and cut as the reader needs
it: a run goes on with any number of ranks and any strategy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from deepseek.artifacts.files import plain_disk_errors, read_json, sha256_file, sync_file, write_json
from deepseek.distributed.strategies import Piece
from deepseek.errors import CheckpointError, RunError

INDEX = "index.json"
Pieces = Mapping[str, Mapping[str, tuple[Tensor, Piece]]]
"""By part (`model`, `optimizer` …) and name, a rank's piece of a tensor and where it lies in the whole."""
Cut = Callable[[str, str, Tensor], Tensor]
_LOOK_S = 0.05


def write_shard(folder: Path, rank: int, pieces: Pieces) -> None:
    """Write a rank's pieces, and then the list of them; or, where that fails, why.

    Args:
        folder: The hidden folder that all ranks write into.
        rank: The rank.
        pieces: What it has, on the processor.

    Raises:
        RunError: The disk is full, or the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rank-{rank:05d}.safetensors"
    try:
        with plain_disk_errors(path):
            save_file({f"{part}|{name}": tensor for part, named in pieces.items() for name, (tensor, _) in named.items()}, path)
            sync_file(path)
        listed = {part: {name: _as_json(piece) for name, (_, piece) in named.items()} for part, named in pieces.items()}
        write_json(_list_of(folder, rank), {"sha256": sha256_file(path), "pieces": listed})
    except BaseException as error:
        _tell_failure(folder, rank, error)
        raise


def complete(folder: Path, ranks: int, *, timeout_s: float) -> dict[str, str]:
    """Wait until every rank has written its pieces, and write the index; return the hashes of the files with tensors.

    Args:
        folder: The hidden folder.
        ranks: How many there are.
        timeout_s: How long to wait while no file there grows: a large part on a slow disk takes its time.

    Raises:
        CheckpointError: A rank has failed, or has not written in time.
    """
    written, until = -1, math.inf
    while missing := [rank for rank in range(ranks) if not _list_of(folder, rank).is_file()]:
        for rank in missing:
            if (told := _failure_of(folder, rank)).is_file():
                raise CheckpointError(f"rank {rank} could not write its part of the checkpoint: {read_json(told)}")
        if (now := _bytes_in(folder)) != written:
            written, until = now, time.monotonic() + timeout_s
        if time.monotonic() > until:
            raise CheckpointError(
                f"rank {', '.join(map(str, missing))} did not write its part of {folder}, where nothing was written for {timeout_s:g} s",
                hint="all ranks have to see the run's folder: put it on a disk that they share",
            )
        time.sleep(_LOOK_S)
    index: dict[str, dict[str, Any]] = {}
    hashes: dict[str, str] = {}
    for rank in range(ranks):
        path = _list_of(folder, rank)
        listed = read_json(path)
        hashes[f"rank-{rank:05d}.safetensors"] = listed["sha256"]
        for part, named in listed["pieces"].items():
            for name, piece in named.items():
                entry = index.setdefault(part, {}).setdefault(name, {"shape": piece["shape"], "pieces": []})
                entry["pieces"].append({"rank": rank, "start": piece["start"], "size": piece["size"]})
        path.unlink()
    write_json(folder / INDEX, {"ranks": ranks, "tensors": index})
    return hashes


def read_shards(folder: Path, cut: Cut | None = None) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of a checkpoint in parts, whole or as they are cut.

    Args:
        folder: The checkpoint.
        cut: Part, name and whole tensor to what is kept of it; all of it where not given.

    Raises:
        CheckpointError: A piece of a tensor is missing.
    """
    index = read_json(folder / INDEX)
    files = {rank: safe_open(folder / f"rank-{rank:05d}.safetensors", framework="pt") for rank in range(index["ranks"])}
    made: dict[str, dict[str, Tensor]] = {}
    for part, named in index["tensors"].items():
        for name, entry in named.items():
            whole = _assembled(part, name, entry, files)
            made.setdefault(part, {})[name] = whole if cut is None else cut(part, name, whole).clone()
    return made


def _assembled(part: str, name: str, entry: Mapping[str, Any], files: Mapping[int, Any]) -> Tensor:
    shape = entry["shape"]
    if (covered := sum(math.prod(piece["size"]) for piece in entry["pieces"])) != math.prod(shape):
        raise CheckpointError(f"{part} {name} has {covered} numbers of {math.prod(shape)}: a piece is missing")
    whole: Tensor | None = None
    for piece in entry["pieces"]:
        found: Tensor = files[piece["rank"]].get_tensor(f"{part}|{name}")
        if piece["size"] == shape:
            return found
        whole = torch.empty(shape, dtype=found.dtype) if whole is None else whole
        Piece(tuple(shape), tuple(piece["start"]), tuple(piece["size"])).of(whole).copy_(found)
    assert whole is not None
    return whole


def _as_json(piece: Piece) -> dict[str, list[int]]:
    return {"shape": list(piece.shape), "start": list(piece.start), "size": list(piece.size)}


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a list is written under another name, and renamed
            total += path.stat().st_size
    return total


def _list_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.json"


def _failure_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.failed.json"


def _tell_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Leave word for rank 0; on a full disk there may be room for that much, and else it waits in vain."""
    try:
        write_json(_failure_of(folder, rank), str(error))
    except RunError as also:
        error.add_note(f"and rank 0 could not be told: {also}")

"""What is kept of a run: the best weights in memory, and checkpoints on disk from which it goes on bit for bit."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import torch
from torch import Tensor, nn

from deepseek.distributed import broadcast_message
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies import Piece, Placement
from deepseek.errors import CheckpointError, DeepSeekError, InputError
from deepseek.models.base import other_revisions
from deepseek.training.carried import carry, own_lanes
from deepseek.training.checkpoints.background import Background
from deepseek.training.checkpoints.files import (
    check_checkpoint,
    find_latest,
    finish_parts,
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_tensors,
    save_checkpoint,
    save_part,
    snapshot,
    step_of,
)
from deepseek.training.checkpoints.shards import Cut
from deepseek.training.communication import resume_exchange
from deepseek.training.state import Json, State

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer

_LOG = logging.getLogger(__name__)
SEEN_S = 90.0
"""How long a rank waits until it sees the checkpoint that rank 0 has found: network disks show new folders after a minute or so."""
_LOOK_S = 0.1
_NONE, _FAILED = -1, -2
"""What rank 0 says in the place of a step: begin anew; there is none that can be used."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was found and checked; its tensors are read when they are needed, and as far as this rank needs them.

    Attributes:
        path: Its folder.
        state: Where the run stood.
        values: The other plain JSON values.
    """

    path: Path
    state: State
    values: Json


class Keeper:
    """Keeps the best weights and the checkpoints of a run.

    The best weights travel in every checkpoint: a run resumed after its best validation must still be able to end with those weights.

    Args:
        folder: Where checkpoints go; none for none.
        keep: How many are kept.
    """

    def __init__(self, folder: Path | None, *, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._writing = Background()
        self._best: dict[str, Tensor] = {}

    def remember(self, model: nn.Module) -> None:
        """Keep a copy of the weights as they are now."""
        self._best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}

    def recall(self, model: nn.Module) -> None:
        """Put the remembered weights back into the model."""
        model.load_state_dict(self._best)

    def find(self, resume: bool | Literal["auto"], ranks: RankContext) -> Loaded | None:
        """Return the checkpoint to go on from, or nothing for a start from the beginning; on several ranks what rank 0 has found.

        Disks that machines share show a new folder to one of them sooner than to another: left to themselves ranks would go on from
        different steps.

        Raises:
            CheckpointError: `resume` is true and there is none that can be used, or this rank cannot see that of rank 0.
            InputError: There are checkpoints and the run is not to be resumed, or there is no folder to resume from.
        """
        if ranks.is_single:
            return self._found(resume, ranks)
        found: Loaded | None = None
        error: DeepSeekError | None = None
        if ranks.is_main:
            try:
                found = self._found(resume, ranks)
            except DeepSeekError as wrong:
                error = wrong
        step = _FAILED if error is not None else _NONE if found is None else step_of(found.path)
        (step,) = broadcast_message([step], ranks)
        if error is not None:
            raise error
        if ranks.is_main or step == _NONE:
            return found
        if step == _FAILED:
            self._found(resume, ranks)  # which raises what rank 0 has raised, where both see the same
            raise CheckpointError("rank 0 found no checkpoint to go on from, and says why")
        return self._awaited(step, ranks)

    def _awaited(self, step: int, ranks: RankContext) -> Loaded:
        """Return the checkpoint of a step, which rank 0 has seen."""
        path = (self.folder or Path()) / f"step-{step:06d}"
        until = time.monotonic() + SEEN_S
        while not path.is_dir():
            if time.monotonic() > until:
                raise CheckpointError(
                    f"rank {ranks.rank} does not see {path}, from which rank 0 goes on",
                    hint="all ranks have to see the run's folder: put it on a disk that they share",
                )
            time.sleep(_LOOK_S)
        values = check_checkpoint(path)
        return Loaded(path, State.from_json(values["state"]), values)

    def _found(self, resume: bool | Literal["auto"], ranks: RankContext) -> Loaded | None:
        present = list_checkpoints(self.folder) if self.folder else []
        if not resume:
            if present:
                raise InputError(f"{self.folder} has checkpoints already", hint="resume the run, or choose another folder")
            return None
        if self.folder is None:
            raise InputError("a run without a folder cannot be resumed", hint="give the folder of the run")
        if resume == "auto" and not present:
            return None
        path, values, passed = find_latest(self.folder, fall_back=resume == "auto")
        for reason in passed if ranks.is_main else ():
            _LOG.warning("passed over: %s", reason)
        return Loaded(path, State.from_json(values["state"]), values)

    def save(self, trainer: Trainer, carried: Mapping[str, Tensor], exchanged: Mapping[str, Tensor]) -> Path:
        """Begin to write a checkpoint; where the model is in parts, on every rank, else on rank 0 alone.

        What is written is a copy, taken now; the writing goes on beside the training, after that of the checkpoint before.

        Args:
            trainer: What is saved.
            carried: What the network carries from step to step, of all ranks.
            exchanged: What the exchange of gradients keeps from step to step, of all ranks.

        Returns:
            The checkpoint's folder, there once it is whole.

        Raises:
            CheckpointError: The checkpoint before could not be written.
        """
        assert self.folder is not None
        self.wait()
        folder, step, keep, placement = self.folder, trainer.state.step, self.keep, trainer.placement
        tensors, values = self._contents(trainer, carried, exchanged)
        if not placement.shards:
            best = tensors.pop("best")  # a copy already, which no step changes
            taken = {part: {name: snapshot(tensor) for name, tensor in named.items()} for part, named in tensors.items() if named}
            if best:
                taken["best"] = {name: tensor.contiguous() for name, tensor in best.items()}
            self._writing.begin(lambda: save_checkpoint(folder, step, tensors=taken, state=values, keep=keep))
            return folder / f"step-{step:06d}"
        pieces, ranks = pieces_of(placement, tensors), trainer.ranks
        name = f"{broadcast_message([uuid4().int >> 65], ranks)[0]:x}"

        def write() -> None:
            save_part(folder, step, name=name, rank=ranks.rank, pieces=pieces)
            if ranks.is_main:
                finish_parts(folder, step, name=name, ranks=ranks.ranks, state=values, keep=keep)

        self._writing.begin(write)
        return folder / f"step-{step:06d}"

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is whole.

        Raises:
            CheckpointError: It could not be written; those before it are as they were.
        """
        self._writing.wait()

    def abandon(self, error: BaseException) -> None:
        """Wait for what is being written as training ends with an error; a second one is noted with it.

        Args:
            error: Why training ends.
        """
        try:
            self.wait()
        except Exception as also:  # noqa: BLE001 - whatever it is must not take the place of the reason
            if also is not error:
                error.add_note(f"and the checkpoint that was being written could not be: {also}")

    def _contents(
        self, trainer: Trainer, carried: Mapping[str, Tensor], exchanged: Mapping[str, Tensor]
    ) -> tuple[dict[str, Mapping[str, Tensor]], Json]:
        """Return tensors by part and name, and the other values, as they are now."""
        average = trainer.average
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": trainer.model.state_dict(),
            "optimizer": optimizer_tensors(trainer.optimizer, trainer.model),
            "average": average.average if average else {},
            "best": self._best,
            "carried": carried,
            "exchange": exchanged,
            "adaptive": trainer.step.adaptive.state_dict() if trainer.step.adaptive is not None else {},
        }
        values = {
            "state": trainer.state.to_json(),
            "identity": _identity(trainer),
            "average_updates": average.updates if average else 0,
            "schedule": trainer.schedule.state_dict(),
            "precision": trainer.precision.state_dict(),
            "callbacks": [{"type": type(callback).__name__, "state": callback.state_dict()} for callback in trainer.callbacks],
        }
        return tensors, json.loads(json.dumps(values))  # a copy that no step changes

    @torch.no_grad()
    def restore(self, trainer: Trainer, loaded: Loaded) -> None:
        """Put everything back as it was saved.

        Raises:
            CheckpointError: The checkpoint is of another model, other data or another order of rows.
        """
        values, placement = loaded.values, trainer.placement
        kept = values["identity"]
        if kept.get("data") != trainer.data_id:
            raise CheckpointError(
                f"{loaded.path} was trained on other data: the data changed", hint="resume with that run's data, or start a new run"
            )
        wrong = [f"{key} was {kept[key]} and is {now}" for key, now in _identity(trainer).items() if kept[key] != now]
        if wrong:
            raise CheckpointError(f"{loaded.path} belongs to another run: {'; '.join(wrong)}", hint="resume with the settings of that run")
        tensors = read_tensors(loaded.path, cut_for(placement) if placement.shards else None)
        if others := other_revisions(trainer.model.state_dict(), tensors["model"]):
            raise CheckpointError(f"{loaded.path} was written by another version: {'; '.join(others)}", hint="start a new run")
        trainer.model.load_state_dict(tensors["model"])
        load_optimizer(trainer.optimizer, trainer.model, _of_this_rank(trainer, tensors.get("optimizer", {})))
        trainer.step.reset()
        if trainer.average is not None:
            trainer.average.load(tensors["average"], updates=values["average_updates"])
        self._best = tensors.get("best", {})
        carry(trainer.model, tensors.get("carried", {}), own=own_lanes(trainer.loader))
        resume_exchange(trainer.exchange, tensors.get("exchange", {}))
        if trainer.step.adaptive is not None:
            trainer.step.adaptive.load_state_dict(tensors.get("adaptive", {}))
        elif "adaptive" in tensors:
            raise CheckpointError(f"{loaded.path} has histories of gradients", hint="resume with that run's clip and layer_rates")
        trainer.schedule.load_state_dict(values["schedule"])
        trainer.precision.load_state_dict(values["precision"])
        for callback, saved in zip(trainer.callbacks, _matching(trainer, values["callbacks"]), strict=True):
            callback.load_state_dict(saved)
        if placement.rows.is_main:  # the sums are over all ranks that share out rows: one of them takes them up
            trainer.step.numerator.fill_(loaded.state.loss_sum[0])
            trainer.step.denominator.fill_(loaded.state.loss_sum[1])
        trainer.guard.checked, trainer.guard.checkpoint = loaded.state.step, loaded.path


def _identity(trainer: Trainer) -> Json:
    """Return what must be the same for a resume to be exact."""
    return {
        "data": trainer.data_id,
        "rows": len(trainer.train),
        "batch_size": trainer.settings.batch_size,
        "seed": trainer.settings.seed,
        "optimizer": type(trainer.optimizer_spec).__name__,
        "averaged": trainer.average is not None,
        "parameters": trainer.placement.shapes(),
    }


def pieces_of(placement: Placement, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, tuple[Tensor, Piece]]]:
    """Return copies of what a rank is to write, with where each piece lies in the whole.

    Args:
        placement: How the model is shared out.
        tensors: This rank's parts, by part of the checkpoint and name.
    """
    found: dict[str, dict[str, tuple[Tensor, Piece]]] = {}
    for part, named in tensors.items():
        for key, tensor in named.items():
            piece = placement.piece(_parameter_of(part, key))
            if piece is None:
                continue
            if tuple(tensor.shape) != piece.size:  # an optimizer's count of steps, which is of the parameter as a whole
                if any(piece.start):
                    continue
                piece = Piece.whole(tensor.shape)
            if tensor.numel() or not math.prod(piece.shape):
                found.setdefault(part, {})[key] = (snapshot(tensor), piece)
    return found


def cut_for(placement: Placement) -> Cut:
    """Return what keeps of each whole tensor of a checkpoint what this rank has.

    Args:
        placement: How the model is shared out.
    """
    return lambda part, key, whole: placement.local(_parameter_of(part, key), whole)


def _parameter_of(part: str, key: str) -> str:
    return key.rpartition("/")[0] if part == "optimizer" else key


def _of_this_rank(trainer: Trainer, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Leave out the optimizer's state for parameters that another rank has."""
    if not trainer.placement.shards:
        return tensors
    known = trainer.placement.shapes()
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    return {key: tensor for key, tensor in tensors.items() if (name := _parameter_of("optimizer", key)) not in known or name in trained}


def _matching(trainer: Trainer, saved: list[Json]) -> list[Json]:
    """Return the saved state of each callback, in the trainer's order; none for one that was not there, or has changed."""
    left = list(saved)
    states: list[Json] = []
    for callback in trainer.callbacks:
        entry = next((item for item in left if item["type"] == type(callback).__name__), None)
        if entry is not None:
            left.remove(entry)
        states.append(entry["state"] if entry else callback.state_dict())
    return states

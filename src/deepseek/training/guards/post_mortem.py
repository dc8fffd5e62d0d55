"""What made the numbers break: the steps since the last good state once more, looked at closely.

The step itself pays nothing for this. Batches, their random changes and dropout are functions of (seed, step), so that the steps from the
last checkpoint (or from the first weights, as long as there is none) come out as they did; each is looked at, and the first whose loss or
weights are no numbers is taken apart: which layer gave the first NaN or infinity, and on which rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deepseek import progress
from deepseek.artifacts import write_json
from deepseek.data.batch import Batch
from deepseek.errors import DeepSeekError, NonFiniteError
from deepseek.optim.in_place import global_norm
from deepseek.registry import family
from deepseek.training.carried import carried_of, carry
from deepseek.training.memory.recomputation import keep_activations

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer

FILE = "nonfinite.json"
SHOWN_ROWS = 10
KEPT_BYTES = 1 << 28
"""First weights up to this size are kept until there is a checkpoint to go back to."""


@dataclass(frozen=True)
class Finding:
    """What was found of a step whose numbers broke.

    Attributes:
        step: The step, counted from 1.
        what: What was the first to be NaN or infinite, in words.
        rows: The rows of its batch, as they are counted in the source where that is known, else among the training rows.
        bad_rows: Those of them whose numbers broke; empty where all or none of them stand out.
        layer: The layer that gave the first NaN or infinity, by its name in the network; none where the forward pass was sound.
    """

    step: int
    what: str
    rows: list[int]
    bad_rows: list[int]
    layer: str | None

    def __str__(self) -> str:
        named = self.bad_rows or self.rows
        more = f" and {len(named) - SHOWN_ROWS} more" if len(named) > SHOWN_ROWS else ""
        whose = "rows" if self.bad_rows else "the batch of rows"
        return f"step {self.step} was the first: {self.what}, {whose} {', '.join(map(str, named[:SHOWN_ROWS]))}{more}"


@contextmanager
def explained(trainer: Trainer) -> Iterator[None]:
    """Say of a NaN that ends the block where it came from.

    Raises:
        NonFiniteError: As it was raised, and with what the steps show when they are made again.
    """
    try:
        yield
    except NonFiniteError as error:
        if trainer.guard.broken is None:
            raise
        try:
            finding = investigate(trainer)
        except (DeepSeekError, RuntimeError, MemoryError) as failure:
            progress.warn(f"the steps before the NaN could not be made again: {str(failure).splitlines()[0]}")
            raise error from None
        if finding is None:
            raise
        if trainer.folder is not None:
            write_json(trainer.folder / FILE, {**asdict(finding), "message": error.message})
        raise NonFiniteError(f"{error.message}; {finding}", hint=error.hint) from error


def first_weights(trainer: Trainer) -> dict[str, Tensor]:
    """Return copies of a network's first weights, to go back to as long as there is no checkpoint; none of a network that is large."""
    state = trainer.model.state_dict()
    if not trainer.ranks.is_single or sum(tensor.nbytes for tensor in state.values()) > KEPT_BYTES:
        return {}
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}


def investigate(trainer: Trainer) -> Finding | None:
    """Go back to the last good state of a run of one rank, make its steps again, and take the first broken one apart.

    Returns:
        What was found; nothing where there is no state to go back to, or nothing breaks this time.
    """
    assert trainer.guard.broken is not None
    last, kept = trainer.guard.broken[1], trainer.state
    trainer.state = copy.copy(kept)
    trainer.state.decisions = {**kept.decisions, "compile": "off"}  # one step after the other, and nothing fused
    try:
        if not trainer.ranks.is_single or not _rewind(trainer):
            return None
        progress.log(f"going back to step {trainer.state.step} to see which step broke")
        return _first_broken(trainer, last)
    finally:
        trainer.state = kept


def _rewind(trainer: Trainer) -> bool:
    """Put a run back to its last good state, in plain steps; return whether there is one."""
    first, checkpoint = trainer.guard.first_weights, trainer.guard.checkpoint
    if checkpoint is None and not first:
        return False
    if checkpoint is None:
        trainer.model.load_state_dict(first)
        trainer.schedule = family("schedule").build(trainer.settings.schedule)  # one that follows a metric has no state yet
        trainer.rewind(0)
        carry(trainer.model, {name: torch.zeros_like(tensor) for name, tensor in _carried(trainer).items()})
    else:
        trainer.keeper.wait()  # it may still be under way
        loaded = trainer.keeper.find(True, trainer.ranks)
        assert loaded is not None, "a checkpoint that is sought is found, or an error says why not"
        trainer.rewind(loaded.state.step)
        trainer.keeper.restore(trainer, loaded)
    keep_activations(trainer.model)
    trainer.step.numerator.zero_()
    return True


def _first_broken(trainer: Trainer, last: int) -> Finding | None:
    model = trainer.model
    validated = {int(entry["step"]): entry for entry in trainer.state.history if trainer.monitor in entry}
    while trainer.state.step < last:
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        carried = {name: tensor.clone() for name, tensor in _carried(trainer).items()}
        batch = trainer.replay()
        if not (_is_finite(trainer.step.numerator) and bool(torch.isfinite(global_norm([*model.parameters()])))):
            model.load_state_dict(before)
            carry(model, carried)
            return _taken_apart(trainer, batch)
        trainer.state.step += 1
        if entry := validated.get(trainer.state.step):  # nothing is validated again: what was found then is known
            trainer.schedule.observe(entry[trainer.monitor], higher_is_better=trainer.higher_is_better)
    return None


def _carried(trainer: Trainer) -> dict[str, Tensor]:
    """Return what a network that reads lanes of text remembers: as much a part of where a run stands as its weights are."""
    return carried_of(trainer.model, trainer.loader.dataset.batch_rows, trainer.ranks)


def _taken_apart(trainer: Trainer, batch: Batch) -> Finding:
    """Run the network on a step's batch once more, and watch every layer."""
    model, task = trainer.model, trainer.task
    trainer.begin(trainer.state.step)
    found: list[tuple[str, Tensor]] = []
    with _watching(model, found), torch.enable_grad():
        numerator, _ = trainer.precision.wrap(lambda rows: task.loss(model(rows.inputs), rows))(batch)
    rows = _source_rows(trainer, batch)
    layer: str | None = None
    bad: list[int] = []
    if found:
        layer, bad = found[0][0], _bad_rows(found[0][1], rows)
        given = [name for name, tensor in batch.inputs.items() if not _is_finite(tensor) and set(_bad_rows(tensor, rows)) >= set(bad)]
        because = f", and the input {given[0]!r} holds some" if given and bad else ""
        what = f"the layer {layer!r} is the first to give NaN or infinity{because}"
    elif not _is_finite(numerator.detach()):
        what = "the loss is NaN or infinite, and no layer's output"
    else:
        what = f"the loss is a number, and {_broken_gradient(model, numerator)}"
    return Finding(trainer.state.step + 1, what, rows, bad, layer)


@contextmanager
def _watching(model: nn.Module, found: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Note every layer that gives a NaN or an infinity, in the order in which they do."""

    def look(name: str) -> Any:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            broken = next((leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor) and not _is_finite(leaf)), None)
            if broken is not None:
                found.append((name, broken.detach()))

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _broken_gradient(model: nn.Module, numerator: Tensor) -> str:
    """Say which gradient is the first, from the outputs backwards, that is not finite."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(numerator, [parameter for _, parameter in named], allow_unused=True)
    broken = [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is not None and not _is_finite(gradient)]
    return f"the gradient of {broken[-1]!r} is not" if broken else "the step of the optimizer makes a weight that is not"


def _bad_rows(tensor: Tensor, rows: list[int]) -> list[int]:
    """Return the rows in which a batch's tensor is not finite; none where its first axis is not that of the rows, or all of them are."""
    if not tensor.ndim or len(tensor) != len(rows):
        return []
    broken = (~torch.isfinite(tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(1))).any(dim=1).tolist()
    bad = [row for row, is_bad in zip(rows, broken, strict=True) if is_bad]
    return bad if len(bad) < len(rows) else []


def _source_rows(trainer: Trainer, batch: Batch) -> list[int]:
    if batch.row is None:
        return list(range(len(batch)))
    places = batch.row.cpu().numpy()
    return [int(row) for row in (trainer.train.source_numbers(places) if trainer.loader.dataset is trainer.train else places)]


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())

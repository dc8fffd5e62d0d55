"""Which strategy shares a model out among the ranks, and what does not go with it: settled before the first step."""

from __future__ import annotations

import torch
from torch import nn

from deepseek.data.batch import Batch
from deepseek.distributed import RankContext
from deepseek.distributed.strategies import Placement, Situation, Strategy
from deepseek.errors import InputError
from deepseek.optim import OptimizerSpec
from deepseek.registry import family, split_spec
from deepseek.training.autotune import choose_batch_size
from deepseek.training.carried import remembering
from deepseek.training.communication import is_plain
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Json
from deepseek.training.step import Loss

NOT_IN_PARTS: Json = {"channels_last": False, "activation_checkpointing": 0}
"""What a run that goes on with a model in parts takes back of what was decided for a whole one: it changes no result."""
_HINT = "take strategy: ddp"


def situation_of(ranks: RankContext, row: Batch, spec: OptimizerSpec, *, batch_rows: int = 0) -> Situation:
    """Return what a model is placed in.

    Args:
        ranks: This process's place in the job.
        row: One training row, on the processor.
        spec: The optimizer, whose state takes memory.
        batch_rows: Rows of the global batch, where they are known.
    """
    factor = 0 if ranks.is_single else state_factor_of(spec)
    return Situation(ranks=ranks, row=row, batch_rows=batch_rows, state_factor=factor)


def state_factor_of(spec: OptimizerSpec) -> int:
    """Return how many numbers an optimizer keeps for each that it trains, found out by a step of it on two numbers."""
    tried = nn.Parameter(torch.zeros(2))
    optimizer = spec.build([{"params": [tried]}])
    tried.grad = torch.ones(2)
    optimizer.step()
    return sum(value.numel() for value in optimizer.state[tried].values() if isinstance(value, torch.Tensor) and value.ndim) // 2


def choose_strategy(settings: TrainSettings, model: nn.Module, situation: Situation) -> tuple[Strategy, str, str]:
    """Return the strategy, its name, and why it is this one.

    Args:
        settings: How is to be trained.
        model: The whole model.
        situation: What it is placed in.

    Raises:
        InputError: Something that is asked for does not go with it.
    """
    registry = family("strategy")
    if situation.ranks.is_single:
        return registry.build("ddp"), "ddp", "there is one rank"
    named: Strategy = registry.build(settings.strategy)
    strategy, why = named.choose(model, situation)
    name = next((one for one in registry.names() if registry.get(one) is type(strategy)), type(strategy).__name__)
    refuse(strategy, name, settings=settings, model=model)
    return strategy, name, why


def strategy_note(settings: TrainSettings, ranks: RankContext, *, name: str, why: str) -> str:
    """Return what is to be said of how the model is shared out; nothing where one device was meant to have all of it.

    Args:
        settings: How is to be trained.
        ranks: This process's place in the job.
        name: The strategy that was chosen.
        why: Why it is this one.
    """
    if not ranks.is_single:
        return f"{ranks.ranks} devices, strategy {name}: {why.removeprefix(f'{name}: ')}"
    asked = "auto" if settings.strategy == "auto" else split_spec("strategy", settings.strategy)[0]
    if asked in ("auto", name):
        return ""
    return f"strategy {asked} has nothing to share out on one device, which has the whole model; train.devices says how many there are"


def refuse(strategy: Strategy, name: str, *, settings: TrainSettings, model: nn.Module) -> None:
    """Refuse what does not go with a strategy that gives a rank a part of the model.

    Raises:
        InputError: Something does not, with what to change.
    """
    if strategy.whole:
        return
    against = {
        f"compile: {settings.compile}": settings.compile != "off",
        "fine_tune": settings.fine_tune is not None,
        "channels_last": settings.channels_last is True,
        "activation_checkpointing": settings.activation_checkpointing not in ("off", "auto"),
        "train.clip, which looks at all gradients at once; clip_norm and clip_value do": settings.clip is not None,
        "train.layer_rates": settings.layer_rates is not None,
        "train.communication, as it sums gradients by itself": not is_plain(settings.communication),
        f"shares: {settings.shares}": settings.shares != "equal" and (name != "fsdp" or settings.shares == "auto"),
        "a network that remembers": any(remembering(model)),
        f"accumulate: {settings.accumulate}, as it has micro_batches of its own": settings.accumulate > 1 and name == "pipeline",
        "max_norm, the norm of a row of which a rank has a part": settings.max_norm is not None and name == "tensor",
    }
    if found := [what for what, there in against.items() if there]:
        raise InputError(f"strategy: {name} does not go with {'; nor with '.join(found)}", hint=f"{_HINT}, or leave that out")
    if settings.precision != "auto":
        require_format(strategy, name, settings.precision)


def require_rows(placement: Placement, name: str) -> None:
    """Refuse a placement that shares out rows among some of the ranks: what is summed over rows is summed over all ranks.

    Raises:
        InputError: It does.
    """
    rows, ranks = placement.rows, placement.ranks
    if not rows.is_single and (rows.rank, rows.ranks) != (ranks.rank, ranks.ranks):
        raise InputError(
            f"strategy: {name} shares out rows among {rows.ranks} of {ranks.ranks} ranks", hint=f"allowed: all of them, or none; or {_HINT}"
        )


def require_format(strategy: Strategy, name: str, precision: str) -> None:
    """Refuse a number format that a strategy does not bear.

    Raises:
        InputError: It does not, with those that it does.
    """
    if precision not in strategy.formats:
        allowed = ", ".join(sorted(strategy.formats))
        raise InputError(f"strategy: {name} does not go with precision: {precision}", hint=f"allowed with it: {allowed}; or {_HINT}")


def decide_unmeasured(settings: TrainSettings, model: nn.Module, loss: Loss, *, spec: OptimizerSpec, rows: int) -> Json:
    """Return what `auto` settings come to where nothing can be measured, as no device has the whole model.

    Args:
        settings: How is to be trained.
        model: The model, on the processor.
        loss: As for `TrainingStep`.
        spec: The optimizer.
        rows: The training rows.
    """
    size: Json = {"batch_size": settings.batch_size}
    if settings.batch_size == "auto":

        def none(count: int) -> Batch:
            raise AssertionError(f"nothing is measured with {count} rows on a processor")

        chosen = choose_batch_size(none, model, loss, spec=spec, rows=rows)
        size = {"batch_size": chosen["batch_size"], "batch_size_reason": chosen["reason"]}
    precision = "fp32" if settings.precision == "auto" else settings.precision
    reason = "nothing is measured where no device has the whole model"
    return {**size, "precision": precision, **NOT_IN_PARTS, "compile": "off", "step_limit": 0, "reason": reason}

"""Memory for time: what the backward pass wants of a network's repeated blocks is reckoned again instead of kept.

A block keeps its input alone, and runs a second time when its gradients are due (Chen et al., "Training Deep Nets with Sublinear Memory
Cost", 2016, https://arxiv.org/abs/1604.06174; `torch.utils.checkpoint` without re-entry). The second run draws the random numbers of the
first one, and leaves running statistics alone, which have taken the batch in already: gradients and weights are the same bit for bit.

A block is told to by its class, not by a wrapper around it: names of parameters, checkpoints and bundles stay what they are, and so does a
copy of the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any, cast

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from deepseek.errors import InputError
from deepseek.models.blocks import CHAINS


class RecomputedBlock(nn.Module):
    """What a block becomes whose activations are reckoned again; its other base says what it does."""


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return a network's repeated blocks, in the order in which its modules were made.

    A block is a layer of layers that stands in a chain (`nn.ModuleList`, `nn.Sequential`) and is not the only one of its class that does;
    of blocks inside of blocks the outer ones count. A chain of single layers is a block, one of blocks is not.

    Args:
        model: The network.

    Example:
        >>> layer = lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> len(repeated_blocks(nn.ModuleDict({"layers": nn.ModuleList([layer(), layer()]), "head": nn.Linear(2, 1)})))
        2
    """
    found = list(dict.fromkeys(_outermost(model, chained=False)))
    counted = Counter(type(block) for block in found)
    return [block for block in found if counted[type(block)] > 1]


def recompute_activations(model: nn.Module, every: int) -> list[nn.Module]:
    """Have repeated blocks of a network reckon their activations again while it trains; return those that do.

    Args:
        model: The network; changed in place, until `keep_activations`.
        every: 1 for every block, 2 for every second one, and so on.

    Raises:
        InputError: The network has no repeated blocks, or fewer than `every`.
    """
    blocks = repeated_blocks(model)
    if not blocks:
        raise InputError(
            f"activation_checkpointing: {every} needs repeated blocks, and {_name(model)} has none",
            hint="take activation_checkpointing: off, and accumulate to save memory",
        )
    chosen = blocks[every - 1 :: every]
    if not chosen:
        raise InputError(
            f"activation_checkpointing: {every} needs as many blocks, and {_name(model)} has {len(blocks)}",
            hint=f"allowed: 1 to {len(blocks)}",
        )
    for block in chosen:
        kind: Any = type(block)
        _become(block, _recomputed(kind))
    return chosen


def keep_activations(model: nn.Module) -> None:
    """Undo `recompute_activations`."""
    for module in model.modules():
        if isinstance(module, RecomputedBlock):
            _become(module, type(module).__bases__[1])


def apply_recomputation(model: nn.Module, every: int) -> None:
    """Have every so many of a network's blocks reckon their activations again, as `recompute_activations` does; with 0, none.

    Args:
        model: The network; changed in place.
        every: 1 for every block, 2 for every second one, and so on; 0 for none.
    """
    keep_activations(model)
    if every:
        recompute_activations(model, every)


def _become(module: Any, kind: type) -> None:
    module.__class__ = kind


def _name(model: nn.Module) -> str:
    return f"the network {type(getattr(model, 'network', model)).__name__}"


def _outermost(module: nn.Module, *, chained: bool) -> Iterator[nn.Module]:
    for child in module.children():
        chain = isinstance(child, CHAINS)
        if chained and next(child.children(), None) is not None and not (chain and any(map(_has_layers, child.children()))):
            if next(child.parameters(), None) is not None:
                yield child
        else:
            yield from _outermost(child, chained=chain)


def _has_layers(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


@cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        run: Callable[..., Any] = partial(kind.forward, self)
        if not (self.training and is_grad_enabled()):
            return run(*args, **kwargs)
        return cast("Any", checkpoint)(run, *args, use_reentrant=False, context_fn=partial(_contexts, self), **kwargs)

    # the same name: what goes by the name of a class (decay, reports) must not change with how memory is saved
    made = type(kind.__name__, (RecomputedBlock, kind), {"forward": forward, "__doc__": kind.__doc__, "__module__": kind.__module__})
    return cast("type[nn.Module]", made)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_left_alone(block)


@contextmanager
def _statistics_left_alone(block: nn.Module) -> Iterator[None]:
    """Let the second run of a block write into copies of its running statistics."""
    normalisations = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept: list[tuple[nn.Module, str, Tensor]] = [(module, *named) for module in normalisations for named in module.named_buffers()]
    for module, name, buffer in kept:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)

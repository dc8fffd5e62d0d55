"""A network from its input upwards, in blocks: what fine-tuning freezes, unfreezes and gives learning rates of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import nn

CHAINS = (nn.ModuleList, nn.Sequential)
"""What holds modules one behind the other."""


@dataclass
class Block:
    """One block of a network.

    Attributes:
        names: The modules that it is made of, as the network names them.
        parameters: Their parameters.
    """

    names: list[str] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)

    def add(self, name: str, parameters: list[nn.Parameter]) -> None:
        """Take in a module."""
        self.names.append(name)
        self.parameters += parameters


def blocks_of(module: nn.Module) -> list[Block]:
    """Return a network's parameters in blocks, each once, in the order in which its modules were made.

    A layer of layers (a residual block, a Transformer's layer, the embedding of tokens) is a block. Single layers between them, such as a
    last normalisation, belong to the block before them, and parameters of the network itself to the first. A chain (`nn.ModuleList`,
    `nn.Sequential`) of such layers is opened, and so is a module that holds nothing else; one of single layers is a block.

    Args:
        module: The network.

    Example:
        >>> layer = lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> net = nn.ModuleDict({"first": nn.Linear(2, 2), "layers": nn.ModuleList([layer(), layer()]), "norm": nn.LayerNorm(2)})
        >>> [block.names for block in blocks_of(net)]
        [['first'], ['layers.0'], ['layers.1', 'norm']]
    """
    blocks: list[Block] = []
    seen: set[nn.Parameter] = set()

    def take(name: str, parameters: Iterable[nn.Parameter], *, into: int | None) -> None:
        own = [parameter for parameter in parameters if parameter not in seen]  # tied ones belong where they come first
        if not own:
            return
        seen.update(own)
        if into is None or not blocks:
            blocks.append(Block())
        blocks[-1 if into is None else into].add(name, own)

    for name, part in _parts(module, ""):
        take(name, part.parameters(), into=None if _children(part) else -1)
    take("", module.parameters(), into=0)
    return blocks


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in _children(module).items():
        path = f"{prefix}{name}"
        inner = _children(child)
        alone = next(iter(inner.values())) if len(inner) == 1 else None
        opened = isinstance(child, CHAINS) or (isinstance(alone, CHAINS) and not [*child.parameters(recurse=False)])
        if opened and inner and all(_children(one) for one in inner.values()):
            yield from _parts(child, f"{path}.")
        else:
            yield path, child


def _children(module: nn.Module) -> dict[str, nn.Module]:
    """Return the modules directly below that have parameters."""
    return {name: child for name, child in module.named_children() if next(child.parameters(), None) is not None}

"""Strategies that break their contract: in a module, so that a fresh process can import them."""

from __future__ import annotations

from deepseek.distributed.strategies import Piece, Placement, Strategy
from deepseek.distributed.strategies.ddp import DataParallel
from deepseek.distributed.strategies.fsdp import FullySharded


class Forgets(Strategy):
    """Lets every rank begin with weights of its own."""

    whole = True

    def place(self, model, situation, /):
        return Placement(model, situation.ranks)


class Doubles(FullySharded):
    """Has each rank write down its part as if it were all there is of it."""

    def place(self, model, situation, /):
        placement = super().place(model, situation)
        piece = placement.piece

        def from_the_start(name):
            found = piece(name)
            return None if found is None else Piece(found.shape, (0,) * len(found.shape), found.size)

        placement.piece = from_the_start
        return placement


class Thaws(DataParallel):
    """Trains what is not to be trained, in the end."""

    def place(self, model, situation, /):
        placement = super().place(model, situation)
        placement.gather = lambda: model.requires_grad_(True) and None
        return placement

"""Strategies: how the ranks of a job share out a model. Each is a component of the family `strategy`."""

from deepseek.distributed.strategies.base import Piece, Placement, Situation, Strategy
from deepseek.distributed.strategies.chain import Chained

__all__ = ["Chained", "Piece", "Placement", "Situation", "Strategy"]

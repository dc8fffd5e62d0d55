"""Where the work runs: devices, precision, ranks and what they tell each other."""

from deepseek.distributed.devices import limit_threads, pick_device
from deepseek.distributed.launch import die_with_parent, join_group, launch
from deepseek.distributed.precision import Precision, make_precision
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.sync import GradientSync, broadcast_, broadcast_message, broadcast_numbers, largest_across, sum_across

__all__ = [
    "GradientSync",
    "Precision",
    "RankContext",
    "broadcast_",
    "broadcast_message",
    "broadcast_numbers",
    "die_with_parent",
    "join_group",
    "largest_across",
    "launch",
    "limit_threads",
    "make_precision",
    "pick_device",
    "sum_across",
]

"""Statistics of streams in constant memory, on plain NumPy arrays: moments, quantile samples, most-common counts, seen hashes."""

from deepseek.statistics.counts import TopCounts
from deepseek.statistics.moments import Moments
from deepseek.statistics.sample import QuantileSample, mix64
from deepseek.statistics.seen import SeenHashes

__all__ = ["Moments", "QuantileSample", "SeenHashes", "TopCounts", "mix64"]

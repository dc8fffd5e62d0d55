"""Statistics on plain NumPy arrays: streams in constant memory, comparisons of samples and of models, intervals, associations."""

from deepseek.statistics.counts import TopCounts
from deepseek.statistics.distinct import DistinctCount
from deepseek.statistics.moments import Moments
from deepseek.statistics.sample import QuantileSample, mix64
from deepseek.statistics.seen_hashes import SeenHashes

__all__ = ["DistinctCount", "Moments", "QuantileSample", "SeenHashes", "TopCounts", "mix64"]

"""Black-box search: spaces of settings, ways of searching them, and studies that survive interruptions and are shared by processes.

Nothing here knows about models or recipes: a study proposes points, and takes values. The engine is Optuna (Akiba et al., 2019,
https://arxiv.org/abs/1907.10902), an optional library: it is imported when a study is opened.
"""

from deepseek.search.base import Pruner, Search
from deepseek.search.bayesian import BayesianOptimizer, SearchResult
from deepseek.search.space import Choice, Dimension, Float, Integer, Space, parse_space
from deepseek.search.study import Study
from deepseek.search.trial import Trial, TrialRecord, TrialState

__all__ = [
    "BayesianOptimizer",
    "Choice",
    "Dimension",
    "Float",
    "Integer",
    "Pruner",
    "Search",
    "SearchResult",
    "Space",
    "Study",
    "Trial",
    "TrialRecord",
    "TrialState",
    "parse_space",
]

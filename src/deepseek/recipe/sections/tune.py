"""The section `tune`: which keys are searched for better values."""

from __future__ import annotations

from typing import Any, Literal

from deepseek.recipe.quantities import Duration, Flag
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import Count, PrunerSpec, SearchSpec, Seed, Text


class TuneSection(Section):
    """Which keys of the recipe are searched for better values, and how."""

    trials: Count = 20
    """How many trials there are in all; the first is the recipe as it is."""
    over: dict[Text, Any] = {}
    """By a key's path its range `[low, high]`, a list of choices, or a mapping (`low`, `high`, `log`, `step`; or `choices`); a space for
    the model at hand where not given."""
    search: SearchSpec = "tpe"
    """How the next point is proposed."""
    pruner: PrunerSpec = {"type": "median", "warmup_steps": 4}
    """When a trial that promises too little is given up."""
    metric: Text | None = None
    """The validation metric that trials are compared by; the monitored one where not given."""
    storage: Text | None = None
    """Where the study is kept: a file or the URL of a database; `study.db` in the search's folder where not given."""
    workers: Count = 1
    """Processes that work on the study at the same time."""
    time_limit: Duration | None = None
    """Time after which no further trial begins."""
    seed: Seed | None = None
    """Seed of the search; the recipe's where not given."""
    vary_seed: Flag = False
    """Whether every trial trains with a seed of its own, instead of the recipe's."""
    keep: Literal["nothing", "metrics", "everything"] = "metrics"
    """What stays of the trials that are not the best: nothing, all but weights, or everything."""

"""The sections of a recipe as types: every key, its range and its default.

Keys that name a component hold a validated spec: a mapping of `type` and every argument, ready for `Registry.build`. `auto` stands until
the pipeline has decided; it then enters the decision with its reason (`Recipe.with_decisions`).
"""

from deepseek.recipe.sections.base import Section
from deepseek.recipe.sections.cluster import ClusterSection
from deepseek.recipe.sections.compress import CompressSection, QuantizeSection
from deepseek.recipe.sections.data import DataSection, SplitSection, SuspectsSection
from deepseek.recipe.sections.fine_tune import AdaptersSection, AllButLastSection, FineTuneSection
from deepseek.recipe.sections.learn import LearnSection, LiveSection
from deepseek.recipe.sections.loop import CanarySection, FreshRowsSection, OnAlarmSection, OnlineSection, ShadowSection
from deepseek.recipe.sections.monitor import AlarmSection, MonitorSection, WindowSection
from deepseek.recipe.sections.self_training import SelfTrainingSection
from deepseek.recipe.sections.serve import BatchingSection, ExperimentSection, GuardSection, ServeSection
from deepseek.recipe.sections.train import CheckpointSection, EarlyStoppingSection, TrainSection
from deepseek.recipe.sections.tune import TuneSection
from deepseek.recipe.sections.whole import RecipeSections

__all__ = [
    "AdaptersSection",
    "AlarmSection",
    "AllButLastSection",
    "BatchingSection",
    "CanarySection",
    "CheckpointSection",
    "ClusterSection",
    "CompressSection",
    "DataSection",
    "EarlyStoppingSection",
    "ExperimentSection",
    "FineTuneSection",
    "FreshRowsSection",
    "GuardSection",
    "LearnSection",
    "LiveSection",
    "MonitorSection",
    "OnAlarmSection",
    "OnlineSection",
    "QuantizeSection",
    "RecipeSections",
    "Section",
    "SelfTrainingSection",
    "ServeSection",
    "ShadowSection",
    "SplitSection",
    "SuspectsSection",
    "TrainSection",
    "TuneSection",
    "WindowSection",
]

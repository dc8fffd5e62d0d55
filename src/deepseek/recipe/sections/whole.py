"""A recipe whole: every section under its key."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deepseek.recipe.sections.base import Section
from deepseek.recipe.sections.cluster import ClusterSection
from deepseek.recipe.sections.compress import CompressSection
from deepseek.recipe.sections.data import DataSection
from deepseek.recipe.sections.fine_tune import FineTuneSection
from deepseek.recipe.sections.learn import LearnSection
from deepseek.recipe.sections.monitor import MonitorSection
from deepseek.recipe.sections.self_training import SelfTrainingSection
from deepseek.recipe.sections.serve import ServeSection
from deepseek.recipe.sections.train import TrainSection
from deepseek.recipe.sections.tune import TuneSection
from deepseek.recipe.values import AUTO, ExporterSpec, ModelSpec, Seed, TaskSpec, Text


class RecipeSections(Section):
    """A recipe: one file that says everything about a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = "run"
    """The run's name, which its folder bears; the recipe's file name where not given."""
    seed: Seed = 0
    """Seed of everything random."""
    plugins: list[Text] = []
    """Python files (relative to the recipe) and modules whose components the recipe names."""
    data: DataSection
    """Where rows come from and how they become arrays."""
    task: TaskSpec = AUTO
    """What the network is trained for."""
    model: ModelSpec = AUTO
    """The network."""
    train: TrainSection = TrainSection()
    """How the network is trained."""
    cluster: ClusterSection | None = None
    """Who starts the processes that train together; null for one machine."""
    fine_tune: FineTuneSection | None = None
    """How the pre-trained parts of the network are trained."""
    tune: TuneSection | None = None
    """Which keys are searched for better values, by `deepseek tune`."""
    compress: CompressSection | None = None
    """How the trained model is made smaller and faster."""
    export: list[ExporterSpec] = []
    """What the trained model is exported to; `auto` measures which backend is fastest."""
    serve: ServeSection | None = None
    """How the model is served, by `deepseek serve`."""
    monitor: MonitorSection | None = None
    """How the model is watched in production."""
    learn: LearnSection | None = None
    """How a model learns from a stream, by `deepseek learn`."""
    self_training: SelfTrainingSection | None = None
    """How rows without a label are learned from."""

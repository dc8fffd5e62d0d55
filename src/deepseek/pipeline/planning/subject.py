"""What is planned: the network, the step and the rows that a recipe comes to, built as a run builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from deepseek.data.augment import build_augmentations
from deepseek.data.batch import Batch
from deepseek.data.loader import Loader, rows_within
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext
from deepseek.inference import build_model
from deepseek.pipeline.fitting import EVALUATION_ROWS, known_of
from deepseek.pipeline.preparing.dataset import Dataset
from deepseek.pipeline.run import MEASURED, settings_of
from deepseek.recipe import AUTO, Recipe
from deepseek.registry import Spec, family
from deepseek.tasks.model import TaskModel
from deepseek.training import Trainer, TrainSettings
from deepseek.training.batch_dependence import least_rows
from deepseek.training.decisions import rows_like, ways_of
from deepseek.training.evaluation import LEAST_TOGETHER
from deepseek.training.memory.recomputation import apply_recomputation
from deepseek.training.state import kept_generators, seed_generators

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """A recipe's run, built and not begun.

    Attributes:
        recipe: The resolved recipe.
        dataset: The prepared data.
        settings: The trainer's settings, for one device.
        model: The network, on the processor, everything in it trained that will be.
        trainer: What would train it.
        splits: The prepared rows by split.
        exchange: How several devices would sum their gradients, with its settings.
    """

    recipe: Recipe
    dataset: Dataset
    settings: TrainSettings
    model: TaskModel
    trainer: Trainer
    splits: dict[str, PreparedDataset]
    exchange: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def rows(self) -> PreparedDataset:
        """The training rows, as they are trained on."""
        return self.model.task.training_rows(self.splits["train"], batch_size=self._asked_rows)

    @cached_property
    def loader(self) -> Loader:
        """The batches of an epoch, on one device."""
        task, least = self.model.task, self.least_rows if self.least_rows > 1 else 0
        return Loader(self.rows, seed=self.settings.seed, batch_size=self._asked_rows, least=least, resample=task.resample)

    @property
    def batch_size(self) -> int:
        """The rows of a global batch."""
        return min(self.loader.batch_size, max(self.loader.length, 1))

    @property
    def least_rows(self) -> int:
        """The fewest rows that may be computed at once."""
        return least_rows(self.model)

    @property
    def part_rows(self) -> int:
        """How many rows of a batch are computed at once."""
        return max(-(-self.batch_size // self.settings.accumulate), min(self.least_rows, self.batch_size))

    @property
    def _asked_rows(self) -> int:
        size = self.settings.batch_size
        return size if isinstance(size, int) else 1

    def batch(self, rows: int, *, longest: bool = False) -> Batch:
        """Return a batch of training rows of the usual length, or of the longest."""
        return self.rows.take(rows_like(self.rows, rows, longest=longest))

    @property
    def answered_rows(self) -> int:
        """How many rows are answered at once where the most are: while validating, or when the finished model is measured."""
        found = []
        for name in MEASURED:
            if name in self.splits:
                rows = self.model.task.measured_rows(self.splits[name])
                most = [rows_within(rows, EVALUATION_ROWS)]
                if name == "validation":
                    most.append(max(self.batch_size, rows_within(rows, LEAST_TOGETHER)))
                found.append(min(max(most), len(rows)))
        return max(found, default=0)

    def measured_ways(self, device: torch.device | None) -> int:
        """Return how many ways of running the step a run tries on copies before it begins; 0 where there is nothing to choose.

        Args:
            device: Where it will run; none for an accelerator that is not here.
        """
        ways = ways_of(self.settings, self.model, device)
        return len(ways) if len(ways) > 1 else 0


def subject_of(recipe: Recipe, dataset: Dataset, *, communication: Spec = AUTO) -> Subject:
    """Build what a resolved recipe comes to, and train nothing.

    Args:
        recipe: The resolved recipe; its `train.devices` is 1, since devices are planned and not used.
        dataset: What its `data` section came to.
        communication: How several devices would sum their gradients.

    Raises:
        InputError: Model, task and settings do not fit together.
    """
    settings, preparation = settings_of(recipe), dataset.preparation()
    given: Any = (recipe.model, recipe.task, recipe.data.augment or ())
    splits = {name: rows for name in ("train", "validation", "test") if (rows := dataset.open(name)) is not None}
    with kept_generators(CPU):
        seed_generators(settings.seed, CPU)
        model = build_model(preparation, dict(given[0]), dict(given[1]))
        trainer = Trainer(
            model,
            model.task,
            splits["train"],
            splits.get("validation"),
            settings=settings,
            augment=build_augmentations(given[2], preparation.placed, known_of(preparation, splits["train"])),
            ranks=RankContext(),
        )
        if trainer.tuning is not None:
            trainer.tuning.set_epoch(settings.epochs)  # when the most is trained
        wanted = settings.activation_checkpointing
        apply_recomputation(model, wanted if isinstance(wanted, int) else 0)
    exchange = {} if communication == AUTO else family("exchange").validate(communication)
    return Subject(recipe, dataset, settings, model, trainer, splits, exchange)

"""The model that is deployed: its run, its rows, and the log in which it is watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.artifacts import Bundle, RunFolder
from deepseek.data.landing import LandedTable
from deepseek.data.preparation import Preparation
from deepseek.errors import DeepSeekError, InputError, RunError
from deepseek.inference.reading import read_preparation
from deepseek.monitoring.performance import watched_metric
from deepseek.monitoring.reference import ModelReference
from deepseek.monitoring.settings import MonitorSettings
from deepseek.monitoring.store import Store
from deepseek.monitoring.watcher import log_name
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.recipe import Recipe, load_recipe
from deepseek.recipe.secrets import resolve_secrets, without_password
from deepseek.recipe.sections import MonitorSection, OnAlarmSection

SPLIT = "deepseek_split"
"""The column that says what becomes of a row: `train`, `validation`, `test`."""


@dataclass(frozen=True)
class Champion:
    """A run that is deployed.

    Attributes:
        run: The run.
        monitor: Its recipe's section `monitor`, overrides put in.
        then: Its `on_alarm`.
    """

    run: FinishedRun
    monitor: MonitorSection
    then: OnAlarmSection

    @classmethod
    def open(cls, path: Path, overrides: tuple[str, ...] = ()) -> Champion:
        """Open a run as its recipe says.

        Args:
            path: The run's folder, its bundle, or the folder of its name.
            overrides: Keys of the section `monitor`, each `PATH=VALUE`.

        Raises:
            BundleError: There is no run there.
            InputError: It was never finished, or its recipe says nothing of a loop.
        """
        for override in overrides:
            if not override.startswith("monitor."):
                raise InputError(
                    f"{override!r} is no key of the section 'monitor'",
                    hint="a new model is made as its recipe says; what may be set is such as monitor.on_alarm.alpha=0.1",
                )
        folder = RunFolder.open(path)
        run = FinishedRun.open(folder.path)
        recipe = load_recipe(folder.recipe, overrides=overrides) if overrides else run.recipe
        monitor = recipe.monitor
        if monitor is None or monitor.on_alarm is None:
            raise InputError(
                f"the recipe of {folder.path} does not say what to do on an alarm",
                hint="say monitor: {keep_inputs: values, on_alarm: {action: retrain}}, or for once --set monitor.on_alarm.action=retrain",
            )
        return cls(run, monitor, monitor.on_alarm)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.folder.path

    @property
    def name(self) -> str:
        """The name of the run's folder, such as `001`."""
        return self.path.name

    @property
    def bundle(self) -> Bundle:
        """Its bundle."""
        return self.run.bundle

    @property
    def recipe(self) -> Recipe:
        """The recipe that it was made by."""
        return self.run.recipe

    @property
    def settings(self) -> MonitorSettings:
        """How it is watched."""
        return MonitorSettings.of_section(self.monitor)

    @cached_property
    def preparation(self) -> Preparation:
        """What prepares its rows."""
        return read_preparation(self.bundle)

    @cached_property
    def reference(self) -> ModelReference:
        """What its bundle knows of training."""
        return ModelReference.load(self.bundle)

    @property
    def metric(self) -> str:
        """What is watched."""
        return watched_metric(self.settings, self.reference.target)

    @property
    def store_place(self) -> str:
        """Where its log is: a file, or the URL of a database."""
        place = str(resolve_secrets(self.monitor.store))
        return place if "://" in place else str((self.path / place).absolute())

    @property
    def store_name(self) -> str:
        """The same as it may be written down: secrets stay references, and a password of an older recipe is left out."""
        place = str(self.monitor.store)
        return without_password(place) if "://" in place else str((self.path / place).absolute())

    def store(self) -> Store:
        """Open its part of the log."""
        return Store(self.store_place).of(log_name(self.bundle))

    def old_rows(self, share: float, *, seed: int) -> pa.Table | None:
        """Return a share of the rows that it was trained on, drawn at random, with the types of its training; nothing where none is wanted.

        Args:
            share: In [0, 1].
            seed: Says which.

        Raises:
            RunError: They cannot be had any more.
        """
        if not share:
            return None
        try:
            dataset = self.run.dataset()
        except DeepSeekError as error:
            hint = "put the data back, or say monitor.on_alarm.keep_old: 0"
            raise RunError(f"the rows that {self.path} was trained on cannot be had: {error.message}", hint=hint) from error
        train = dataset.open("train")
        assert train is not None, "a finished run has training rows"
        numbers = np.setdiff1d(train.source_numbers(), dataset.mended)  # the table still has their labels as they came
        table = LandedTable.open(dataset.landed["source"])
        drawn = table.sample(numbers, max(round(share * len(numbers)), 1), seed)
        names = [
            *self.preparation.columns,
            *self.preparation.schema.target,
            *([self.recipe.data.weight] if self.recipe.data.weight else []),
        ]
        return pa.Table.from_batches(list(self._typed(drawn.select(names))))

    def _typed(self, table: pa.Table) -> Iterator[pa.RecordBatch]:
        for batch in table.combine_chunks().to_batches():
            yield self.preparation.typed(batch)

    def facts(self) -> dict[str, Any]:
        """Return what a report says of it, as plain JSON values."""
        return {"run": str(self.path), "store": self.store_name, "action": self.then.action}

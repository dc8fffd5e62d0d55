"""A finished run, opened to be looked into."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deepseek.artifacts import CACHE, Bundle, RunFolder, StageCache, read_json
from deepseek.errors import InputError
from deepseek.inference.backends.torch import TorchBackend
from deepseek.pipeline.preparing.dataset import Dataset, make_dataset
from deepseek.pipeline.recipes import open_recipe
from deepseek.recipe import Recipe, load_recipe
from deepseek.tasks.model import TaskModel


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder holds.

    Attributes:
        folder: The folder.
        recipe: The recipe as it was given.
        resolved: The recipe with every default and decision filled in.
        outcome: What the run came to: metrics, seconds, steps.
    """

    folder: RunFolder
    recipe: Recipe
    resolved: Recipe
    outcome: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> FinishedRun:
        """Open a run: its folder, its bundle, or the folder of its name (then the newest run in it).

        Raises:
            BundleError: There is no run there.
            InputError: It was never finished.
        """
        folder = RunFolder.open(path)
        if not folder.metrics.is_file():
            raise InputError(f"the run {folder.path} was never finished", hint=f"go on with it: deepseek run {folder.path} --resume")
        _, recipe = open_recipe(folder.path)
        return cls(folder, recipe, load_recipe(folder.resolved, folder=recipe.folder), read_json(folder.metrics))

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle; every file of it is as it was written."""
        return Bundle.open(self.folder.path)

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """Where the rows came from, as the run noted it."""
        found: Mapping[str, Any] = read_json(self.folder.data)
        return found

    def model(self) -> TaskModel:
        """Return the trained model, ready to predict; it is built anew each time, so that no more than are wanted are held."""
        return TorchBackend(self.bundle).model

    def dataset(self) -> Dataset:
        """Return the run's rows from the cache beside the runs, or read and prepared anew; whether they are as they were is not asked.

        Raises:
            DataError: They cannot be had.
        """
        return make_dataset(self.recipe, StageCache(self.folder.path.parents[1] / CACHE))

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield everything that happened, in order."""
        if not self.folder.events.is_file():
            return
        with self.folder.events.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # a kill may have cut the last one
                    yield json.loads(line)

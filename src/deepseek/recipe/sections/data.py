"""The section `data`: where rows come from, which of them train, and how they become arrays."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt
from pydantic import Field

from deepseek.recipe.quantities import Flag, Integer, Number
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import (
    AUTO,
    AugmentationSpec,
    Auto,
    CheckSpec,
    CleanerSpec,
    KindName,
    Seed,
    Share,
    SourceSpec,
    Text,
    TransformSpec,
)


class SplitSection(Section):
    """Which rows train, which validate and which test; settled before anything is learned from any row."""

    train: Share = 0.7
    """Share of rows for training; the three shares sum to 1, or to 100, or are whole proportions (7, 1, 2)."""
    validation: Share = 0.15
    """Share of rows for choosing: early stopping, the best weights."""
    test: Share = 0.15
    """Share of rows for the final number, looked at once."""
    stratify: Flag | None = None
    """Whether each split gets every class (or range of a number) in proportion; decided by the target where not given."""
    group: Text | None = None
    """A column; rows that share its value stay in one split."""
    time: Text | None = None
    """A column of times; the test split is the latest rows, training the earliest."""
    column: Text | None = None
    """A column that says `train`, `validation` or `test` itself."""
    folds: Annotated[Integer, Ge(2)] | None = None
    """Number of folds for cross-validation, in the place of the shares."""
    fold: Annotated[Integer, Ge(0)] = 0
    """Which of the folds is the test split, counted from 0."""
    train_from: Text | None = None
    """Of a forecast: the first moment that is used at all."""
    validation_from: Text | None = None
    """Of a forecast: the moment at which training ends and validation begins, in the place of the shares."""
    test_from: Text | None = None
    """Of a forecast: the moment at which validation ends and the test begins, in the place of the shares."""
    until: Text | None = None
    """Of a forecast: the first moment behind the test, which is not used any more."""
    seed: Seed | None = None
    """Seed of the split; the recipe's where not given."""
    on_leak: Literal["warn", "fail", "drop", "ignore"] = "warn"
    """What training rows come to whose twin is a validation or test row: a warning, an error, being left out; `ignore` looks for none."""

    @property
    def shares(self) -> tuple[float, float, float]:
        """Training, validation and test, as fractions that sum to 1."""
        total = self.train + self.validation + self.test
        return self.train / total, self.validation / total, self.test / total


class SuspectsSection(Section):
    """What becomes of training rows whose label a file says is probably wrong."""

    file: Text
    """What `deepseek suspects` wrote, or a file like it; relative paths start at the recipe's folder."""
    action: Literal["drop", "relabel", "weigh"] = "drop"
    """Whether they are left out, get the suggested label, or weigh less; a column `action` of the file says otherwise of single rows."""
    weight: Annotated[Number, Ge(0), Lt(1)] = 0.2
    """What they weigh of what they did."""
    key: Text | None = None
    """A column whose values name the rows in the file; their numbers do where not given."""


class DataSection(Section):
    """Where rows come from, what they must look like, and how they become arrays."""

    source: SourceSpec
    """Where rows come from; relative paths start at the recipe's folder."""
    test: SourceSpec | None = None
    """A source of test rows of its own; the split then shares out `source` between training and validation."""
    target: Text | Annotated[list[Text], Field(min_length=1)] | None = None
    """The column to predict, or several."""
    time: Text | None = None
    """Of a forecast: the column of moments; each row of the table is then a step of a series."""
    series: Text | list[Text] = []
    """Of a forecast: the columns that tell series apart, where there are several."""
    known: list[Text] = []
    """Of a forecast: columns whose future is known when it is asked; the time may be one. Of others only the past is looked at."""
    static: list[Text] = []
    """Of a forecast: columns that never change within a series; those that tell series apart may be among them."""
    frequency: Text | None = None
    """Of a forecast: the distance between steps, such as 15min, 1h, 1d, 1mo; the commonest one where not given."""
    gaps: Literal["fill", "fail"] = "fill"
    """Of a forecast: whether steps without a row count as missing values, or are refused."""
    season: Annotated[Integer, Ge(1)] | None = None
    """Of a forecast: how many steps a season has, for the naive forecast beside it; by the frequency where not given."""
    fields: dict[str, KindName] = {}
    """The kinds of columns, where the inferred ones are wrong."""
    drop: list[Text] = []
    """Columns to leave out."""
    spellings: dict[str, dict[str, str]] = {}
    """Other spellings of the same value, by column: what stands there, and what is meant."""
    weight: Text | None = None
    """A column of row weights for the loss and the metrics."""
    checks: list[CheckSpec] = []
    """Rules that say which rows are bad, and what becomes of them."""
    clean: list[CleanerSpec] = []
    """Repairs, fitted on training rows, in order."""
    split: SplitSection = SplitSection()
    """Which rows train, validate and test."""
    suspects: SuspectsSection | None = None
    """Labels among the training rows that are probably wrong, and what becomes of them."""
    transforms: dict[str, TransformSpec] = {}
    """How columns become arrays: by kind, or by a column's name, which goes before."""
    augment: Auto | list[AugmentationSpec] | None = AUTO
    """Random changes of training batches; null for none."""
    max_rejected: Annotated[Number, Ge(0), Le(1)] = 0.5
    """Largest share of rows that checks may set aside before the run stops."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict, as a tuple however they were given."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target or ())

    @property
    def series_columns(self) -> tuple[str, ...]:
        """The columns that tell series apart, as a tuple however they were given."""
        return (self.series,) if isinstance(self.series, str) else tuple(self.series)

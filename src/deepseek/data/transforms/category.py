"""Categories: texts, whole numbers and booleans become codes, 0/1 columns or smoothed means of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import numpy as np
from annotated_types import Ge

from deepseek.data.columns import get_column, look_up, missing, spell
from deepseek.data.transforms.base import Array, InputSpec, Transform
from deepseek.data.transforms.target_means import TargetMeans
from deepseek.errors import InputError
from deepseek.fields import Field, Kind

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

Encoding = Literal["ordinal", "one_hot", "target"]

_NAMES = {"ordinal": "categories", "one_hot": "categories_one_hot", "target": "categories_target"}
QUANTILE_STEPS = 49
UNKNOWN_SHARE = 0.01
"""From this share of expected unknown values on, training is to meet some."""
FEW_ROWS = 50
"""With fewer training rows the share says nothing."""


class CategoryTransform(Transform):
    """Turns all categorical and two-valued columns into one input.

    Code 0 stands for missing and for whatever training did not know; the most frequent category is code 1. One-hot columns are made inside
    the model from the codes, so that a wide table costs no disk. Target encoding replaces a category by the target's mean, shrunk towards
    the overall mean (Micci-Barreca 2001, https://doi.org/10.1145/507533.507538); a training row gets the mean of the *other* folds, so that
    its own target is never among its inputs.

    Args:
        fields: The categorical and two-valued columns.
        name: The name of the input.
        encoding: `ordinal` (codes, for embeddings), `one_hot` or `target`.
        min_count: Categories with fewer training rows than this share code 0. `auto`, for codes: 2 in a column where a hundredth of the
            training rows or more hold a category of their own, else 1. That share is how many unknown ones are to be expected later
            (Good 1953, https://doi.org/10.1093/biomet/40.3-4.237): code 0 is trained for them, and nothing is learned by heart.
        max_categories: At most so many of a column's most frequent categories are kept; the others share code 0.
        smoothing: How many rows the overall mean weighs in target encoding.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        encoding: Encoding = "ordinal",
        min_count: Annotated[int, Ge(1)] | Literal["auto"] = "auto",
        max_categories: Annotated[int, Ge(1)] = 10_000,
        smoothing: Annotated[float, Ge(0)] = 10.0,
    ) -> None:
        if encoding not in get_args(Encoding):
            raise InputError(f"encoding is {encoding!r}", hint=f"allowed: {', '.join(get_args(Encoding))}")
        super().__init__(fields, name or _NAMES[encoding])
        self.encoding, self.min_count, self.max_categories, self.smoothing = encoding, min_count, max_categories, smoothing
        self.uses_target = encoding == "target"
        self._columns = [field.name for field in self.fields]
        self._ids: list[dict[str, int]] = [{} for _ in self._columns]
        self._counts: list[np.ndarray] = [np.zeros(0, dtype=np.int64) for _ in self._columns]
        self._vocabularies: list[list[str]] | None = None
        self._codes: list[dict[str, int]] = []
        self._means = TargetMeans(len(self._columns), smoothing)
        self._pending: list[np.ndarray] = []
        self._whole: list[bool] = []

    def observe(self, batch: pa.RecordBatch) -> None:
        """Count a batch of training rows."""
        self._pending = []
        for index, name in enumerate(self._columns):
            ids, rows = self._identify(batch, index, name)
            count = np.bincount(rows + 1, minlength=len(ids) + 1)[1:]
            count[: len(self._counts[index])] += self._counts[index]
            self._counts[index] = count
            self._pending.append(rows)

    def _identify(self, batch: pa.RecordBatch, index: int, name: str) -> tuple[dict[str, int], np.ndarray]:
        texts, indices = spell(get_column(batch, name), name)
        ids = self._ids[index]
        table = np.full(len(texts) + 1, -1, dtype=np.int64)
        for place, text in enumerate(texts):
            if text is not None:
                table[place] = ids.setdefault(text, len(ids))
        return ids, table[indices]

    def observe_target(self, target: np.ndarray) -> None:
        """Add up the targets of the rows that `observe` has just counted."""
        self._means.add(self._pending, target)

    def finish(self) -> None:
        """Settle the vocabularies, and the means where the target is used."""
        vocabularies, orders = [], []
        for ids, counts in zip(self._ids, self._counts, strict=True):
            names = list(ids)
            least = self._least(counts)
            kept = [place for place in range(len(names)) if counts[place] >= least]
            kept.sort(key=lambda place: (-int(counts[place]), names[place]))
            orders.append(kept[: self.max_categories])
            vocabularies.append([names[place] for place in orders[-1]])
        if self.uses_target:
            self._means.finish(orders)
        self._whole = [len(kept) == len(ids) for kept, ids in zip(vocabularies, self._ids, strict=True)]
        self._set_vocabularies(vocabularies)
        self._ids, self._counts, self._pending = [{} for _ in self._columns], [np.zeros(0, dtype=np.int64) for _ in self._columns], []

    def _least(self, counts: np.ndarray) -> int:
        """Return how often a category of a column must come."""
        if self.min_count != "auto":
            return self.min_count
        rows = int(counts.sum())
        expected = self.encoding == "ordinal" and rows >= FEW_ROWS and int((counts == 1).sum()) >= UNKNOWN_SHARE * rows
        return 2 if expected else 1

    def _set_vocabularies(self, vocabularies: list[list[str]]) -> None:
        self._vocabularies = vocabularies
        self._codes = [{text: code for code, text in enumerate(texts, start=1)} for texts in vocabularies]

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """Each column's categories; the first has code 1."""
        return {name: tuple(texts) for name, texts in zip(self._columns, self._fitted(), strict=True)}

    def _fitted(self) -> list[list[str]]:
        if self._vocabularies is None:
            raise InputError("the transform of categories is not fitted", hint="call observe and finish, or load_json, first")
        return self._vocabularies

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input of all categories."""
        sizes = tuple(len(texts) + 1 for texts in self._fitted())
        name, columns = str(self.name), tuple(self._columns)
        if self.encoding == "ordinal":
            return (InputSpec(name, Kind.CATEGORY, columns, (len(columns),), "int32", cardinalities=sizes),)
        if self.encoding == "one_hot":
            wide = tuple(f"{column}={text}" for column, texts in self.vocabularies.items() for text in texts)
            steps = np.tile(np.linspace(0, 1, QUANTILE_STEPS, dtype=np.float32), (len(wide), 1))
            return (InputSpec(name, Kind.NUMBER, wide, (len(columns),), "int32", quantiles=steps),)
        names = self._means.names(columns)
        return (InputSpec(name, Kind.NUMBER, names, (len(names),), "float32", quantiles=self._means.quantiles(QUANTILE_STEPS)),)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return int32 codes `[rows, columns]`, or float32 means for target encoding."""
        codes = self._encode(batch)
        return {str(self.name): self._means.apply(codes) if self.uses_target else codes}

    def apply_training(self, batch: pa.RecordBatch, start: int) -> dict[str, Array]:
        """Return what `apply` returns, but for target encoding the means of the folds that a row is not in."""
        if not self.uses_target:
            return self.apply(batch)
        return {str(self.name): self._means.apply_training(self._encode(batch), start)}

    def _encode(self, batch: pa.RecordBatch) -> np.ndarray:
        self._fitted()
        codes = np.empty((batch.num_rows, len(self._columns)), dtype=np.int32)
        for index, name in enumerate(self._columns):
            codes[:, index] = look_up(get_column(batch, name), name, self._codes[index], unknown=0)
        return codes

    def unknown(self, batch: pa.RecordBatch) -> dict[str, tuple[int, int]]:
        """Return, by column, how many values have no code and how many are not missing; not for columns with a cut vocabulary."""
        self._fitted()
        counts = {}
        for index, name in enumerate(self._columns):
            if self._whole[index]:
                column = get_column(batch, name)
                codes = look_up(column, name, self._codes[index], unknown=0)[~missing(column)]
                counts[name] = (int((codes == 0).sum()), len(codes))
        return counts

    def module(self) -> nn.Module | None:
        """Return what spreads codes over 0/1 columns, for one-hot encoding."""
        if self.encoding != "one_hot":
            return None
        from deepseek.data.transforms.modules import OneHotModule

        return OneHotModule([len(texts) + 1 for texts in self._fitted()])

    def to_json(self) -> dict[str, Any]:
        """Return the vocabularies, and the means where the target is used."""
        state: dict[str, Any] = {"vocabularies": self._fitted(), "whole": self._whole}
        return {**state, "means": self._means.to_json()} if self.uses_target else state

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._set_vocabularies([list(texts) for texts in state["vocabularies"]])
        self._whole = list(state["whole"])
        if self.uses_target:
            self._means.load_json(state["means"])
        return self

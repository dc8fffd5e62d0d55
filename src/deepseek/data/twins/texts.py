"""Texts that are nearly the same, compared as sets of pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import get_column, plain
from deepseek.data.twins.found import Match, Twins, matched
from deepseek.data.twins.search import BATCH_ROWS, Search, Sides
from deepseek.statistics.near_duplicates import Bands, minima, overlap, pieces

TEXT_SHARE = 0.8
"""How much of two texts' pieces must be the same."""
TEXT_CHARACTERS, LEAST_CHARACTERS = 1_000, 20
"""Of a long text its beginning is compared; short ones are the same by chance."""


def text_twins(sides: Sides, column: str, *, seed: int = 0) -> Twins:
    """Return the rows whose text is nearly that of a training row: of its pieces of five letters four fifths are the same.

    Case and blanks do not count. Of 100 pairs that share 80 % of their pieces some 98 are found, of those that share 90 % practically all;
    whatever is told of was compared exactly.

    Args:
        sides: The rows.
        column: The column of texts.
        seed: Says which rows are drawn, where there are many.
    """
    return Search(sides, (column,), _TextView(column), what=f"the text {column}", seed=seed).twins()


class _TextView:
    """Texts as sets of pieces."""

    batch_rows = 2 * BATCH_ROWS

    def __init__(self, column: str) -> None:
        self._column = column

    def seen(self, batch: pa.RecordBatch) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Return the texts, their pieces, where these begin, and their bands."""
        column = plain(get_column(batch, self._column)).cast(pa.string())
        texts = [_even(text) for text in pc.utf8_slice_codeunits(pc.fill_null(column, ""), 0, 2 * TEXT_CHARACTERS).to_pylist()]
        texts = [text if len(text) >= LEAST_CHARACTERS else "" for text in texts]
        hashed, offsets = pieces(texts)
        return texts, hashed, offsets, minima(hashed, offsets)

    @staticmethod
    def kept(seen: tuple[list[str], np.ndarray, np.ndarray, np.ndarray]) -> tuple[list[str], np.ndarray]:
        """Return what is held of measured texts: they and their bands, without the pieces, which would take eight times the room."""
        return seen[0], seen[3]

    def held(self, rows: np.ndarray, kept: list[tuple[list[str], np.ndarray]]) -> _HeldTexts:
        """Return the texts to compare with; the same text is held once, whatever the number of its rows."""
        texts = [text for one, _ in kept for text in one]
        bands = np.concatenate([one for _, one in kept]) if kept else np.empty((0, 1), dtype=np.uint64)
        told = np.array([place for place, text in enumerate(texts) if text], dtype=np.int64)
        known: dict[str, int] = {}
        number = np.array([known.setdefault(texts[place], len(known)) for place in told.tolist()], dtype=np.int64)
        first = told[np.unique(number, return_index=True)[1]]
        return _HeldTexts(rows[told], number, list(known), Bands(bands[first]))


@dataclass
class _HeldTexts:
    rows: np.ndarray
    number: np.ndarray
    texts: list[str]
    index: Bands

    @property
    def looked_at(self) -> int:
        return len(self.rows)

    def match(self, seen: tuple[list[str], np.ndarray, np.ndarray, np.ndarray]) -> Match:
        """Return what is near among texts that pass by."""
        _, hashed, offsets, bands = seen
        pairs = self.index.pairs(bands)
        pairs = pairs[np.diff(offsets)[pairs[:, 1]] > 0]
        asked = np.unique(pairs[:, 0]).tolist()
        mine = dict(zip(asked, _sets([self.texts[place] for place in asked]), strict=True))
        others = {place: np.unique(hashed[offsets[place] : offsets[place + 1]]) for place in np.unique(pairs[:, 1]).tolist()}
        alike = np.array([overlap(mine[one], others[other]) for one, other in pairs.tolist()])
        near = alike >= TEXT_SHARE
        return matched(self.rows, self.number, pairs=pairs[near], alike=alike[near])


def _sets(texts: Sequence[str]) -> list[np.ndarray]:
    hashed, offsets = pieces(texts)
    return [np.unique(hashed[start:stop]) for start, stop in pairwise(offsets.tolist())]


def _even(text: str) -> str:
    return " ".join(text.casefold().split())[:TEXT_CHARACTERS]

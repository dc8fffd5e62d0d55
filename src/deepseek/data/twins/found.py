"""What was found: rows that are nearly the same, and some of them as examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EXAMPLES = 5


@dataclass(frozen=True)
class Near:
    """What was found by one column, or by all that are no texts and pictures.

    Attributes:
        what: What was compared, in words.
        part: `validation` or `test`.
        looked_at: How many of its rows were compared.
        of: How many it has.
        rows: Those that have a twin among the training rows, ascending, int64.
        pairs: Some of them: the row, the training row, and how alike they are, 0 to 1.
    """

    what: str
    part: str
    looked_at: int
    of: int
    rows: np.ndarray
    pairs: tuple[tuple[int, int, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the counts and examples as plain JSON values."""
        return {
            "what": self.what,
            "part": self.part,
            "looked_at": self.looked_at,
            "of": self.of,
            "twins": len(self.rows),
            "examples": [{"row": row, "training_row": twin, "alike": round(alike, 4)} for row, twin, alike in self.pairs],
        }


@dataclass
class Twins:
    """Everything that was found.

    Attributes:
        found: By column and part.
        training: Training rows that are a twin of a measured one, ascending, int64.
    """

    found: list[Near] = field(default_factory=list)
    training: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Match:
    """What some training rows that pass by have in common with the held ones.

    Attributes:
        measured: Held rows with a twin among them, by their numbers, each once.
        places: Which of those that pass by are a twin, each once.
        pairs: Some pairs: a held row's number, a place, and how alike they are.
    """

    measured: np.ndarray
    places: np.ndarray
    pairs: list[tuple[int, int, float]]


class Hits:
    """What was found so far; memory goes by how many rows have a twin, not by how many pairs there are."""

    def __init__(self) -> None:
        self._measured = self._training = np.empty(0, dtype=np.int64)
        self._pairs: list[tuple[int, int, float]] = []

    def add(self, match: Match, numbers: np.ndarray) -> None:
        """Take in what was found among training rows of these numbers."""
        if not len(match.measured):
            return
        self._measured = np.union1d(self._measured, match.measured)
        self._training = np.union1d(self._training, numbers[match.places])
        pairs = [*self._pairs, *((row, int(numbers[place]), alike) for row, place, alike in match.pairs)]
        best: dict[int, tuple[int, int, float]] = {}
        for pair in sorted(pairs, key=lambda one: (-one[2], one[0], one[1])):
            best.setdefault(pair[0], pair)
        self._pairs = list(best.values())[:EXAMPLES]

    def near(self, what: str, part: str, *, looked_at: int, of: int) -> tuple[Near, np.ndarray]:
        """Return what was found, the most alike as examples, and the training rows."""
        return Near(what, part, looked_at, of, self._measured, tuple(self._pairs)), self._training


def matched(rows: np.ndarray, number: np.ndarray, *, pairs: np.ndarray, alike: np.ndarray) -> Match:
    """Return pairs of different things as rows: every row of a thing has its twins.

    Args:
        rows: The numbers of the held rows.
        number: Which thing each of them is.
        pairs: Things and places that are near, `[pairs, 2]`.
        alike: How alike they are.
    """
    if not len(pairs):
        return Match(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), [])
    best = np.argsort(-alike, kind="stable")[: 4 * EXAMPLES].tolist()
    shown = [(int(rows[np.flatnonzero(number == pairs[one, 0])[0]]), int(pairs[one, 1]), float(alike[one])) for one in best]
    return Match(rows[np.isin(number, pairs[:, 0])], np.unique(pairs[:, 1]), shown)


def summed(what: str, sizes: Mapping[str, tuple[int, int]], hits: Mapping[str, Hits]) -> Twins:
    """Return everything that was found.

    Args:
        what: What was compared, in words.
        sizes: By part, how many of its rows were compared, and how many it has.
        hits: By part, what was found.
    """
    made = [hits[part].near(what, part, looked_at=looked_at, of=of) for part, (looked_at, of) in sizes.items()]
    training = np.unique(np.concatenate([rows for _, rows in made])) if made else np.empty(0, dtype=np.int64)
    return Twins([near for near, _ in made], training.astype(np.int64))

"""What training did not know, categories and gaps: counted where rows are answered or measured, because a model guesses there."""

from __future__ import annotations

from collections.abc import Mapping

LARGEST_SHARE = 0.1
"""Above this share of a column's values a warning tells of unknown categories."""


class Unknown:
    """How many values of each column training did not know, added up over batches."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}
        self._lacking: dict[str, tuple[int, int]] = {}

    def add(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Add a batch: by column, how many values are unknown and how many there are."""
        _add(self._counts, counts)

    def lack(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Add a batch: by column that no training row lacked (a text, an image, a sound), how many rows lack it and how many there are."""
        _add(self._lacking, counts)

    def warnings(self, rows: str) -> list[str]:
        """Return a sentence for each column with many unknown values, and for each that is missing as it never was in training.

        Args:
            rows: Whose rows they are: `test rows`.
        """
        lacking = [
            f"{missing:,} of {there:,} {rows} have no {name!r}, and every training row had one: what the model makes of its absence was "
            "never learned; with several senses model.sense_dropout teaches it"
            for name, (missing, there) in self._lacking.items()
            if missing
        ]
        return lacking + [
            f"{unknown / values:.0%} of the values of {name!r} in the {rows} were never seen in training ({unknown:,} of {values:,}): "
            "the model treats them like missing ones; are they spelled as in training?"
            for name, (unknown, values) in self._counts.items()
            if unknown > LARGEST_SHARE * values
        ]


def _add(known: dict[str, tuple[int, int]], counts: Mapping[str, tuple[int, int]]) -> None:
    for name, (some, of) in counts.items():
        before = known.get(name, (0, 0))
        known[name] = (before[0] + some, before[1] + of)

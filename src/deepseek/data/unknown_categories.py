"""Categories that training did not know: counted where rows are answered or measured, because a model guesses there."""

from __future__ import annotations

from collections.abc import Mapping

LARGEST_SHARE = 0.1
"""Above this share of a column's values a warning tells of unknown categories."""


class Unknown:
    """How many values of each column training did not know, added up over batches."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Add a batch: by column, how many values are unknown and how many there are."""
        for name, (unknown, values) in counts.items():
            before = self._counts.get(name, (0, 0))
            self._counts[name] = (before[0] + unknown, before[1] + values)

    def warnings(self, rows: str) -> list[str]:
        """Return a sentence for each column with many unknown values.

        Args:
            rows: Whose rows they are: `test rows`.
        """
        return [
            f"{unknown / values:.0%} of the values of {name!r} in the {rows} were never seen in training ({unknown:,} of {values:,}): "
            "the model treats them like missing ones; are they spelled as in training?"
            for name, (unknown, values) in self._counts.items()
            if unknown > LARGEST_SHARE * values
        ]

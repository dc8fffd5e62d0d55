"""What an experiment has counted so far, arm by arm: durable, and the same however often the journal is read again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import orjson

from deepseek.serving.experiments.ledger import Ledger
from deepseek.statistics.arms import ArmSums
from deepseek.statistics.sketches import NumberSketch

SECONDS = np.geomspace(1e-4, 100.0, 160)
"""Edges of the bins of latencies: each is 9 % above the one before, so that a quantile is right within that."""


EXCUSED = frozenset({"busy", "closed"})
"""Reasons for which a shadow was not asked at all, which say nothing of its model: it had no room, or was taken out."""


@dataclass
class Told:
    """Counts of one arm.

    Attributes:
        requests: Requests, or parts of one, that belong to it.
        rows: Their rows.
        failed: Rows that the champion answered in its stead; of a shadow, those that it did not answer, however it came to that; and those
            that were answered with something that is no finite number.
        failures: Requests of which that is so.
        compared: Rows of a shadow that the champion has answered too.
        agreed: How many of them were answered alike.
        distance: Sum of the distances of their scores.
        distances: How many rows have one.
        unknown: Outcomes with a label that is no class of the model.
        unmeasured: Outcomes of which the metric has no value, as the answer or its error is no finite number.
        lost: Rows that a shadow did not answer, by reason; those of `EXCUSED` are counted here alone.
    """

    requests: int = 0
    rows: int = 0
    failed: int = 0
    failures: int = 0
    compared: int = 0
    agreed: int = 0
    distance: float = 0.0
    distances: int = 0
    unknown: int = 0
    unmeasured: int = 0
    lost: dict[str, int] = field(default_factory=dict)


@dataclass
class ArmCounts:
    """Everything that is counted of one arm.

    Attributes:
        told: Plain counts.
        seconds: How long its requests took.
        own: Values of its own rows.
        against: Of an arm beside the champion: the champion's values that they are compared with, of the same phases; of a shadow, of the
            same rows.
    """

    told: Told = field(default_factory=Told)
    seconds: NumberSketch = field(default_factory=lambda: NumberSketch(SECONDS))
    own: ArmSums = field(default_factory=ArmSums)
    against: ArmSums = field(default_factory=ArmSums)

    def quantile(self, probability: float) -> float | None:
        """Return a quantile of the seconds, or nothing where there are none."""
        if not self.seconds.known:
            return None
        place = int(np.searchsorted(np.cumsum(self.seconds.counts), probability * self.seconds.known))
        return float(min(max(SECONDS[min(place, len(SECONDS) - 1)], self.seconds.low), self.seconds.high))

    def slower_than(self, seconds: float) -> int:
        """Return how many requests surely took longer."""
        place = int(np.searchsorted(SECONDS, seconds)) + 1
        return int(self.seconds.counts[place:].sum())

    def least(self, is_enough: Callable[[int, int], bool]) -> float | None:
        """Return the least seconds, of the edges of bins, that few enough requests took longer than, or nothing.

        Args:
            is_enough: Given how many took longer, of how many; true of any fewer as well.
        """
        slower = self.seconds.known - np.cumsum(self.seconds.counts)[: len(SECONDS)]
        place = bisect_left(slower, True, key=lambda some: is_enough(int(some), self.seconds.known))
        return float(SECONDS[place]) if place < len(SECONDS) else None


@dataclass
class Counts:
    """Everything that an experiment has counted.

    Attributes:
        arms: By the arms' numbers.
        keys: Keys by the phase and arm in which they were met first, among those that are known one by one.
        level: Of how many bits of its hash a key must have zeros to be known: all are, at 0.
        suspicion: The greatest evidence so far that keys were not divided as they should have been.
        outcomes: Outcomes that came.
        again: Outcomes that said nothing new of their rows.
    """

    arms: list[ArmCounts]
    keys: dict[tuple[int, int], int] = field(default_factory=dict)
    level: int = 0
    suspicion: float = 0.0
    outcomes: int = 0
    again: int = 0
    _saved: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)

    def save(self, ledger: Ledger) -> None:
        """Write everything, within a transaction of the caller's."""
        ledger.write("counts", orjson.dumps(self._plain()))
        for name, sums in self._sums():
            for phase, found in sums.phases.items():
                rows = float(found[0].sum())
                if self._saved.get((name, phase)) != rows:  # phases that are over seldom change
                    ledger.write(f"{name}/{phase}", found.tobytes())
                    self._saved[name, phase] = rows

    @classmethod
    def load(cls, ledger: Ledger, arms: int) -> Counts:
        """Return what `save` wrote, or nothing counted.

        Args:
            ledger: Where it was written.
            arms: How many arms there are.
        """
        made = cls([ArmCounts() for _ in range(arms)])
        stored = ledger.read()
        if "counts" not in stored:
            return made
        value = orjson.loads(stored.pop("counts"))
        made.level, made.suspicion, made.outcomes, made.again = (value[name] for name in ("level", "suspicion", "outcomes", "again"))
        made.keys = {(phase, arm): count for phase, arm, count in value["keys"]}
        for arm, told in zip(made.arms, value["arms"], strict=True):
            arm.told, arm.seconds = Told(**told["told"]), NumberSketch.read(told["seconds"])
        parts = dict(made._sums())
        for name, content in stored.items():
            owner, _, phase = name.rpartition("/")
            parts[owner].load(int(phase), np.frombuffer(content))
        for name, sums in parts.items():
            low, high = value["ends"][name]
            if low is not None:
                sums.low, sums.high = low, high
        return made

    def _plain(self) -> Mapping[str, Any]:
        arms = [{"told": asdict(arm.told), "seconds": arm.seconds.to_json()} for arm in self.arms]
        ends = {name: [sums.low, sums.high] if sums.rows else [None, None] for name, sums in self._sums()}
        keys = [[phase, arm, count] for (phase, arm), count in self.keys.items()]
        same = {name: getattr(self, name) for name in ("level", "suspicion", "outcomes", "again")}
        return {**same, "keys": keys, "arms": arms, "ends": ends}

    def _sums(self) -> Iterator[tuple[str, ArmSums]]:
        for number, arm in enumerate(self.arms):
            yield f"{number}/own", arm.own
            yield f"{number}/against", arm.against

"""How often the loop's gate lets a model pass that is no better, where held-out rows are few and mistakes rare.

Protocol: worlds in which the new model is exactly as good as the old one, each drawn anew so many times. Both answer some tens or hundreds
of held-out rows, and the gate of the loop (`closed_loop.gate.judge`) decides with the `alpha` of a round's first model, 0.025.
Beside it decides what is usual: the lower end of the paired percentile bootstrap of the losses' difference, and of DeLong's interval for
areas under the curve.

Usage: python benchmarks/loop_gate.py [--repetitions 300]. Exit status 1 where the gate lets pass surely more than `alpha`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from deepseek.monitoring.outcomes import Target
from deepseek.pipeline.closed_loop.gate import Answered, judge
from deepseek.statistics.intervals import bootstrap, wilson
from deepseek.statistics.paired import auc_difference

ALPHA = 0.025
NAMES = np.array(["no", "yes"])
BINARY, NUMBER = Target("binary", ("y",), ("no", "yes")), Target("values", ("y",))


class World(NamedTuple):
    """What both models say of the rows, and the truth: probabilities of `yes`, or numbers."""

    old: np.ndarray
    new: np.ndarray
    truth: np.ndarray


def overconfident(draw: np.random.Generator, rows: int, _positives: int) -> World:
    """The new model is surer on each row, and so much worse on 1.6 % of them that it is as good as the old one."""
    old, new = 0.96, 0.9955
    gain, loss = np.log(new / old), np.log((1 - old) / (1 - new))
    return World(np.full(rows, old), np.full(rows, new), draw.random(rows) >= gain / (gain + loss))


def strangers(draw: np.random.Generator, rows: int, _positives: int) -> World:
    """The new model is a bit surer on 97 % of rows, and takes the others, a kind of their own, for their opposite."""
    new, astray = 0.9 * np.exp(0.05), 0.9 * np.exp(-0.05 * 0.97 / 0.03)
    return World(np.full(rows, 0.9), np.where(draw.random(rows) < 0.03, astray, new), np.ones(rows, dtype=bool))


def outliers(draw: np.random.Generator, rows: int, _positives: int) -> World:
    """The new model is nearer on 97 % of rows, and far off on the others."""
    truth = draw.uniform(-10, 10, rows)
    off = np.where(draw.random(rows) < 0.03, 1.0 + 0.1 * 0.97 / 0.03, 0.9)
    return World(truth - np.sign(truth), truth - off * np.sign(truth), truth)


def by_chance(draw: np.random.Generator, rows: int, positives: int) -> World:
    """Both rank rows equally well, each by itself."""
    truth = np.arange(rows) < positives
    old, new = (probability(draw.normal(size=rows) + truth) for _ in range(2))
    return World(old, new, truth)


def upside_down(draw: np.random.Generator, rows: int, positives: int) -> World:
    """The new model ranks all rows right but for one of twenty positives, which it ranks last; the old one's area is 0.95 too."""
    truth = np.arange(rows) < positives
    old = draw.normal(size=rows) + 2.3262 * truth
    new = draw.normal(size=rows) * 0.01 + np.where(truth & (draw.random(rows) < 0.05), -1.0, truth)
    return World(probability(old), probability(new), truth)


def probability(score: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-score)))


LOSSES, AREAS = ((50, 0), (100, 0), (200, 0)), ((60, 5), (60, 10), (200, 20))
CASES: dict[str, tuple[Callable[[np.random.Generator, int, int], World], str, tuple[tuple[int, int], ...]]] = {
    "log loss, surer on each row, gravely wrong on 1.6 %": (overconfident, "log_loss", LOSSES),
    "log loss, surer on 97 % of rows, astray on 3 %": (strangers, "log_loss", LOSSES),
    "absolute error, nearer on 97 % of rows, far off on 3 %": (outliers, "mae", LOSSES),
    "auc, equally good by chance": (by_chance, "auc", AREAS),
    "auc, one of twenty positives ranked last": (upside_down, "auc", AREAS),
}


def gate(world: World, metric: str) -> bool:
    one, two = (answered(said, metric) for said in (world.old, world.new))
    labels = world.truth.tolist() if metric == "mae" else NAMES[world.truth * 1].tolist()
    return judge(one, two, labels, metric=metric, min_gain=0.0, alpha=ALPHA).passed


def answered(said: np.ndarray, metric: str) -> Answered:
    if metric == "mae":
        return Answered(NUMBER, pa.table({"prediction": said}))
    table = {"prediction": NAMES[(said > 0.5) * 1], "probability_no": 1 - said, "probability_yes": said}
    return Answered(BINARY, pa.table(table))


def usual(world: World, metric: str) -> bool:
    if metric == "auc":
        return auc_difference(world.new, world.old, world.truth, level=1 - 2 * ALPHA)[0].low > 0
    gains = loss(world.old, world.truth, metric) - loss(world.new, world.truth, metric)
    return bootstrap(gains[:, None], lambda means: means[:, 0], level=1 - 2 * ALPHA).low > 0


def loss(said: np.ndarray, truth: np.ndarray, metric: str) -> np.ndarray:
    return np.asarray(np.abs(said - truth) if metric == "mae" else -np.log(np.where(truth, said, 1 - said)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    repetitions = parser.parse_args().repetitions
    began, found, sure = time.perf_counter(), {}, True
    for name, (make, metric, sizes) in CASES.items():
        found[name] = {}
        for rows, positives in sizes:
            draw = np.random.default_rng(rows + positives)
            worlds = [make(draw, rows, positives) for _ in range(repetitions)]
            passed = sum(gate(world, metric) for world in worlds)
            sure &= wilson(passed, repetitions).low <= ALPHA
            size = f"{positives} of {rows}" if positives else str(rows)
            found[name][size] = {
                "usual": round(sum(usual(world, metric) for world in worlds) / repetitions, 4),
                "gate": round(passed / repetitions, 4),
            }
    settings = {"alpha": ALPHA, "repetitions": repetitions}
    print(json.dumps({"benchmark": "loop_gate", **settings, "passes": found, "seconds": round(time.perf_counter() - began, 1)}))
    return 0 if sure else 1


if __name__ == "__main__":
    sys.exit(main())

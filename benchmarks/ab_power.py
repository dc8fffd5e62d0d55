"""What the tests of experiments promise, by simulation: wrong verdicts and power under continuous peeking, canaries, sample ratios, guards.

A stream of 10,000 rows is looked at 40 times, and the first verdict ends it, as an impatient person would. `anytime` is the interval of
experiments; `usual_peeking` the usual one looked at as often, which one must not do; `usual_once` the same at the end. Everything goes
through the code that the recorder runs.

Usage: python benchmarks/ab_power.py [--repetitions 2000]. A case that would take too long for five minutes in all is cut short and says
after how many repetitions. Exit status 1 where arms that are the same are told apart more often than stated.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

import numpy as np

from deepseek.statistics.anytime import above_evidence, multinomial_evidence
from deepseek.statistics.arms import BUCKETS, ArmSums, compare_arms
from deepseek.statistics.intervals import wilson

ROWS, EVERY, LEAST, ALPHA, OFF = 10_000, 250, 100, 0.05, 0.001
SECONDS = 240.0


class Stream(NamedTuple):
    champion: np.ndarray
    challenger: np.ndarray
    keys: np.ndarray | None = None


Share = Callable[[int], tuple[int, float]]


def half(_row: int) -> tuple[int, float]:
    return 0, 0.5


def tenth(_row: int) -> tuple[int, float]:
    return 0, 0.1


def canary(row: int) -> tuple[int, float]:
    return (0, 0.05) if row < ROWS // 4 else (1, 0.2) if row < ROWS // 2 else (2, 0.5)


def shares(champion: float, challenger: float) -> Callable[[np.random.Generator], Stream]:
    return lambda draw: Stream((draw.random(ROWS) < champion).astype(float), (draw.random(ROWS) < challenger).astype(float))


def habits(draw: np.random.Generator) -> Stream:
    """Rows of 400 keys that come again and again, some of which are nearly always right and some are not."""
    keys = draw.integers(0, 400, ROWS)
    right = np.clip(draw.normal(0.8, 0.15, 400), 0, 1)[keys]
    values = (draw.random(ROWS) < right).astype(float)
    return Stream(values, values, keys)


def drifting(draw: np.random.Generator) -> Stream:
    """Both arms get worse as time passes, while the share of one rises."""
    values = (draw.random(ROWS) < np.linspace(0.95, 0.6, ROWS)).astype(float)
    return Stream(values, values)


def rewards(draw: np.random.Generator) -> Stream:
    values = draw.exponential(30.0, ROWS) * (draw.random(ROWS) < 0.05)
    return Stream(values, values)


CASES: dict[str, tuple[Callable[[np.random.Generator], Stream], Share]] = {
    "same, accuracy 0.90, half": (shares(0.90, 0.90), half),
    "same, accuracy 0.98, a tenth": (shares(0.98, 0.98), tenth),
    "same, accuracy 0.90, canary of 5, 20, 50 %": (shares(0.90, 0.90), canary),
    "same, getting worse, canary of 5, 20, 50 %": (drifting, canary),
    "same, 400 keys again and again, half": (habits, half),
    "same, rewards of the 5 % that buy, half": (rewards, half),
    "0.90 and 0.92, half": (shares(0.90, 0.92), half),
    "0.90 and 0.94, half": (shares(0.90, 0.94), half),
    "0.90 and 0.80, a tenth": (shares(0.90, 0.80), tenth),
}


def looked_at(draw: np.random.Generator, stream: Stream, share_of: Share) -> tuple[float, float, bool]:
    """Return after how many rows the anytime and the usual interval first leave 0 out, and whether the usual one does at the end."""
    one, two = ArmSums(), ArmSums()
    buckets = draw.integers(0, BUCKETS, ROWS) if stream.keys is None else stream.keys % BUCKETS
    places = draw.random(ROWS) if stream.keys is None else draw.random(int(stream.keys.max()) + 1)[stream.keys]
    anytime, usual, last = math.inf, math.inf, False
    for start in range(0, ROWS, EVERY):
        part = slice(start, start + EVERY)
        phase, share = share_of(start)
        given = places[part] < share
        one.add(phase, buckets[part][~given], stream.champion[part][~given])
        two.add(phase, buckets[part][given], stream.challenger[part][given])
        if min(one.rows, two.rows) >= LEAST:
            found = compare_arms(one, two, alpha=ALPHA)
            anytime = min(anytime, start + EVERY if found.anytime.excludes_zero else math.inf)
            last = found.fixed.excludes_zero
            usual = min(usual, start + EVERY if last else math.inf)
    return anytime, usual, last


def differences(name: str, *, repetitions: int, until: float) -> dict[str, float | int | None]:
    draw = np.random.default_rng(crc32(name.encode()))
    make, share_of = CASES[name]
    found: list[tuple[float, float, bool]] = []
    while len(found) < repetitions and (not found or time.perf_counter() < until):
        found.append(looked_at(draw, make(draw), share_of))
    anytime, usual, last = (np.array(part, dtype=np.float64) for part in zip(*found, strict=True))
    interval = wilson(int(np.isfinite(anytime).sum()), len(found))
    return {
        "repetitions": len(found),
        "anytime": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "usual_peeking": round(float(np.isfinite(usual).mean()), 4),
        "usual_once": round(float(last.mean()), 4),
        "median_rows": float(np.median(anytime)) if math.isfinite(float(np.median(anytime))) else None,
    }


def ever(evidence: Callable[[int, int], float], share: float, *, repetitions: int, alpha: float) -> float:
    """Return in what part of streams the evidence ever reaches `log(1 / alpha)`."""
    draw = np.random.default_rng(0)
    counts = draw.binomial(EVERY, share, (repetitions, ROWS // EVERY)).cumsum(axis=1).tolist()
    totals = range(EVERY, ROWS + 1, EVERY)
    return round(float(np.mean([max(map(evidence, row, totals)) >= math.log(1 / alpha) for row in counts])), 4)


def ratio(said: float) -> Callable[[int, int], float]:
    return lambda count, total: multinomial_evidence([count, total - count], [said, 1 - said])


def guard(limit: float) -> Callable[[int, int], float]:
    return lambda count, total: above_evidence(count, total, limit=limit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2_000)
    repetitions = parser.parse_args().repetitions
    began = time.perf_counter()
    found = {}
    for number, name in enumerate(CASES):
        now = time.perf_counter()
        found[name] = differences(name, repetitions=repetitions, until=now + (began + SECONDS - now) / (len(CASES) - number))
    off = {
        f"{share:g} instead of {said:g}": ever(ratio(said), share, repetitions=repetitions, alpha=OFF)
        for share, said in ((0.5, 0.5), (0.1, 0.1), (0.52, 0.5), (0.08, 0.1))
    }
    stopped = {
        f"{share:g}, {limit:g} allowed": ever(guard(limit), share, repetitions=repetitions, alpha=ALPHA)
        for share, limit in ((0.05, 0.05), (0.01, 0.05), (0.08, 0.05))
    }
    seconds = round(time.perf_counter() - began, 1)
    settings = {"rows": ROWS, "looks": ROWS // EVERY, "alpha": ALPHA}
    print(
        json.dumps(
            {"benchmark": "ab_power", **settings, "differences": found, "ratio_off": off, "guard_stops": stopped, "seconds": seconds}
        )
    )
    return int(any(one["low"] > ALPHA for name, one in found.items() if name.startswith("same")))


if __name__ == "__main__":
    sys.exit(main())

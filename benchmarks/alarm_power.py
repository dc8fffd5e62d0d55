"""False alarms and power of the accuracy alarm: a planted drop, and data that have not changed, many times over; other detectors beside
it.

Protocol: a model that is right in 90 % of its answers, measured on as many reference rows as stated (drawn anew in each repetition), is
watched over a month of labels. Either nothing changes (A/A), or accuracy falls by one, two or five points. All ways see the same
streams.

| way | what it is | sees |
|---|---|---|
| detector | `DropDetector`, looked at after each 100 labels, alpha 5 % a month | the reference, the month |
| detector, after a good month | the same; its alarms in the good month are false | the reference, two months |
| fixed | the usual one-sided test, once, after the labels that promise a power of 80 % for two points | the reference, the month |
| peeking | the usual test after each 100 labels until it alarms: what one must not do | the reference, the month |
| ddm, adwin, page_hinkley | `deepseek.statistics.detectors`, label by label, as they are by default | a good month, then the month |
| label_free | the estimate from confidence, each 1,000 rows; alarm where it is a point below the reference | confidences alone |

`label_free` is asked twice: where the mix of rows has changed, which it can see, and where the answers to the same rows have, which it
cannot. Reported for each: the share of repetitions with an alarm within so many labels of the change, with its 95 % Wilson interval,
the median delay, and the mean number of alarms in a good month where there was one. Of unchanged data these are false alarms per month
of stream. The detectors that go label by label in Python have fewer repetitions, which their intervals show.

Usage: python benchmarks/alarm_power.py [--repetitions 2000] [--slow-repetitions 500] [--month 10000] [--reference 20000] [--processes
2]. Prints one JSON line. Exit status 1 where unchanged data raise surely more alarms than stated (the interval lies above alpha), or
two points are found in under 80 % of the months. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from deepseek.statistics.detectors import Adwin, Ddm, Detector, PageHinkley
from deepseek.statistics.intervals import wilson
from deepseek.statistics.label_free import ConfidenceCurve
from deepseek.statistics.sequential import DropDetector, Reference, drop_test, labels_needed

ACCURACY, DROP, ALPHA, STEP, WINDOW = 0.90, 0.02, 0.05, 100, 1_000
HORIZONS = (500, 1_000, 1_500, 3_000, 5_000, 10_000)
DROPS = (0.0, 0.01, 0.02, 0.05)
SEED = 20_261_121
CHUNK = 50
UNSURE = 0.6
"""Confidence of the rows that take the place of others where the mix changes."""


class Settings(NamedTuple):
    """How long a month is, and how well the reference is known, in labels."""

    month: int
    rows: int


class Job(NamedTuple):
    """Some repetitions of one way."""

    way: str
    drop: float
    settings: Settings
    first: int
    count: int


class Found(NamedTuple):
    """Of one repetition: labels from the change to the alarm, if any, and alarms in the good month before, where there was one."""

    delay: int | None
    before: int = 0


def right(draw: np.random.Generator, rows: int, accuracy: float) -> np.ndarray:
    return draw.random(rows) < accuracy


def known(draw: np.random.Generator, rows: int) -> Reference:
    return Reference.of_share(draw.binomial(rows, ACCURACY) / rows, rows)


def detected(draw: np.random.Generator, drop: float, settings: Settings, good: int = 0) -> Found:
    reference = known(draw, settings.rows)
    detector = DropDetector(reference, drop=DROP, alpha=ALPHA, horizon=settings.month)
    stream = np.r_[right(draw, good, ACCURACY), right(draw, settings.month, ACCURACY - drop)]
    before = 0
    for start in range(0, len(stream), STEP):
        if detector.update(stream[start : start + STEP]):
            if start + STEP > good:
                return Found(start + STEP - good, before)
            before += 1  # a false alarm, acted on
            detector.restart()
    return Found(None, before)


def detected_later(draw: np.random.Generator, drop: float, settings: Settings) -> Found:
    return detected(draw, drop, settings, settings.month)


def peeked(draw: np.random.Generator, drop: float, settings: Settings) -> Found:
    reference = known(draw, settings.rows)
    so_far = np.cumsum(right(draw, settings.month, ACCURACY - drop))
    for rows in range(STEP, len(so_far) + 1, STEP):
        if drop_test(so_far[rows - 1] / rows, rows, reference, alpha=ALPHA).alarm:
            return Found(rows)
    return Found(None)


def fixed(draw: np.random.Generator, drop: float, settings: Settings) -> Found:
    reference = known(draw, settings.rows)
    stream = right(draw, settings.month, ACCURACY - drop)
    rows = int(min(np.ceil(labels_needed(ACCURACY, DROP, reference_rows=reference.rows)), len(stream)))
    return Found(rows if drop_test(stream[:rows].mean(), rows, reference, alpha=ALPHA).alarm else None)


def online(make: Callable[[], Detector]) -> Callable[[np.random.Generator, float, Settings], Found]:
    def run(draw: np.random.Generator, drop: float, settings: Settings) -> Found:
        known(draw, settings.rows)  # the same streams as the others see
        detector = make()
        good = (~right(draw, settings.month, ACCURACY)).astype(float).tolist()
        before = sum(detector.update(error) for error in good)
        month = (~right(draw, settings.month, ACCURACY - drop)).astype(float).tolist()
        return Found(next((place + 1 for place, error in enumerate(month) if detector.update(error)), None), before)

    return run


def label_free(*, mix: bool) -> Callable[[np.random.Generator, float, Settings], Found]:
    def run(draw: np.random.Generator, drop: float, settings: Settings) -> Found:
        confidence = sure(draw, settings.rows)
        hits = draw.random(settings.rows) < confidence
        curve, reached = ConfidenceCurve.fit(confidence, hits), hits.mean()
        month = sure(draw, settings.month)
        if mix:
            month[draw.random(settings.month) < drop / (ACCURACY - UNSURE)] = UNSURE
        for start in range(0, settings.month, WINDOW):
            sketch = curve.sketch()
            sketch.update(month[start : start + WINDOW])
            if curve.estimate(sketch).calibrated < reached - DROP / 2:
                return Found(start + WINDOW)
        return Found(None)

    return run


def sure(draw: np.random.Generator, rows: int) -> np.ndarray:
    """Return confidences of a calibrated model that is right in 90 % of its answers: what it says is how often it is right."""
    return 0.5 + 0.5 * draw.beta(4, 1, rows)


QUICK = {
    "detector": detected, "detector, after a good month": detected_later, "fixed": fixed, "peeking": peeked,
    "label_free, the mix changes": label_free(mix=True), "label_free, the answers change": label_free(mix=False),
}  # fmt: skip
SLOW = {"ddm": online(Ddm), "adwin": online(Adwin), "page_hinkley": online(lambda: PageHinkley(way="up"))}


def work(job: Job) -> list[Found]:
    run = {**QUICK, **SLOW}[job.way]
    return [run(np.random.default_rng([SEED, number]), job.drop, job.settings) for number in range(job.first, job.first + job.count)]


def share(count: int, repetitions: int) -> list[float]:
    one = wilson(count, repetitions)
    return [round(one.value, 4), round(one.low, 4), round(one.high, 4)]


def summary(way: str, drop: float, found: list[Found], month: int) -> dict[str, Any]:
    delays = [one.delay for one in found if one.delay is not None]
    told = {
        "way": way,
        "drop_points": 100 * drop,
        "repetitions": len(found),
        "alarms_in_the_month": share(len(delays), len(found)),
        "within_labels": {str(h): share(sum(delay <= h for delay in delays), len(found)) for h in HORIZONS if h <= month},
        "median_delay_labels": float(np.median(delays)) if delays else None,
    }
    if way in SLOW or "good month" in way:
        told["false_alarms_in_the_good_month"] = round(sum(one.before for one in found) / len(found), 4)
        told["good_months_with_one"] = share(sum(one.before > 0 for one in found), len(found))
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--slow-repetitions", type=int, default=500)
    parser.add_argument("--month", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    began, settings = time.perf_counter(), Settings(given.month, given.reference)
    many = {**dict.fromkeys(QUICK, given.repetitions), **dict.fromkeys(SLOW, given.slow_repetitions)}
    jobs = [
        Job(way, drop, settings, first, min(CHUNK, count - first))
        for way, count in many.items()
        for drop in DROPS
        for first in range(0, count, CHUNK)
    ]
    found: dict[tuple[str, float], list[Found]] = {}
    with ProcessPoolExecutor(given.processes) as pool:
        for job, part in zip(jobs, pool.map(work, jobs), strict=True):
            found.setdefault((job.way, job.drop), []).extend(part)
    results = [summary(way, drop, part, given.month) for (way, drop), part in found.items()]
    chosen = {one["drop_points"]: one["alarms_in_the_month"] for one in results if one["way"] == "detector"}
    passed = chosen[0.0][1] <= ALPHA and chosen[2.0][0] >= 0.8
    told = {"accuracy": ACCURACY, "alpha": ALPHA, "month_labels": given.month, "reference_rows": given.reference, "passed": passed}
    print(json.dumps({**told, "seconds": round(time.perf_counter() - began, 1), "results": results}))
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())

"""False alarms and power of the accuracy alarm: a planted drop, and data that have not changed, many times over.

Protocol: a model that is right in 90 % of its answers, measured on as many reference rows as stated (drawn anew in each repetition), is
watched over a month of labels. Either nothing changes, or accuracy falls by one, two or five points, at the start or after a good month.
`detector` looks after each 100 labels with `DropDetector` (alpha 5 % a month); `fixed` is the usual test, once, after the number of labels
that promises a power of 80 % for two points. `peeking` is the usual test looked at after each 100 labels until it alarms: what one must not
do. Reported: the share of repetitions with an alarm within so many labels of the change, with its 95 % Wilson interval, and the median
delay. Of unchanged data these are false alarms per month of stream.

Usage: python benchmarks/alarm_power.py [--repetitions 2000] [--month 10000] [--reference 20000]. Exit status 1 where unchanged data raise
more alarms than stated, or two points are found in under 80 % of the months.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from deepseek.statistics.intervals import wilson
from deepseek.statistics.sequential import DropDetector, Reference, drop_test, labels_needed

ACCURACY, DROP, ALPHA, STEP = 0.90, 0.02, 0.05, 100
HORIZONS = (500, 1_000, 1_500, 3_000, 5_000, 10_000)


def detected(stream: np.ndarray, reference: Reference, month: int, change: int) -> int | None:
    """Return how many labels after the change the alarm comes; alarms before it are false ones and acted on (the detector begins anew)."""
    detector = DropDetector(reference, drop=DROP, alpha=ALPHA, horizon=month)
    for start in range(0, len(stream), STEP):
        if detector.update(stream[start : start + STEP]):
            if start + STEP > change:
                return start + STEP - change
            detector.restart()
    return None


def peeked(stream: np.ndarray, reference: Reference, _month: int, change: int) -> int | None:
    so_far = np.cumsum(stream[change:])
    for rows in range(STEP, len(so_far) + 1, STEP):
        if drop_test(so_far[rows - 1] / rows, rows, reference, alpha=ALPHA).alarm:
            return rows
    return None


def fixed(stream: np.ndarray, reference: Reference, _month: int, change: int) -> int | None:
    rows = int(min(np.ceil(labels_needed(ACCURACY, DROP, reference_rows=reference.rows)), len(stream) - change))
    return rows if drop_test(stream[change : change + rows].mean(), rows, reference, alpha=ALPHA).alarm else None


WAYS = {"detector": detected, "fixed": fixed, "peeking": peeked}


def measure(way: str, drop: float, *, repetitions: int, month: int, rows: int, change: int = 0) -> dict[str, object]:
    draw = np.random.default_rng(20_261_121)
    delays = []
    for _ in range(repetitions):
        reference = Reference.of_share(draw.binomial(rows, ACCURACY) / rows, rows)
        stream = np.r_[draw.random(change) < ACCURACY, draw.random(month) < ACCURACY - drop]
        delays.append(WAYS[way](stream, reference, month, change))
    found = [delay for delay in delays if delay is not None]
    within = {}
    for horizon in (h for h in HORIZONS if h <= month):
        share = wilson(sum(delay <= horizon for delay in found), repetitions)
        within[str(horizon)] = [round(share.value, 4), round(share.low, 4), round(share.high, 4)]
    month_share = wilson(len(found), repetitions)
    return {
        "way": way,
        "drop_points": 100 * drop,
        "after_good_labels": change,
        "reference_rows": rows,
        "month_labels": month,
        "repetitions": repetitions,
        "alarms_in_the_month": [round(month_share.value, 4), round(month_share.low, 4), round(month_share.high, 4)],
        "within_labels": within,
        "median_delay_labels": float(np.median(found)) if found else None,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--month", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=20_000)
    given = parser.parse_args()
    settings = {"repetitions": given.repetitions, "month": given.month, "rows": given.reference}
    results = [measure(way, drop, **settings) for way in WAYS for drop in (0.0, 0.01, 0.02, 0.05)]
    results.append(measure("detector", 0.02, **settings, change=given.month))
    for result in results:
        print(json.dumps(result))
    false_alarms, power = (next(r for r in results if r["way"] == "detector" and r["drop_points"] == points) for points in (0.0, 2.0))
    return int(false_alarms["alarms_in_the_month"][1] > ALPHA or power["alarms_in_the_month"][2] < 0.8)


if __name__ == "__main__":
    sys.exit(main())

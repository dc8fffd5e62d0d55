"""What batching by itself brings: requests a second at p99 <= 50 ms with it and without, one row a request, one thread.

Three settings of the same server take turns: `none` (every row goes through the network alone), `32 rows, 5 ms`, and the default (64 rows,
no waiting: rows gather while the network is busy). Protocol as in `serving.py`. Expected of the table and the texts: at least three times
the rate of `none`. A convolution costs nearly as much for each of 32 rows as for one: its figures are printed, nothing is expected of them.

Run: python benchmarks/batching.py [--rounds 3 --seconds 10]. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from load.generator import Generator, Result, Search, request_of, sustained
from load.models import Workload, make
from load.targets import PREDICT, ceiling, cores, free_port, our_command, served

P99_S = 0.05
SETTINGS = {
    "none": ["--set", "serve.batching.max_size=1"],
    "32 rows, 5 ms": ["--set", "serve.batching.max_size=32", "--set", "serve.batching.max_wait_ms=5"],
    "default": [],
}


def highest(workload: Workload, options: list[str], given: argparse.Namespace) -> Search:
    """Search the highest rate that holds."""
    port = free_port()
    with served(our_command(workload.run, port, *options), port, core=cores()[0]):
        generator = Generator(port, [request_of(PREDICT, body) for body in workload.bodies], check=workload.right)
        generator.run(20, 1.0)

        def measure(rate: float) -> Result:
            return generator.run(rate, given.seconds)

        found = sustained(measure, p99_s=P99_S, lowest=given.lowest, highest=given.highest, steps=given.steps)
        generator.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["tabular", "text", "resnet18"], choices=["tabular", "text", "resnet18"])
    parser.add_argument("--rounds", type=int, default=1, help="3 for the published figures")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a trial of one rate; 10 for the published figures")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--lowest", type=float, default=25.0)
    parser.add_argument("--highest", type=float, default=50_000.0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {cores()[1]})
    found: dict[str, Any] = {"benchmark": "batching", "p99_ms": 1e3 * P99_S, "generator_ceiling": round(ceiling(cores()[0]))}
    with tempfile.TemporaryDirectory() as folder:
        for workload in [make(name, Path(folder)) for name in given.models]:
            rounds: dict[str, list[Search]] = {name: [] for name in SETTINGS}
            for _ in range(given.rounds):
                for name, options in SETTINGS.items():
                    rounds[name].append(highest(workload, options, given))
            rates = {name: statistics.median(one.rate for one in searches) for name, searches in rounds.items()}
            found[workload.name] = {
                name: {"rate": round(rates[name], 1), "rounds": [one.row() for one in rounds[name]]} for name in SETTINGS
            } | {"times_none": {name: round(rates[name] / rates["none"], 2) if rates["none"] else None for name in SETTINGS}}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

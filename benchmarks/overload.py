"""Ten times what a server can do, for a minute: what is accepted keeps its speed, the rest is refused at once, nothing is wrong or lost.

First the highest rate with p99 <= 50 ms is searched (for pictures 250 ms), then half of it is offered, then ten times of it. A latency
counts from the moment at which its request was due. Every answer is compared with `Predictor`. The queue is short, as it has to be where
answers are to be fast or not at all: one batch waits while another is answered. Expected: p99 of the accepted at most twice that at half
load, every other request answered 429, none wrong, none lost, and no growth of memory. The server has one core, the generator another; how
late the generator was itself is printed, and what it sends at most.

Run: python benchmarks/overload.py [--seconds 60]. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from load.generator import ANSWERED, Generator, Result, Search, request_of, sustained
from load.models import Workload, make
from load.targets import PREDICT, ceiling, cores, free_port, our_command, served

BOUNDS_S = {"tabular": 0.05, "text": 0.05, "resnet18": 0.25}
BATCHES = {"tabular": 16, "text": 16, "resnet18": 2}
CONNECTIONS = 1024
REFUSED = 429


def overloaded(workload: Workload, given: argparse.Namespace) -> dict[str, Any]:
    port, rows = free_port(), given.batch or BATCHES[workload.name]
    options = ["--set", f"serve.batching.max_size={rows}", "--set", f"serve.batching.max_queue={rows}", "--runners", str(given.runners)]
    with served(our_command(workload.run, port, *options), port, core=cores()[0]) as server:
        requests = [request_of(PREDICT, body) for body in workload.bodies]
        few = Generator(port, requests, connections=256, check=workload.right)

        def measure(rate: float) -> Result:
            return few.run(rate, given.trial)

        bound = BOUNDS_S[workload.name]
        capacity = Search() if given.capacity else sustained(measure, p99_s=bound, lowest=given.lowest, steps=given.steps)
        able = given.capacity or capacity.rate
        half = few.run(max(1.0, able / 2), given.trial * 2)
        few.close()
        many = Generator(port, requests, connections=CONNECTIONS, check=workload.right)
        rate = max(10.0, given.times * able)
        many.run(rate, min(5.0, given.seconds / 4))
        before = server.resident()
        over = many.run(rate, given.seconds, patience_s=30)
        grown = server.resident() - before
        many.close()
    return {
        "capacity": capacity.row(), "half": half.row(), "over": over.row(),
        "p99_times_half_load": round(over.quantile(0.99) / half.quantile(0.99), 2), "memory_grown_mb": round(grown / 1e6, 2),
        "neither_answered_nor_refused": over.sent - over.statuses[ANSWERED] - over.statuses[REFUSED],
        "times": given.times, "accepted_a_second": round(over.statuses[ANSWERED] / given.seconds, 1), "rows_a_batch_and_in_the_queue": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["tabular", "resnet18"], choices=list(BOUNDS_S))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--trial", type=float, default=5.0, help="length of a trial while the capacity is searched, in seconds")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--lowest", type=float, default=10.0)
    parser.add_argument("--capacity", type=float, help="requests a second that the server can do, where that need not be searched")
    parser.add_argument("--times", type=float, default=10.0, help="how many times the capacity is offered")
    parser.add_argument("--batch", type=int, help="rows of a batch, and of the queue")
    parser.add_argument("--runners", type=int, default=0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {cores()[1]})
    found: dict[str, Any] = {"benchmark": "overload", "generator_ceiling": round(ceiling(cores()[0]))}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            found[name] = overloaded(make(name, Path(folder)), given)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

"""Minutes of load while everything is broken that can be: models exchanged, runners and workers killed, clients that reset, stop and crawl.

Steady open load goes through its own connections, and every answer is compared with `Predictor` of the version that it names. Meanwhile,
one after the other: another bundle takes over; a runner is killed with SIGKILL, once both are ready; clients reset their connections in the
middle of a request, send half a body, or a byte now and then. Expected: no request lost, none wrong, none answered other than 200, and
memory flat: the slope of the worker's resident memory over the second half, in MB a minute, and by how much it grew.

Killed workers are counted apart, in a phase of their own with two workers, as their connections are reset: a client asks again, and what is
counted is how many had to, and how many were not answered in three tries (expected: none).

Run: python benchmarks/soak.py [--minutes 10] [--rate 50]. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import struct
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import deepseek
from load.generator import Generator, Result, request_of
from load.models import FAST, Workload, make, same
from load.targets import PREDICT, Served, cores, free_port, our_command, served

KEY = "a-key-of-the-soak-benchmark"
HEADERS = f"Authorization: Bearer {KEY}\r\n"
TRIES = 3


def children(server: Served, module: str) -> list[int]:
    found = []
    for process in server.processes():
        try:
            if module in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


PROGRAMS = {"worker": "deepseek.serving.worker", "runner": "deepseek.serving.runners.process"}


def ready(server: Served, gauge: str) -> int:
    lines = server.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}).decode().splitlines()
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{gauge} ", f"{gauge}{{"))))


def kill(server: Served, what: str, draw: random.Random) -> bool:
    """Kill a `worker` or a `runner`, where two are ready."""
    living = children(server, PROGRAMS[what])
    if len(living) != 2 or ready(server, f"deepseek_{what}s") != 2:
        return False
    os.kill(draw.choice(living), signal.SIGKILL)
    return True


def exchange(server: Served, run: str) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/admin/models/model/load", json.dumps({"path": run}).encode(), {"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return bool(reply.status == 200)


def broken_client(port: int, body: bytes, draw: random.Random) -> None:
    """Be one client that means no good: cut off, half a body, or a byte now and then."""
    whole = request_of(PREDICT, body, headers=HEADERS)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        kind = draw.randrange(3)
        if kind == 0:
            connection.sendall(whole)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        elif kind == 1:
            connection.sendall(whole[: -len(body) // 2])
        else:
            for place in range(10):
                connection.sendall(whole[place : place + 1])
                time.sleep(0.02)


def disturbances(server: Served, runs: list[str], workload: Workload, counts: Counter[str]) -> list[Callable[[random.Random], None]]:
    def killed(draw: random.Random) -> None:
        counts["runners_killed"] += kill(server, "runner", draw)

    def exchanged(_: random.Random) -> None:
        counts["exchanges"] += exchange(server, runs[counts["exchanges"] % 2])

    def annoyed(draw: random.Random) -> None:
        for _ in range(5):
            broken_client(server.port, draw.choice(workload.bodies), draw)
            counts["broken_clients"] += 1

    return [killed, annoyed, killed, exchanged]


def disturb(end: float, means: list[Callable[[random.Random], None]], pause_s: float, failures: list[str]) -> None:
    draw, turn = random.Random(0), 0
    while time.monotonic() < end:
        time.sleep(pause_s)
        try:
            means[turn % len(means)](draw)
        except OSError as error:
            failures.append(f"{means[turn % len(means)].__name__}: {error!r}")
        turn += 1


class Memory:
    """Looks at the resident memory of the worker once a second, where nothing is being begun."""

    def __init__(self, server: Served, end: float, settled: int) -> None:
        self.seen: list[tuple[float, int]] = []
        self._server, self._end, self._settled = server, end, settled
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while time.monotonic() < self._end:
            if len(self._server.processes()) == self._settled:
                self.seen.append((time.monotonic(), psutil.Process(self._server.pid).memory_info().rss))
            time.sleep(1.0)

    def row(self) -> dict[str, float | None]:
        """Return growth and slope of the second half."""
        late = self.seen[len(self.seen) // 2 :]
        if len(late) < 3:
            return {"looks": len(late), "grown_mb": None, "slope_mb_a_minute": None}
        moments, sizes = (np.array(one, float) for one in zip(*late, strict=True))
        slope = 60 * np.polyfit(moments - moments[0], sizes, 1)[0] / 1e6
        return {"looks": len(late), "grown_mb": round((sizes[-1] - sizes[0]) / 1e6, 2), "slope_mb_a_minute": round(float(slope), 3)}


def soak(workload: Workload, second: Workload, keys: str, given: argparse.Namespace) -> dict[str, Any]:
    port, counts, failures = free_port(), Counter[str](), list[str]()
    by_version: dict[str, Workload] = {}

    def right(number: int, body: bytes) -> bool:
        answer = json.loads(body)
        return same(answer, by_version[answer["version"]].answers[number])

    command = our_command(workload.run, port, "--runners", "2", "--keys", keys, "--set", "serve.read_timeout=2s")
    with served(command, port, core=cores()[0]) as server:
        for one in (second, workload):
            exchange(server, one.run)
            by_version[json.loads(server.get("/readyz"))["models"]["model"]] = one
        settled = len(server.processes())
        generator = Generator(port, [request_of(PREDICT, body, headers=HEADERS) for body in workload.bodies], connections=64, check=right)
        end = time.monotonic() + 60 * given.minutes
        memory = Memory(server, end, settled)
        means = disturbances(server, [second.run, workload.run], workload, counts)
        thread = threading.Thread(target=disturb, args=(end, means, given.pause, failures), daemon=True)
        thread.start()
        result: Result = generator.run(given.rate, 60 * given.minutes, patience_s=40)
        thread.join()
        generator.close()
        row = memory.row()
    return {**result.row(), "statuses": dict(result.statuses), **counts, "worker_memory": row, "failed_disturbances": failures}


def ask(port: int, body: bytes, tally: Counter[str]) -> None:
    for attempt in range(1, TRIES + 1):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", PREDICT, body, {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            tally["reset"] += 1
            time.sleep(0.1 * 2**attempt)
            continue
        finally:
            connection.close()
        tally["answered" if status == 200 else f"status {status}"] += 1
        tally["asked again"] += attempt > 1
        return
    tally["given up"] += 1


def killed_workers(workload: Workload, keys: str, given: argparse.Namespace) -> dict[str, int]:
    port, tally, draw, kills = free_port(), Counter[str](), random.Random(1), 0
    with served(our_command(workload.run, port, "--workers", "2", "--keys", keys), port, core=cores()[0]) as server:
        end = time.monotonic() + 60 * given.minutes / 4

        def client(first: int) -> None:
            own, place = Counter[str](), first
            while time.monotonic() < end:
                ask(port, workload.bodies[place % len(workload.bodies)], own)
                place += 1
            tally.update(own)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            time.sleep(max(1.0, given.pause))
            try:
                kills += kill(server, "worker", draw)
            except (OSError, http.client.HTTPException):  # the one that was asked for the metrics is the one killed just now
                continue
        for thread in threads:
            thread.join()
    return {"workers_killed": kills, **tally}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between disturbances")
    given = parser.parse_args()
    os.sched_setaffinity(0, {cores()[1]})
    with tempfile.TemporaryDirectory() as folder:
        first = make("tabular", Path(folder))
        options = [*FAST, "train.epochs=1", "seed=1", "data.drop=[customer_id, email, note]"]
        data = next((Path(folder) / "tabular").rglob("*.csv"))
        other = deepseek.train(data, target="churned", out=Path(folder) / "runs", overrides=options, progress=False).run
        second = make("tabular", Path(folder), run=str(other))
        keys = Path(folder) / "keys"
        keys.write_text(f"admin:{KEY}\n")
        found = {"benchmark": "soak", "minutes": given.minutes, "runners": soak(first, second, str(keys), given)}
        found["workers"] = killed_workers(first, str(keys), given)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

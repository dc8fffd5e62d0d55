"""Requests a second at p99 <= 50 ms: this framework's server beside FastAPI, LitServe and BentoML, with the same predictor behind each.

Load is open: requests are sent when a Poisson process says so, whether or not earlier ones are answered, and a latency counts from the
moment at which its request was due (no coordinated omission). Server and load generator are pinned to cores of their own. Contestants
that are not installed are passed over. Prints a JSON line for each.

Run: python benchmarks/serving.py [RUN] [--seconds 5] [--contestants deepseek,no-batching,fastapi,litserve,bentoml]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import deepseek

HERE = Path(__file__).parent / "serving"
P99_S = 0.05
CONNECTIONS = 256


def row_of(run: str) -> dict[str, object]:
    from deepseek.artifacts import Bundle
    from deepseek.data.preparation import Preparation
    from deepseek.serving.rows import RowReader

    return RowReader(Preparation.from_json(Bundle.open(Path(run)).read("data.json"))).example()


def commands(run: str, port: int) -> dict[str, tuple[str, list[str], str, str]]:
    """By contestant: the library it needs, its command, and the addresses of readiness and predictions."""
    python, path = sys.executable, "/v1/models/model/predict"
    ours = [python, "-m", "deepseek", "serve", f"model={run}", "--port", str(port)]
    uvicorn = [python, "-m", "uvicorn", "plain_fastapi:app", "--app-dir", str(HERE), "--port", str(port), "--log-level", "warning"]
    return {
        "deepseek": ("uvicorn", ours, "/readyz", path),
        "no-batching": ("uvicorn", [*ours, "--set", "serve.batching.max_size=1"], "/readyz", path),
        "fastapi": ("fastapi", uvicorn, "/readyz", "/predict"),
        "litserve": ("litserve", [python, str(HERE / "lit.py"), str(port)], "/readyz", "/predict"),
        "bentoml": (
            "bentoml",
            [python, "-m", "bentoml", "serve", f"{HERE / 'bento.py'}:Served", "--port", str(port)],
            "/readyz",
            "/predict",
        ),
    }


@contextmanager
def served(command: list[str], url: str, environment: dict[str, str], cores: set[int]) -> Iterator[int]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
        os.sched_setaffinity(process.pid, cores)
        try:
            for _ in range(600):
                try:
                    with urllib.request.urlopen(url, timeout=1) as reply:
                        if reply.status == 200:
                            break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.1)
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{command} ended:\n{log.read().decode(errors='replace')[-2000:]}")
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


async def connection(port: int, due: asyncio.Queue[float | None], request: bytes, latencies: list[float], failures: list[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (moment := await due.get()) is not None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - moment)
        if b" 200 " not in head.split(b"\r\n")[0]:
            failures.append(head.split(b"\r\n")[0].decode())
    writer.close()


async def load(port: int, request: bytes, rate: float, seconds: float) -> dict[str, float]:
    """Return latencies at a rate; a first second is not counted."""
    due: asyncio.Queue[float | None] = asyncio.Queue()
    latencies: list[float] = []
    failures: list[str] = []
    clients = [asyncio.create_task(connection(port, due, request, latencies, failures)) for _ in range(CONNECTIONS)]
    draw, moment, end = random.Random(0), time.perf_counter(), time.perf_counter() + seconds + 1
    warm = 0
    while moment < end:
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        due.put_nowait(moment)
        warm += moment < end - seconds
        moment += draw.expovariate(rate)
    for _ in clients:
        due.put_nowait(None)
    done, late = await asyncio.wait(clients, timeout=10)
    for task in late:
        task.cancel()
    counted = sorted(latencies[warm:]) or [float("inf")]
    return {
        "rate": rate, "p50_ms": 1e3 * statistics.median(counted), "p99_ms": 1e3 * counted[min(len(counted) - 1, int(0.99 * len(counted)))],
        "failed": len(failures) + len(late) + sum(task.exception() is not None for task in done),
    }  # fmt: skip


def sustained(port: int, request: bytes, seconds: float, highest: float) -> dict[str, float]:
    """Return the highest rate whose p99 is kept and of which nothing fails: doubled until it is not, then halved in between."""
    best: dict[str, float] = {"rate": 0.0}
    low, high = 0.0, 50.0
    while high <= highest and (found := asyncio.run(load(port, request, high, seconds)))["p99_ms"] <= 1e3 * P99_S and not found["failed"]:
        best, low, high = found, high, 2 * high
    for _ in range(4):
        middle = (low + high) / 2
        found = asyncio.run(load(port, request, middle, seconds))
        if found["p99_ms"] <= 1e3 * P99_S and not found["failed"]:
            best, low = found, middle
        else:
            high = middle
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", help="what is served; a small model of generated customers where not given")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--highest", type=float, default=50_000.0)
    parser.add_argument("--contestants", default="deepseek,no-batching,fastapi,litserve,bentoml")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(given, given.run or trained(Path(folder)))


def trained(folder: Path) -> str:
    table = deepseek.example("customers", folder)
    return str(deepseek.train(table, target="churned", out=folder / "runs", overrides=["train.epochs=3"], progress=False).run)


def compare(given: argparse.Namespace, served_run: str) -> None:
    cores = sorted(os.sched_getaffinity(0))
    server, client = ({*cores[:-1]}, {cores[-1]}) if len(cores) > 1 else ({cores[0]}, {cores[0]})
    os.sched_setaffinity(0, client)
    run, row = str(Path(served_run).absolute()), row_of(served_run)
    for name in given.contestants.split(","):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        library, command, ready, path = commands(run, port)[name]
        if importlib.util.find_spec(library) is None:
            print(json.dumps({"contestant": name, "skipped": f"{library} is not installed"}), flush=True)
            continue
        body = json.dumps({"rows": [row]} if name == "bentoml" else row).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        environment = {"RUN": run, "OMP_NUM_THREADS": str(len(server))}
        with served(command, f"http://127.0.0.1:{port}{ready}", environment, server):
            asyncio.run(load(port, head + body, 20, 1.0))
            result = sustained(port, head + body, given.seconds, given.highest)
        print(json.dumps({"contestant": name, **{key: round(value, 2) for key, value in result.items()}}), flush=True)


if __name__ == "__main__":
    main()

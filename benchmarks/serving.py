"""Requests a second at p99 <= 50 ms: this framework's server beside LitServe, BentoML and plain FastAPI.

Three contests. `identical`: everybody's handler makes the same call of the same predictor, everybody's dynamic batching is on (64 rows,
2 ms; BentoML's adapts itself to 50 ms; FastAPI has none), access logs are off. `defaults`: everybody as the documentation begins, ours
being `deepseek serve RUN`, which looks for the fastest form of the model once, beside answering; it is asked when it has found it, and
the seconds that took are printed. `exported`: the same, ours after `deepseek export RUN --to auto`. Load is open (see
`load/generator.py`); a rate counts where p99 <= 50 ms and at least 99.9 % are answered. The server and all its processes are pinned to
one core and one thread, the generator to another; contestants take turns, and medians of the rounds are compared. What the generator
can do at most is measured first.

The others run in an environment of their own, whose libraries go before the framework's:
    python -m venv /tmp/peers && /tmp/peers/bin/pip install litserve bentoml fastapi uvicorn uvloop httptools orjson
    python benchmarks/serving.py --peers-python /tmp/peers/bin/python
Without it only this framework is measured. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import deepseek
from load.generator import Generator, Result, Search, request_of, sustained
from load.models import Workload, make
from load.targets import PREDICT, ceiling, cores, free_port, our_command, served, wait_until_optimized

HERE = Path(__file__).parent / "peers"
CONTESTS = ("identical", "defaults", "exported")
IDENTICAL = ["--set", "serve.batching.max_size=64", "--set", "serve.batching.max_wait_ms=2"]


def contestant(name: str, contest: str, *, run: str, port: int, python: str) -> tuple[list[str], str, str]:
    """Return a contestant's command, and the addresses of readiness and predictions."""
    if name == "deepseek":
        optimize = contest == "defaults"
        return our_command(run, port, *(IDENTICAL if contest == "identical" else []), optimize=optimize), "/readyz", PREDICT
    if name == "litserve":
        return [python, str(HERE / "lit.py"), str(port)], "/health", "/predict"
    if name == "bentoml":
        return [python, "-m", "bentoml", "serve", "bento:Model", "--working-dir", str(HERE), "--port", str(port)], "/readyz", "/predict"
    quiet = ["--no-access-log", "--log-level", "warning"] if contest == "identical" else []
    return [python, "-m", "uvicorn", "plain_fastapi:app", "--app-dir", str(HERE), "--port", str(port), *quiet], "/health", "/predict"


def body_of(name: str, contest: str, row: dict[str, Any]) -> bytes:
    if name != "bentoml":
        return json.dumps(row).encode()
    return json.dumps({"rows": [row]} if contest == "identical" else {"row": row}).encode()


def answered(name: str, contest: str, body: bytes) -> Any:
    """Return what a response says is predicted."""
    found = json.loads(body)
    return (found[0] if name == "bentoml" and contest == "identical" else found)["prediction"]


def highest(name: str, contest: str, workload: Workload, given: argparse.Namespace, waited: list[float]) -> Search:
    """Search the highest rate that holds; note how long our server by default takes to find the fastest form of the model."""
    port = free_port()
    command, ready, path = contestant(name, contest, run=workload.run, port=port, python=given.peers_python)
    environment = {
        "RUN": workload.run, "CONTEST": contest, "FRAMEWORK_PACKAGES": sysconfig.get_paths()["purelib"],
        "FRAMEWORK_SOURCE": str(Path(deepseek.__file__).parents[1]),
    }  # fmt: skip
    if name != "deepseek":
        environment["PYTHONPATH"] = ""
    requests = [request_of(path, body_of(name, contest, row)) for row in workload.rows]

    def right(number: int, body: bytes) -> bool:
        return bool(answered(name, contest, body) == workload.answers[number]["prediction"])

    with served(command, port, ready=ready, core=cores()[0], environment=environment):
        if name == "deepseek" and contest == "defaults":
            waited.append(wait_until_optimized(workload.run, port))
        generator = Generator(port, requests, check=right)
        generator.run(20, 1.0)

        def measure(rate: float) -> Result:
            return generator.run(rate, given.seconds)

        found = sustained(measure, p99_s=given.p99_ms / 1e3, lowest=given.lowest, highest=given.highest, steps=given.steps)
        generator.close()
    return found


def versions(python: str) -> dict[str, str]:
    names = ("litserve", "bentoml", "fastapi", "uvicorn", "pydantic", "starlette")
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names}}}))"
    found: dict[str, str] = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers-python", help="the Python of an environment with litserve, bentoml and fastapi")
    parser.add_argument("--models", nargs="+", default=["tabular", "resnet18"], choices=["tabular", "resnet18", "text"])
    parser.add_argument("--contests", nargs="+", default=list(CONTESTS), choices=CONTESTS)
    parser.add_argument("--contestants", nargs="+", default=["deepseek", "litserve", "bentoml", "fastapi"])
    parser.add_argument("--p99-ms", type=float, default=50.0, help="the bound: 250 where a row alone takes longer than 50 ms")
    parser.add_argument("--rounds", type=int, default=1, help="3 for the published figures")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a trial of one rate; 10 for the published figures")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--lowest", type=float, default=25.0)
    parser.add_argument("--highest", type=float, default=50_000.0)
    given = parser.parse_args()
    names = given.contestants if given.peers_python else ["deepseek"]
    os.sched_setaffinity(0, {cores()[1]})
    found: dict[str, Any] = {"benchmark": "serving", "p99_ms": given.p99_ms, "generator_ceiling": round(ceiling(cores()[0]))}
    found["versions"] = versions(given.peers_python) if given.peers_python else {}
    with tempfile.TemporaryDirectory() as folder:
        for workload in [make(name, Path(folder)) for name in given.models]:
            for contest in sorted(given.contests, key=CONTESTS.index):
                ours = workload
                if contest == "exported":
                    kept = deepseek.export(workload.run, to="auto")
                    ours = make(workload.name, Path(folder), run=kept["bundle"])
                    found[f"{workload.name} kept"] = {key: kept[key] for key in ("backend", "precision", "timings")}
                rounds: dict[str, list[Search]] = {name: [] for name in names}
                waited: list[float] = []
                for _ in range(given.rounds):
                    for name in names:
                        rounds[name].append(highest(name, contest, ours if name == "deepseek" else workload, given, waited))
                found[f"{workload.name} {contest}"] = summary(rounds)
                if waited:
                    found[f"{workload.name} {contest}"]["found_the_fastest_form_in_s"] = round(waited[0], 1)
    print(json.dumps(found), flush=True)


def summary(rounds: dict[str, list[Search]]) -> dict[str, Any]:
    """Return each contestant's median rate with its rounds, and ours against the best of the others."""
    rates = {name: statistics.median(one.rate for one in measured) for name, measured in rounds.items()}
    made: dict[str, Any] = {name: {"rate": round(rates[name], 1), "rounds": [one.row() for one in rounds[name]]} for name in rounds}
    others = [rate for name, rate in rates.items() if name != "deepseek"]
    if others and max(others) > 0:
        made["times_the_best_other"] = round(rates["deepseek"] / max(others), 2)
    return made


if __name__ == "__main__":
    main()

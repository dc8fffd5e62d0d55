"""How long the first words take, and how much a core install brings along.

`import deepseek` and `deepseek --help` are the medians of fresh processes. The packages are all that the distribution needs without
extras, on this platform, less torch and what torch needs by itself. Prints a JSON line for each.

Run: python benchmarks/import_time.py [--runs 11]. Exit status 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import subprocess
import sys
import time

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MOST_PACKAGES = 35
LIMITS_S = {"import deepseek": 0.1, "deepseek --help": 0.3}
PROGRAMS = {
    "nothing": ["-c", "pass"],
    "import deepseek": ["-c", "import deepseek"],
    "deepseek --help": ["-m", "deepseek", "--help"],
}


def seconds_of(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def closure(distribution: str) -> set[str]:
    """Return a distribution and all that it needs, without extras."""
    found: set[str] = set()
    waiting: list[tuple[str, frozenset[str]]] = [(canonicalize_name(distribution), frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(runs):
        for name, arguments in PROGRAMS.items():
            seconds[name].append(seconds_of(arguments))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        above = round(median - medians["nothing"], 4)
        limit = LIMITS_S.get(name)
        print(
            json.dumps(
                {"benchmark": "import_time", "program": name, "median_s": round(median, 4), "above_nothing_s": above, "limit_s": limit}
            )
        )
    packages = sorted(closure("deepseek-framework") - closure("torch") - {"deepseek-framework"})
    print(json.dumps({"benchmark": "packages", "count": len(packages), "limit": MOST_PACKAGES, "packages": packages}))
    slow = any(medians[name] > limit for name, limit in LIMITS_S.items())
    return int(slow or len(packages) > MOST_PACKAGES)


if __name__ == "__main__":
    sys.exit(main())

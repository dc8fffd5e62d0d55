"""How long the first words take: `import deepseek` and `deepseek --help`, each the median of fresh processes.

Run: python benchmarks/import_time.py [--runs 11]. Exit status 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    medians = {name: statistics.median(seconds_of(arguments) for _ in range(runs)) for name, arguments in PROGRAMS.items()}
    rows = {
        name: {"median_s": round(seconds, 4), "above_nothing_s": round(seconds - medians["nothing"], 4), "limit_s": LIMITS_S.get(name)}
        for name, seconds in medians.items()
    }
    print(json.dumps(rows, indent=2))
    return int(any(medians[name] > limit for name, limit in LIMITS_S.items()))


if __name__ == "__main__":
    sys.exit(main())

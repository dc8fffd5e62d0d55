"""The first hour beside Ludwig and AutoGluon: what is installed, what an import costs, typos, leaks, and whether answers stay the same.

Each contestant lives in an environment of its own, whose Python is named. `--prelude` names a module that is imported first there, for
environments whose own imports fail for reasons of the machine. Prints a JSON line for each.

Run: python benchmarks/first_hour.py deepseek=.venv/bin/python ludwig=/path/bin/python autogluon=/path/bin/python [--prelude ludwig=MODULE]
Without contestants this project alone is measured, in the environment that runs the script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROBES = Path(__file__).resolve().parent / "first_hour"
IMPORTS = {
    "deepseek": "import deepseek",
    "ludwig": "from ludwig.api import LudwigModel",
    "autogluon": "from autogluon.tabular import TabularPredictor",
}
_SIZE = """
import importlib.metadata, json, os, sysconfig
home = sysconfig.get_paths()["purelib"]
inside = [os.path.join(folder, name) for folder, _, names in os.walk(home) for name in names]
size = sum(os.lstat(path).st_size for path in inside)
print(json.dumps({"packages": len(list(importlib.metadata.distributions())), "megabytes": round(size / 2**20)}))
"""
_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); {prelude}import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"


def output(python: str, arguments: list[str], *, folder: str | None = None) -> str:
    """Run a contestant's Python, in a folder of its own where it leaves files, and return the last line that it prints."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([python, *arguments], check=True, capture_output=True, text=True, env=environment, cwd=folder)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def probe(name: str, python: str, prelude: str, verb: str, folder: str) -> dict:
    script = str(PROBES / f"probe_{name}.py")
    code = _RUN.format(prelude=f"import {prelude}; " if prelude else "")
    code = code.replace("sys.argv[1]", "sys.argv.pop(1)")
    found: dict = json.loads(output(python, ["-c", code, str(PROBES), script, verb, folder], folder=folder))
    return found


def import_s(name: str, python: str, prelude: str, runs: int) -> float:
    spent = []
    for code in [f"{f'import {prelude}; ' if prelude else ''}{IMPORTS[name]}"] * (runs + 1):
        began = time.perf_counter()
        output(python, ["-c", code])
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[1:])  # the first one warms the disk


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contestants", nargs="*", default=[f"deepseek={sys.executable}"], metavar="NAME=PYTHON")
    parser.add_argument("--prelude", action="append", default=[], metavar="NAME=MODULE")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    preludes = dict(item.split("=", 1) for item in given.prelude)
    for name, path in (item.split("=", 1) for item in given.contestants):
        prelude = preludes.get(name, "")
        python = str(Path(path).absolute())  # a link to the system's Python is what makes it that environment's
        with tempfile.TemporaryDirectory() as folder:
            found = {**json.loads(output(python, ["-c", _SIZE])), "import_s": round(import_s(name, python, prelude, given.runs), 2)}
            found |= probe(name, python, prelude, "work", folder)
            found["parity"] |= probe(name, python, prelude, "reload", folder)
        print(json.dumps({"benchmark": "first_hour", "contestant": name, **found}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

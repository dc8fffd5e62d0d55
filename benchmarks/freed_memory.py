"""What a training step gains where freed memory is kept, instead of given back to the system and asked for anew in the next step.

For each network two fresh processes a round, which take turns, make the same steps: in one as `deepseek train` makes them, in the other as
glibc does by itself. The first steps are not counted. Printed: seconds of the processor and of the clock a step, pages mapped anew, and the
most that the process held; medians over the rounds, and ratios of the medians. Data are generated. Prints one JSON line.

    python benchmarks/freed_memory.py [RECIPE …] [--threads 1] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from deepseek import progress
from deepseek.artifacts import StageCache
from deepseek.pipeline.planning.subject import subject_of
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.pipeline.run import resolve
from deepseek.recipe import load_recipe
from deepseek.training.autotune import Way, trial_step
from deepseek.training.memory.allocator import freed_memory_kept
from planner import COMMON, RECIPES

NAMES = ["images, EfficientNet", "images, ResNet-18", "texts, Transformer", "series, TFT", "table, TabM"]
UNCOUNTED, COUNTED = 3, 8


def steps(recipe: dict[str, Any], cache: Path, *, kept: bool) -> dict[str, float]:
    """Make steps, and say what one took."""
    checked = load_recipe(recipe)
    dataset = make_dataset(checked, StageCache(cache))
    subject = subject_of(resolve(checked, dataset)[0], dataset)
    size, found = subject.batch_size, []
    with freed_memory_kept() if kept else contextlib.nullcontext():
        step = trial_step(subject.model, subject.model.task.loss, spec=subject.trainer.optimizer_spec, way=Way("fp32"))
        for number in range(UNCOUNTED + COUNTED):
            batch = subject.rows.take((np.arange(size) + size * number) % len(subject.rows))
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            step(batch)
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
            processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found.append({"processor_ms": processor * 1e3, "wall_ms": wall * 1e3, "pages": after.ru_minflt - before.ru_minflt})
    line = {name: statistics.median(one[name] for one in found[UNCOUNTED:]) for name in found[0]}
    return {**line, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measured(name: str, folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Compare both ways for one network."""
    value = RECIPES[name](folder)
    recipe = {"name": "steps", **value, "train": {**COMMON, **value["train"]}}
    make_dataset(load_recipe(recipe), StageCache(folder / "cache"))
    told: dict[str, list[dict[str, float]]] = {"kept": [], "given back": []}
    for _ in range(rounds):
        for way, lines in told.items():
            command = [sys.executable, __file__, "--child", json.dumps([recipe, str(folder / "cache"), way == "kept"])]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
            )
            lines.append(json.loads(done.stdout.splitlines()[-1]))
    both = {way: {key: statistics.median(line[key] for line in lines) for key in lines[0]} for way, lines in told.items()}
    ratios = {f"times {key}": round(both["given back"][key] / both["kept"][key], 3) for key in ("processor_ms", "wall_ms")}
    return {way: {key: round(number, 1) for key, number in line.items()} for way, line in both.items()} | ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=NAMES, metavar="RECIPE", help=f"of: {', '.join(RECIPES)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    progress.quiet()
    if given.child:
        recipe, cache, kept = json.loads(given.child)
        print(json.dumps(steps(recipe, Path(cache), kept=kept)))
        return
    found = {}
    for name in given.recipes:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(name, Path(folder), given.rounds, given.threads)
        sys.stderr.write(f"{name}: {json.dumps(found[name])}\n")
    print(json.dumps({"benchmark": "freed_memory", "threads": given.threads, "rounds": given.rounds, "networks": found}))


if __name__ == "__main__":
    main()

"""Image augmentation on a processor: a batch of 256 images of 224 x 224, against Kornia and Albumentations.

Each operation alone, and all six in a row. Every library works on what it is made for: this framework on bytes `[b, h, w, c]`, Kornia on
floats `[b, c, h, w]`, Albumentations on one image of bytes after the other, with OpenCV. Contestants take turns, one batch at a time, and
medians are compared. The peers live in an environment of their own, in which `kornia==0.9.0 albumentations==2.0.8` and the same torch are
installed; without one only this framework is measured. Prints one JSON line. `--isa avx2` keeps all that is
torch's to AVX2; `--clock processor` counts a process's own time, which other work disturbs less; with one thread it is a batch's time.

    python benchmarks/augmentation.py --threads 1 --peers-python peers/bin/python
    python benchmarks/augmentation.py --threads 2 --peers-python peers/bin/python --isa avx2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIZE = 224
OPERATIONS = ("flip", "rotate", "crop", "colour", "erase", "noise", "all")
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
Runs = dict[str, Callable[[], Any]]


def pixels(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, SIZE, SIZE, 3), dtype=np.uint8)


def framework(rows: int) -> Runs:
    """Return this framework's operations, by name."""
    from deepseek.data.augment import Augment
    from deepseek.data.batch import Batch
    from deepseek.data.transforms.base import InputSpec
    from deepseek.fields import Kind

    specs: dict[str, dict[str, Any]] = {
        "flip": {"type": "flip"},
        "rotate": {"type": "rotate", "degrees": 15.0},
        "crop": {"type": "crop", "area": (0.25, 1.0), "ratio": (0.75, 4 / 3)},
        "colour": {"type": "color_jitter", "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1},
        "erase": {"type": "erase", "probability": 0.5, "fraction": 0.3},
        "noise": {"type": "noise", "std": (0.05, 0.05), "probability": 1.0},
    }
    inputs = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (SIZE, SIZE, 3), "uint8")}
    batch, steps = Batch({"photo": torch.from_numpy(pixels(rows))}), iter(range(1 << 30))

    def run(*names: str) -> Callable[[], Any]:
        augment = Augment([specs[name] for name in names], inputs)
        return lambda: augment.apply(batch, next(steps))

    return {**{name: run(name) for name in specs}, "all": run(*specs)}


def kornia(rows: int) -> Runs:
    """Return Kornia's operations, by name."""
    import kornia.augmentation as k

    x = torch.from_numpy(pixels(rows)).permute(0, 3, 1, 2).contiguous().float() / 255
    parts = {
        "flip": k.RandomHorizontalFlip(p=0.5),
        "rotate": k.RandomRotation(15.0, p=1.0),
        "crop": k.RandomResizedCrop((SIZE, SIZE), scale=(0.25, 1.0), ratio=(0.75, 4 / 3), p=1.0),
        "colour": k.ColorJitter(0.2, 0.2, 0.2, 0.1, p=1.0),
        "erase": k.RandomErasing(p=0.5, scale=(0.09, 0.09), ratio=(1.0, 1.0)),
        "noise": k.RandomGaussianNoise(std=0.05, p=1.0),
    }
    runs = {name: (lambda part=part: part(x)) for name, part in parts.items()}
    whole = torch.nn.Sequential(*parts.values())
    return {**runs, "all": lambda: whole(x)}


def albumentations(rows: int) -> Runs:
    """Return Albumentations' operations, by name."""
    import albumentations as a
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    x = pixels(rows)
    out = np.empty_like(x)
    parts = {
        "flip": a.HorizontalFlip(p=0.5),
        "rotate": a.Rotate(limit=15, p=1.0),
        "crop": a.RandomResizedCrop(size=(SIZE, SIZE), scale=(0.25, 1.0), ratio=(0.75, 4 / 3), p=1.0),
        "colour": a.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=(-0.1, 0.1), p=1.0),
        "erase": a.CoarseDropout(num_holes_range=(1, 1), hole_height_range=(0.3, 0.3), hole_width_range=(0.3, 0.3), p=0.5),
        "noise": a.GaussNoise(std_range=(0.05, 0.05), p=1.0),
    }

    def run(part: Any) -> Callable[[], Any]:
        def go() -> None:
            for row, image in enumerate(x):
                out[row] = part(image=image)["image"]

        return go

    return {**{name: run(a.Compose([part])) for name, part in parts.items()}, "all": run(a.Compose(list(parts.values())))}


CONTESTANTS = {"framework": framework, "kornia": kornia, "albumentations": albumentations}


def timed(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    return clock() - began


def work(names: list[str], rows: int, clock: Callable[[], float]) -> None:
    """Be a process that times what it is told to, until its input ends."""
    runs = {name: CONTESTANTS[name](rows) for name in names}
    print("ready", flush=True)
    for line in sys.stdin:
        contestant, operation = line.split()
        print(timed(runs[contestant][operation], clock), flush=True)


class Worker:
    """A process with some of the contestants."""

    def __init__(self, python: str, names: list[str], arguments: argparse.Namespace) -> None:
        command = [python, __file__, "--worker", *names, "--rows", str(arguments.rows), "--threads", str(arguments.threads)]
        command += ["--clock", arguments.clock]
        environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", **(AVX2 if arguments.isa == "avx2" else {})}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        while (line := self._read()) != "ready":
            print(line, file=sys.stderr)

    def time(self, contestant: str, operation: str) -> float:
        assert self._process.stdin is not None, "opened as a pipe"
        print(contestant, operation, file=self._process.stdin, flush=True)
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None, "opened as a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a contestant's process ended early")
        return line.strip()

    def close(self) -> None:
        assert self._process.stdin is not None, "opened as a pipe"
        self._process.stdin.close()
        self._process.wait()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    workers = {"framework": Worker(sys.executable, ["framework"], arguments)}
    if arguments.peers_python:
        peers = Worker(arguments.peers_python, ["kornia", "albumentations"], arguments)
        workers |= {"kornia": peers, "albumentations": peers}
    seconds: dict[str, dict[str, list[float]]] = {name: {operation: [] for operation in OPERATIONS} for name in workers}
    for round_ in range(arguments.rounds + 1):  # the first is for warming up
        for operation in OPERATIONS:
            for name, worker in workers.items():
                taken = worker.time(name, operation)
                seconds[name][operation] += [taken] if round_ else []
    for worker in set(workers.values()):
        worker.close()
    medians = {name: {key: statistics.median(values) for key, values in found.items()} for name, found in seconds.items()}
    return {
        "benchmark": "augmentation",
        "rows": arguments.rows,
        "threads": arguments.threads,
        "isa": arguments.isa,
        "clock": arguments.clock,
        "milliseconds": {name: {key: round(1000 * value, 1) for key, value in found.items()} for name, found in medians.items()},
        "times_as_fast": {
            name: {key: round(found[key] / medians["framework"][key], 2) for key in OPERATIONS}
            for name, found in medians.items()
            if name != "framework"
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--isa", choices=["all", "avx2"], default="all")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--peers-python", type=str, help="the interpreter of an environment with Kornia and Albumentations")
    parser.add_argument("--worker", nargs="*", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.worker:
        sys.path.remove(str(Path(__file__).parent)) if str(Path(__file__).parent) in sys.path else None
        work(given.worker, given.rows, CLOCKS[given.clock])
    else:
        print(json.dumps(measure(given)))

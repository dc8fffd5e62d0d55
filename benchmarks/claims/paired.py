"""What claims about training share: intervals of paired differences, what a run's events say, and images to learn from."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from scipy import stats

Found = TypeVar("Found")
DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))


def interval(values: list[float]) -> list[float]:
    """The 95 % interval of the mean, by Student's t; of one value the value itself."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return [round(mean, 4), round(mean, 4)]
    width = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return [round(mean - width, 4), round(mean + width, 4)]


class Kept:
    """What trainings gave, by what they were asked, in a file of JSON lines: a measurement broken off goes on, a wider one begins with it.

    Args:
        path: The file, made where there is none; without one nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self.found = {json.dumps(line["asked"]): line["found"] for line in map(json.loads, lines)}

    def __call__(self, asked: list[Any], make: Callable[[], Found]) -> Found:
        """Return what is kept, or make it and keep it."""
        key = json.dumps(asked)
        if key not in self.found:
            self.found[key] = make()
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"asked": asked, "found": self.found[key]}) + "\n")
        return cast("Found", self.found[key])


def validations(run: str | Path) -> list[dict[str, Any]]:
    """The metrics of every validation of a run, each with its step and the seconds it came after."""
    lines = (Path(run) / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["metrics"] for event in map(json.loads, lines) if event["event"] == "validation"]


def steps_to(found: list[dict[str, Any]], metric: str, target: float, *, over: int = 3) -> int | None:
    """After how many steps the mean of the last validations, so many of them, has reached a value; nothing where it never has.

    One validation alone passes a target by chance, and the noisier an arm is, the sooner.
    """
    values = [float(entry[metric]) for entry in found]
    ends = range(over, len(values) + 1)
    return next((int(found[end - 1]["step"]) for end in ends if statistics.mean(values[end - over : end]) >= target), None)


def fashion(rows: int, held: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """So many training and validation images of Fashion-MNIST, apart from each other; the same ones each time."""
    with np.load(DATA / "fashion_mnist" / "fashion_mnist.npz") as file:
        order = np.random.default_rng(0).permutation(60_000)
        parts = {"train": order[:rows], "val": order[60_000 - held :]}
        return {name: (file["x_train"][chosen], file["y_train"][chosen]) for name, chosen in parts.items()}


def npz(path: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Images and labels as a file that `deepseek.train` reads with its splits."""
    np.savez(path, **{f"{axis}_{part}": array for part, pair in parts.items() for axis, array in zip("xy", pair, strict=True)})
    return path

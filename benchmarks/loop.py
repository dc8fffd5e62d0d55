"""The closed loop on streams of the past: what it notices, how fast it recovers, and what it is worth beside simpler ways.

Protocol: a small perceptron is trained on the first rows and put to the others in batches of 50, each answered before any of its labels is
known. The loop is the product's own (`deepseek.replay`): the watch's alarm, a new model (with and without the old rows, the better one on
fresh validation rows), the gate on rows that it never saw, a shadow, a canary, promotion. Beside it, on the same rows: `never` (the first
model for ever), `periodic` (a new model each day or week on old and new rows, deployed better or not), `online` (the first model learns
from each labelled batch, with rehearsal), and `no_change` (the truth of the row before), which is printed first.

* Elec2: the 45,312 rows in their order, 48 a day; the first 20 weeks train, labels come a day later, `periodic` is each week.
* Adult: its 48,842 rows, shuffled by the seed; 12,000 train, 20,000 are the stream, 1,000 a day, labels 200 rows later, `periodic` each
  day. At a row drawn between the 6,000th and the 9,000th the world changes: `education_num` is counted from the other end (17 less it, a
  change of meaning), `capital_gain` and `capital_loss` come in thousands, `hours_per_week` in minutes (changes of scale), and a tenth of
  the labels is drawn by lot. `education`, the same as `education_num` in words, is left out. `oracle` answers, from the change on, with a
  model trained on 12,000 other rows of the new world. Rows to detect are those from the change to the beginning of a round; rows to recover
  those to the end of the first 500 rows whose accuracy is within two points of the oracle's.

Medians over seeds. Usage: DEEPSEEK_DATA=… python benchmarks/loop.py [--seeds 5] [--rows N] [--only elec2|adult].
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch

import deepseek
from deepseek import progress
from deepseek.artifacts import Bundle
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.reading import read_preparation
from deepseek.learning import OnlineLearner
from deepseek.monitoring.reference import ModelReference
from deepseek.pipeline.closed_loop.champion import Champion
from deepseek.pipeline.closed_loop.contestants import Contestant, Looped, Never, Periodic
from deepseek.pipeline.closed_loop.gate import Answered, goodness, truth_of
from deepseek.pipeline.closed_loop.replay import copied, play, rounds_in_rows
from deepseek.pipeline.learn import batches_of

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship", "race", "sex"),
    *("capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)
WINDOW, NEAR = 500, 0.02
RECIPE: dict[str, Any] = {
    "model": {"type": "mlp", "width": 64},
    "train": {"max_steps": 300, "batch_size": 128, "precision": "fp32"},
    "monitor": {"alarm": {"metric": "accuracy", "drop": 0.03}, "drift": False, "window": {"rows": 500}, "keep_inputs": "values"},
}


class Online:
    """The first model, which learns from each labelled batch."""

    def __init__(self, run: Path, *, seed: int) -> None:
        bundle = Bundle.open(run)
        self.preparation = read_preparation(bundle)
        self.learner = OnlineLearner(TorchBackend(bundle).model, optimizer={"type": "adam", "learning_rate": 1e-3}, replay=64, seed=seed)

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        parts = [self.learner.answer(batch) for _, batch in self._batches(rows)]
        return self.learner.model.task.answer({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        for _, batch in self._batches(rows):
            self.learner.learn(batch)

    def _batches(self, rows: pa.Table) -> list[Any]:
        return list(batches_of(self.preparation, rows.combine_chunks().to_batches(), 50, counts=Counter()))


class Oracle:
    """Answers with one model up to a row and with another from there on."""

    def __init__(self, before: Path, after: Path, change: int) -> None:
        self.models, self.change, self.seen = (Never(before), Never(after)), change, 0

    def answer(self, rows: pa.Table, *, at: np.ndarray) -> pa.Table:
        start, self.seen = self.seen, self.seen + rows.num_rows
        return self.models[start >= self.change].answer(rows, at=at)

    def learn(self, rows: pa.Table, *, first: int, at: float) -> None:
        pass


def train(table: pa.Table, target: str, folder: Path, *, name: str, seed: int, on_alarm: dict[str, Any]) -> Path:
    path = folder / f"{name}.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    monitor = {**RECIPE["monitor"], "on_alarm": on_alarm}
    recipe = {**RECIPE, "name": name, "seed": seed, "data": {"source": str(path), "target": target}, "monitor": monitor}
    return Path(deepseek.run(recipe, out=folder / "runs").run)


def contest(
    run: Path, stream: pa.Table, *, seed: int, labels_after: int, rows_a_day: int, every: int, oracle: Contestant | None = None
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    champion = Champion.open(run)
    target = ModelReference.load(champion.bundle).target
    with copied(champion, ["loop", "periodic"]) as copies:
        looped = Looped(copies["loop"])
        contestants: dict[str, Contestant] = {
            "loop": looped,
            "never": Never(run),
            "periodic": Periodic(copies["periodic"], every=every),
            "online": Online(run, seed=seed),
            **({"oracle": oracle} if oracle is not None else {}),
        }

        def right(rows: pa.Table, answers: pa.Table) -> np.ndarray:
            return goodness(Answered(target, answers), truth_of(rows, target), "accuracy")

        scores = play(stream, contestants, answered=right, labels_after=labels_after, rows_a_day=rows_a_day, batch_rows=50)
        looped.close()
        truth = np.array(truth_of(stream, target))
        return {"no_change": np.r_[0.0, (truth[1:] == truth[:-1]) * 1.0], **scores}, rounds_in_rows(looped)


def elec2(seed: int, rows: int | None) -> dict[str, Any]:
    table = pa.csv.read_csv(DATA / "elec2" / "elec.csv")
    cut = 20 * 7 * 48
    on_alarm = {"recent": {"max_rows": 5_000, "min_rows": 400}, "shadow": {"rows": 50}, "canary": {"share": 0.2, "rows": 100}}
    with tempfile.TemporaryDirectory() as folder:
        run = train(table.slice(0, cut), "class", Path(folder), name="elec2", seed=seed, on_alarm=on_alarm)
        scores, rounds = contest(run, table.slice(cut, rows), seed=seed, labels_after=48, rows_a_day=48, every=7 * 48)
    return {"accuracy": _means(scores), "rounds": Counter(one["state"] for one in rounds)}


def adult(seed: int, rows: int | None) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    table = _adult_rows()
    table = table.take(pa.array(draw.permutation(table.num_rows)))
    size = min(rows or 20_000, 20_000)
    change = int(draw.integers(int(0.3 * size), int(0.45 * size))) // 50 * 50
    stream = table.slice(12_000, size)
    stream = pa.concat_tables([stream.slice(0, change), changed(stream.slice(change), draw)])
    on_alarm = {"recent": {"max_rows": 10_000, "min_rows": 500}, "shadow": {"rows": 100}, "canary": {"share": 0.1, "rows": 300}}
    with tempfile.TemporaryDirectory() as folder:
        run = train(table.slice(0, 12_000), "income", Path(folder), name="adult", seed=seed, on_alarm=on_alarm)
        new = changed(table.slice(32_000, 12_000), draw)
        other = train(new, "income", Path(folder), name="oracle", seed=seed, on_alarm=on_alarm)
        oracle = Oracle(run, other, change)
        scores, rounds = contest(run, stream, seed=seed, labels_after=200, rows_a_day=1_000, every=1_000, oracle=oracle)
    began = [one["began_at_row"] for one in rounds]
    wanted = scores["oracle"][change:].mean() - NEAR
    return {
        "accuracy": _means(scores),
        "before": _means({name: right[:change] for name, right in scores.items()}),
        "after": _means({name: right[change:] for name, right in scores.items()}),
        "rows_to_detect": next((row - change for row in began if row >= change), None),
        "alarms_before_the_change": sum(row < change for row in began),
        "rows_to_recover": {name: recovered(right[change:], wanted) for name, right in scores.items()},
        "rounds": Counter(one["state"] for one in rounds),
    }


def changed(rows: pa.Table, draw: np.random.Generator) -> pa.Table:
    """The new world, as the protocol says."""
    found = {name: rows.column(name).to_numpy(zero_copy_only=False) for name in rows.column_names}
    found["education_num"] = 17 - found["education_num"]
    found["capital_gain"], found["capital_loss"] = found["capital_gain"] / 1000, found["capital_loss"] / 1000
    found["hours_per_week"] = found["hours_per_week"] * 60
    lot = draw.random(rows.num_rows) < 0.1
    found["income"] = np.where(lot, draw.permutation(found["income"]), found["income"])
    return pa.table(found).cast(rows.schema)


def recovered(right: np.ndarray, wanted: float) -> int | None:
    """The end of the first 500 rows whose accuracy is as good as wanted."""
    sums = np.cumsum(np.r_[0.0, right])
    means = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    good = np.flatnonzero(means >= wanted)
    return int(good[0]) + WINDOW if len(good) else None


def _adult_rows() -> pa.Table:
    parts = []
    for name, skip in (("adult-train.csv", 0), ("adult-test.csv", 0)):
        options = pa.csv.ReadOptions(column_names=ADULT, skip_rows=skip)
        parts.append(
            pa.csv.read_csv(DATA / "adult" / name, read_options=options, parse_options=pa.csv.ParseOptions(ignore_empty_lines=True))
        )
    table = pa.concat_tables(parts).drop_columns(["fnlwgt", "education"])
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_string(column.type):
            columns[name] = pa.array([value.strip().rstrip(".") for value in column.to_pylist()])
        else:
            columns[name] = column.cast(pa.float64())
    return pa.table(columns)


def _means(scores: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: round(float(right.mean()), 4) for name, right in scores.items() if len(right)}


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of numbers, by key, and the numbers of each seed where they differ in whether there is one."""
    merged: dict[str, Any] = {}
    for key in found[0]:
        values = [one[key] for one in found]
        if isinstance(values[0], Counter):
            merged[key] = dict(sum(values, Counter()))
        elif isinstance(values[0], dict):
            merged[key] = over_seeds(values)
        else:
            known = [value for value in values if value is not None]
            merged[key] = round(median(known), 4) if known else None
            if len(known) < len(values):
                merged[f"{key}_never"] = len(values) - len(known)
    return merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--only", choices=["elec2", "adult"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    progress.quiet()
    result: dict[str, Any] = {"benchmark": "loop", "seeds": given.seeds}
    for name, measure in (("elec2", elec2), ("adult", adult)):
        if given.only in (None, name):
            began = time.perf_counter()
            result[name] = {**over_seeds([measure(seed, given.rows) for seed in range(given.seeds)]), "minutes": 0.0}
            result[name]["minutes"] = round((time.perf_counter() - began) / 60, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

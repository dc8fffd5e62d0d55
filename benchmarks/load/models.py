"""The models that are served: a small table, ResNet-18 on small pictures, a column of texts; and rows with their right answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepseek

ROWS = 64
CLOSE = 1e-4
"""How far a probability may lie from the predictor's: a batch of another size adds up float32 in another order."""

FAST = ["train.precision=fp32"]


@dataclass(frozen=True)
class Workload:
    """A model, rows to ask it, and what `Predictor` answers.

    Attributes:
        name: What it is called.
        run: The run.
        rows: The rows as JSON takes them.
        answers: Their answers as the server writes them.
    """

    name: str
    run: str
    rows: list[dict[str, Any]]
    answers: list[dict[str, Any]]

    @property
    def bodies(self) -> list[bytes]:
        return [json.dumps(row).encode() for row in self.rows]

    def right(self, number: int, body: bytes) -> bool:
        """Say whether a response of this framework's server is what the predictor answers."""
        return same(json.loads(body), self.answers[number])


def same(given: dict[str, Any], wanted: dict[str, Any]) -> bool:
    shares = wanted["probabilities"]
    close = all(abs(given["probabilities"][name] - share) <= CLOSE for name, share in shares.items())
    best = sorted(shares.values())[-2:]
    return close and (given["prediction"] == wanted["prediction"] or best[1] - best[0] <= 2 * CLOSE)


def make(name: str, folder: Path, *, run: str | None = None) -> Workload:
    """Train a model as a run, unless one is given, and return it with rows."""
    train = {"tabular": _tabular, "resnet18": _resnet18, "text": _text}[name]
    run = run or train(folder)
    return Workload(name, run, *_asked(run, _examples(name, folder)))


def _tabular(folder: Path) -> str:
    table = deepseek.example("customers", folder / "tabular")
    options = [*FAST, "train.epochs=3", "data.drop=[customer_id, email, note]"]
    return str(deepseek.train(table, target="churned", out=folder / "runs", overrides=options, progress=False).run)


def _resnet18(folder: Path) -> str:
    photos = deepseek.example("photos", folder / "resnet18", rows=200)
    options = [*FAST, "train.max_steps=2", "model={type: resnet, depth: 18}"]
    return str(deepseek.train(photos, name="pictures", out=folder / "runs", overrides=options, progress=False).run)


def _text(folder: Path) -> str:
    reviews = deepseek.example("reviews", folder / "text")
    return str(
        deepseek.train(
            reviews,
            target="content",
            name="reviews",
            out=folder / "runs",
            overrides=[*FAST, "train.epochs=1", "data.drop=[stars]"],
            progress=False,
        ).run
    )


def _examples(name: str, folder: Path) -> Any:
    if name == "resnet18":
        files = sorted((folder / name).rglob("*.png")) or sorted(Path(deepseek.example("photos", folder / name, rows=200)).rglob("*.png"))
        return [{"image": base64.b64encode(file.read_bytes()).decode()} for file in files[:: max(1, len(files) // ROWS)][:ROWS]]
    found = sorted((folder / name).rglob("*.csv"))
    return str(found[0]) if found else deepseek.example({"tabular": "customers", "text": "reviews"}[name], folder / name)


def _asked(run: str, examples: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from deepseek.serving.rows.answers import AnswerWriter
    from deepseek.serving.rows.reader import RowReader

    predictor = deepseek.load(run)
    if not isinstance(examples, Sequence) or isinstance(examples, str):
        batch = next(iter(predictor.open(examples).read(columns=predictor.columns, batch_rows=ROWS)))
        examples = [json.loads(json.dumps(row, default=lambda value: value.isoformat())) for row in batch.to_pylist()]
    table = predictor.answer(RowReader(predictor.preparation).read(examples).batch)
    return list(examples), json.loads(json.dumps(AnswerWriter(table.schema).write(table), default=float))

"""The parts in a PyTorch loop of one's own: preparation, loader, encoders, schedule and metrics borrowed, network and loop home-made.

A pandas table becomes a prepared dataset, a network of one's own is built around the framework's table encoder and trained by hand, and
what comes out is saved as a bundle that predicts anywhere. The table comes inside scikit-learn (Wolberg, Street, Mangasarian 1993).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

import deepseek
from deepseek.data.loader import Loader
from deepseek.data.materialize import prepare
from deepseek.data.preparation import Preparation
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import infer_schema
from deepseek.inference import save_bundle
from deepseek.models.network import Network
from deepseek.registry import family
from deepseek.tasks.model import TaskModel

EPOCHS = 15


@family("model").register("gated")
class GatedNetwork(Network):
    """Encoded columns, each of which a gate lets through more or less: any PyTorch code may stand here.

    Args:
        width: How many features come out.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], graph: Mapping[str, nn.Module], /, *, width: int = 64) -> None:
        super().__init__(inputs, graph, encoders={"table": {"type": "table", "numbers": "periodic"}}, trunk="identity")
        self.gate = nn.Linear(self.width, self.width)
        self.out = nn.Linear(self.width, width)
        self.width = width

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        encoded = super().forward(inputs)  # graph transforms and encoders, [rows, 1, width]
        return torch.relu(self.out(encoded * torch.sigmoid(self.gate(encoded))))


def read() -> pd.DataFrame:
    tumours = load_breast_cancer(as_frame=True)
    return tumours.data.assign(diagnosis=tumours.target.map({0: "malignant", 1: "benign"})).sample(frac=1, random_state=0)


def train(model: TaskModel, loader: Loader) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = family("schedule").build({"type": "cosine", "warmup": 0.1})
    done = 0
    for epoch in range(EPOCHS):
        for batch in loader.batches(epoch):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * schedule.factor(done, EPOCHS * loader.steps)
            numerator, denominator = model.task.loss(model(batch.inputs), batch)
            optimizer.zero_grad()
            (numerator / denominator).backward()
            optimizer.step()
            done += 1


@torch.inference_mode()
def measure(model: TaskModel, loader: Loader) -> dict[str, float]:
    metrics = {name: family("metric").build(name, model.task.target) for name in ("auc", "accuracy", "log_loss")}
    model.eval()
    for batch in loader.batches(0):
        decoded = model.predict(batch.inputs)
        for metric in metrics.values():
            metric.update(decoded, batch)
    return {name: metric.compute() for name, metric in metrics.items()}


def main(folder: Path) -> None:
    table = read()
    first, second = (pa.Table.from_pandas(part, preserve_index=False) for part in (table[:400], table[400:]))

    schema, _ = infer_schema(first, ["diagnosis"])  # from training rows only, and so is what is fitted
    preparation = Preparation(schema, target="binary").fit(lambda: iter(first.to_batches()))
    rows = {
        name: prepare(preparation, iter(part.to_batches()), folder / name, rows=part.num_rows, training=name == "train")[0]
        for name, part in (("train", first), ("test", second))
    }

    torch.manual_seed(0)
    task = family("task").build("binary", preparation.target.spec)
    model = TaskModel(GatedNetwork(preparation.inputs, preparation.graph()), task)
    train(model, Loader(rows["train"], batch_size=32, seed=0))
    metrics = measure(model, Loader(rows["test"], batch_size=256, shuffle=False))
    print("   test:", ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    bundle = save_bundle(
        folder / "bundle", model, preparation, model="gated", task="binary", metrics={"test": metrics}, plugins={"parts.py": "file"}
    )
    predictor = deepseek.load(bundle)
    print(f"   {predictor}\n")
    print(predictor.predict(table[400:403]).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/parts"))

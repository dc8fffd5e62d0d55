"""Two models that predict the same, one of which is better; and one that predicts something else."""

import numpy as np
import pyarrow as pa
import pytest

import deepseek


def train(folder, name, *, signal, seed=0, classes=("no", "yes"), columns=("x", "z")):
    random = np.random.default_rng(seed)
    x = random.normal(0, 1, 400)
    label = np.where(x * signal + random.normal(0, 0.2, 400) > 0, classes[1], classes[0])
    table = pa.table({column: x if column == "x" else random.normal(0, 1, 400) for column in columns} | {"label": label})
    fast = [
        "train.max_steps=60",
        "train.precision=fp32",
        "model={type: mlp, depth: 1, width: 8}",
        "train.optimizer={type: adam, learning_rate: 0.05}",
    ]
    return deepseek.train(table, target="label", name=name, out=folder, overrides=fast).run


@pytest.fixture(scope="session")
def arms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    return {
        "bad": train(folder, "bad", signal=-1.0),
        "good": train(folder, "good", signal=1.0),
        "wide": train(folder, "wide", signal=1.0, columns=("x", "z", "extra")),
        "other": train(folder, "other", signal=1.0, classes=("low", "high")),
    }


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("DEEPSEEK_KEYS", "a-key-of-sixteen-or-more admin:an-admin-key-of-sixteen")

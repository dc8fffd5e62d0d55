"""Leave one out on MovieLens 100K: a model of drawn negatives ranks what users choose next above what is merely popular."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import deepseek
from deepseek.data.sources import open_source

DATA = Path(os.environ.get("DEEPSEEK_DATA", "")) / "movielens100k" / "u.data"
pytestmark = [pytest.mark.quality, pytest.mark.slow, pytest.mark.skipif(not DATA.is_file(), reason="DEEPSEEK_DATA names no movielens100k")]
NEGATIVES = 99


def hits(scores, first=10):
    """Share of choices among the first ten of their hundred; ties count against them."""
    return float(((scores[:, 1:] >= scores[:, :1]).sum(axis=1) < first).mean())


def test_it_ranks_better_than_popularity(tmp_path):
    options = pa.csv.ReadOptions(column_names=["user", "item", "stars", "time"])
    log = pa.csv.read_csv(DATA, read_options=options, parse_options=pa.csv.ParseOptions(delimiter="\t"))
    pa.parquet.write_table(log, tmp_path / "log.parquet")
    source = {
        "type": "interactions",
        "source": str(tmp_path / "log.parquet"),
        "user": "user",
        "item": "item",
        "time": "time",
        "ratio": 4,
        "holdout": "last",
        "holdout_ratio": NEGATIVES,
    }
    recipe = {
        "name": "movies",
        "data": {"source": source, "target": "label", "fields": {"user": "category", "item": "category"}, "drop": ["time"]},
        "model": {"type": "mlp", "width": 64, "depth": 2},
        "train": {"epochs": 8, "batch_size": 2048, "learning_rate": 0.003, "precision": "fp32", "monitor": "auc"},
    }
    run = deepseek.run(recipe, out=tmp_path / "runs")
    rows = pa.Table.from_batches(list(open_source(source).read()))
    held = rows.filter(pa.compute.equal(rows["split"], "test"))
    assert held.num_rows == log["user"].combine_chunks().unique().__len__() * (1 + NEGATIVES)
    assert held["label"].to_numpy().reshape(-1, 1 + NEGATIVES)[:, 0].all()
    scores = deepseek.load(run.run).predict_proba(held.select(["user", "item"]))[:, 1].reshape(-1, 1 + NEGATIVES)
    chosen = rows.filter(pa.compute.and_(pa.compute.equal(rows["split"], "train"), pa.compute.equal(rows["label"], 1)))
    popular = np.bincount(chosen["item"].to_numpy(), minlength=2000)[held["item"].to_numpy()].reshape(-1, 1 + NEGATIVES)
    print({"auc": run.metrics["test"]["auc"], "hits": hits(scores), "hits_by_popularity": hits(popular)})  # noqa: T201
    assert run.metrics["test"]["auc"] > 0.75
    assert hits(scores) > hits(popular)

"""Targets that are not one number a row: `[rows, …]` and rows of unequal length, from the table to the batch."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.data.loader import Loader
from deepseek.data.materialize import prepare
from deepseek.data.preparation import Preparation
from deepseek.data.targets import TargetKind, TargetSpec, TargetTransform, build_target, require_plain
from deepseek.data.transforms import Ragged
from deepseek.errors import DataError, InputError
from deepseek.fields import Field, Kind, Schema
from deepseek.registry import family


class Steps(TargetTransform):
    """As many numbers as the row says, or a square of them."""

    kind = "mask"
    square = False

    def missing(self, batch):
        return batch["steps"].is_null().to_numpy(zero_copy_only=False)

    def bad(self, batch):
        return np.array([value is not None and value < 0 for value in batch["steps"].to_pylist()])

    def observe(self, batch):
        return None

    def finish(self):
        self._set(TargetSpec("mask", self.columns, ("0", "1")))

    def follow(self, transforms):
        self.followed = [type(transform).__name__ for transform in transforms]

    def apply(self, batch):
        counts = np.array(batch["steps"].to_pylist(), dtype=np.int64)
        if (counts < 0).any():
            raise DataError("a negative count of steps")
        if self.square:
            return {"target": np.repeat(counts, 4).reshape(-1, 2, 2)}
        return {"target": Ragged(np.repeat(counts, counts), np.concatenate([[0], np.cumsum(counts)]))}


TABLE = pa.table({"x": [float(row) for row in range(40)], "steps": [1 + row % 5 for row in range(40)]})
SCHEMA = Schema((Field("x", Kind.NUMBER), Field("steps", Kind.NUMBER)), ("steps",))


@pytest.fixture(params=[False, True], ids=["ragged", "square"])
def preparation(request, monkeypatch):
    monkeypatch.setattr(Steps, "square", request.param)
    monkeypatch.setitem(family("target")._added, "steps", Steps)
    return Preparation(SCHEMA, target="steps").fit(lambda: iter(TABLE.to_batches()))


def prepared(preparation, folder, table=TABLE):
    return prepare(preparation, iter(table.to_batches()), folder, rows=table.num_rows, training=True)


def test_a_target_follows_the_fitted_transforms_also_when_it_is_read_again(preparation):
    assert preparation.target.followed == ["NumberTransform"]
    assert Preparation.from_json(preparation.to_json()).target.followed == ["NumberTransform"]


def test_such_targets_come_in_batches(preparation, tmp_path):
    dataset, _ = prepared(preparation, tmp_path / "rows")
    for batch in Loader(dataset, batch_size=7, seed=3).batches(0):
        wanted = torch.tensor([1 + int(row) % 5 for row in batch.row])
        target = batch.targets["target"]
        if preparation.target.square:
            assert target.shape == (len(batch), 2, 2)
            assert torch.equal(target, wanted[:, None, None].expand(-1, 2, 2))
            continue
        mask = batch.targets["target_mask"]
        assert torch.equal(mask.sum(dim=1), wanted)
        assert torch.equal(target, wanted[:, None] * mask)
        assert "target" not in batch.inputs
        short = batch.split(1)[int(wanted.argmin())]
        assert short.targets["target"].shape == short.targets["target_mask"].shape == (1, int(wanted.min()))


def test_a_batch_of_an_epoch_is_the_same_after_a_resume(preparation, tmp_path):
    dataset, _ = prepared(preparation, tmp_path / "rows")
    loader = Loader(dataset, batch_size=7, seed=3)
    whole, resumed = list(loader.batches(1)), list(loader.batches(1, 3))
    for one, two in zip(whole[3:], resumed, strict=True):
        assert torch.equal(one.targets["target"], two.targets["target"])


def test_a_target_that_cannot_be_read_is_set_aside_and_counted(preparation, tmp_path):
    table = TABLE.set_column(1, "steps", pa.array([-1 if row == 4 else 2 for row in range(40)]))
    dataset, aside = prepared(preparation, tmp_path / "rows", table)
    assert aside == {"target cannot be read": 1}
    assert 4 not in dataset.source_rows
    assert len(dataset) == 39


def test_every_kind_of_target_has_a_class():
    assert set(family("target").names()) <= set(get_args(TargetKind))


def test_what_needs_one_answer_a_row_says_so():
    with pytest.raises(InputError, match=r"self-training needs one class.*'mask'"):
        require_plain("mask", "self-training", hint="leave it out")
    require_plain("classes", "self-training", hint="leave it out")


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match="unknown target 'clases'"):
        build_target("clases", [Field("y", Kind.CATEGORY)])

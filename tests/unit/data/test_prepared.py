from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch

import deepseek.data.prepared.dataset as module
from deepseek.data.prepared import Column, PreparedDataset, PreparedWriter
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.errors import DataError, InputError, RunError
from deepseek.fields import Kind

LAYOUT = (
    Column("numbers", "input", "float32", (3,)),
    Column("photo", "input", "uint8", (2, 2, 1)),
    Column("tokens", "input", "int32", (), ragged=True),
    Column("target", "target", "float32"),
    Column("weight", "weight", "float32"),
)
SPEC = InputSpec("numbers", Kind.NUMBER, ("a", "b", "c"), (3,), "float32", quantiles=np.ones((3, 2), np.float32))


def arrays(start, stop):
    rows = np.arange(start, stop)
    lengths = rows % 4
    return {
        "numbers": np.stack([rows, rows * 2, rows * 3], axis=1).astype(np.float32),
        "photo": (rows[:, None, None, None] + np.arange(4).reshape(2, 2, 1)).astype(np.uint8),
        "tokens": Ragged(np.repeat(rows, lengths).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])),
        "target": (rows % 2).astype(np.float32),
        "weight": rows.astype(np.float32) / 2,
    }


@pytest.fixture
def folder(tmp_path):
    with PreparedWriter(tmp_path / "data", LAYOUT, inputs={"numbers": SPEC}) as writer:
        for start, stop in ((0, 5), (5, 5), (5, 12)):
            writer.append(arrays(start, stop), np.arange(start, stop) + 100)
    return tmp_path / "data"


def test_what_was_written_is_taken(folder):
    data = PreparedDataset.open(folder, verify=True)
    batch = data.take([7, 0, 7])
    assert len(data) == 12
    assert batch.inputs["numbers"].tolist() == [[7, 14, 21], [0, 0, 0], [7, 14, 21]]
    assert batch.inputs["photo"][0, :, :, 0].tolist() == [[7, 8], [9, 10]]
    assert batch.inputs["tokens"].tolist() == [[7, 7, 7], [0, 0, 0], [7, 7, 7]]
    assert batch.inputs["tokens_mask"].tolist() == [[True] * 3, [False] * 3, [True] * 3]
    assert batch.targets["target"].tolist() == [1, 0, 1]
    assert batch.weight.tolist() == [3.5, 0, 3.5]
    assert batch.row.tolist() == [7, 0, 7]
    assert data.source_rows[7] == 107
    assert data.inputs == {"numbers": SPEC}
    assert data.row_bytes == 5 * 4 + 4


def test_one_gather_serves_all_columns_of_a_type(folder, monkeypatch):
    data, calls, take = PreparedDataset.open(folder), [], np.take
    monkeypatch.setattr(module.np, "take", lambda *args, **kwargs: calls.append(1) or take(*args, **kwargs))
    data.take([1, 2])
    assert len(calls) == 3  # two types, and the ragged column


def test_a_batch_has_its_own_memory(folder):
    data = PreparedDataset.open(folder)
    data.take([3]).inputs["numbers"].zero_()
    assert data.take([3]).inputs["numbers"].tolist() == [[3, 6, 9]]


def test_no_rows_can_be_taken(folder):
    batch = PreparedDataset.open(folder).take([])
    assert {name: tuple(x.shape) for name, x in batch.inputs.items()} == {
        "numbers": (0, 3), "photo": (0, 2, 2, 1), "tokens": (0, 1), "tokens_mask": (0, 1)
    }  # fmt: skip


@pytest.mark.parametrize("rows", [[12], [-1]])
def test_rows_that_do_not_exist_are_an_error(folder, rows):
    with pytest.raises(InputError, match="there are 12"):
        PreparedDataset.open(folder).take(rows)


def test_arrays_in_memory_work_alone():
    tensor = torch.arange(6, dtype=torch.float32).reshape(3, 2)
    data = PreparedDataset.from_arrays({"x": tensor}, {"y": np.array([3, 1, 2])}, weight=[1, 2, 3])
    batch = data.take([2, 0])
    assert batch.inputs["x"].tolist() == [[4, 5], [0, 1]]
    assert batch.targets["y"].tolist() == [2, 3]
    assert batch.weight.tolist() == [3, 1]
    assert data._blocks["int64"].base is not None  # a single column is no copy


def test_arrays_of_unequal_length_are_an_error():
    with pytest.raises(InputError, match="3, 2 rows"):
        PreparedDataset.from_arrays({"x": np.zeros((3, 1)), "z": np.zeros((2, 1))})
    with pytest.raises(InputError, match="2, 3 rows"):
        PreparedDataset.from_arrays({"x": np.zeros((3, 1))}, {"y": np.zeros(2, np.int64)})


def test_a_broken_off_folder_is_not_opened(tmp_path):
    with pytest.raises(KeyError), PreparedWriter(tmp_path, LAYOUT[:1]) as writer:
        writer.append({"numbers": arrays(0, 2)["numbers"]}, np.arange(2))
        raise KeyError
    with pytest.raises(DataError, match="no complete prepared data"):
        PreparedDataset.open(tmp_path)


def test_a_truncated_or_changed_file_is_found(folder):
    block = folder / "block_float32.bin"
    raw = block.read_bytes()
    block.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    PreparedDataset.open(folder)
    with pytest.raises(DataError, match=r"block_float32\.bin is missing or not as it was written"):
        PreparedDataset.open(folder, verify=True)
    block.write_bytes(raw[:-1])
    with pytest.raises(DataError, match=r"block_float32\.bin"):
        PreparedDataset.open(folder)


def test_a_newer_format_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(DataError, match="format version 99"):
        PreparedDataset.open(folder)


def test_arrays_must_be_as_the_layout_says(tmp_path):
    writer = PreparedWriter(tmp_path, LAYOUT[:1])
    with pytest.raises(InputError, match=r"'numbers' is float64 \(2, 3\)"):
        writer.append({"numbers": np.zeros((2, 3))}, np.arange(2))
    writer.close()


def test_a_full_disk_is_said_before_and_while_writing(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="prepared data needs"):
        PreparedWriter(tmp_path, LAYOUT, rows=10**15)
    writer = PreparedWriter(tmp_path / "b", LAYOUT[:1])
    writer._files["block_float32.bin"].close()
    if os.path.exists("/dev/full"):  # noqa: PTH110
        writer._files["block_float32.bin"] = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115
        with pytest.raises(RunError, match="No space left"):
            writer.append({"numbers": np.zeros((2, 3), np.float32)}, np.arange(2))
    writer.close()


def test_a_folder_is_never_overwritten(folder):
    with pytest.raises(RunError, match="already holds prepared data"):
        PreparedWriter(folder, LAYOUT)


def test_lengths_and_the_space_of_ragged_rows_are_known(folder, tmp_path):
    data = PreparedDataset.open(folder)
    assert data.is_ragged
    assert data.lengths(np.array([7, 4, 2])).tolist() == [3, 0, 2]
    plain = PreparedDataset.from_arrays({"x": np.zeros((2, 1))})
    assert not plain.is_ragged
    assert plain.lengths(np.array([1])).tolist() == [0]
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(RunError, match="prepared data needs"):
        PreparedWriter(tmp_path / "b", LAYOUT[2:3], rows=1000, ragged_bytes=free / 500)

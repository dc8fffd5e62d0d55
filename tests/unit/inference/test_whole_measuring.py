"""Whole pictures beside prepared rows: written and read, dealt out to ranks, and answered window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset, WholeRow, Wholes, write_wholes
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import DataError
from deepseek.fields import Kind
from deepseek.inference.whole_measuring import WindowedModel, with_wholes
from deepseek.inference.windows import in_windows
from deepseek.models.maps.unet import UNetModel
from deepseek.tasks.model import TaskModel
from deepseek.tasks.segmentation import SegmentationTask

SPACE = (8, 8)


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    shapes = {1: (8, 20, 1), 4: (17, 9, 1)}
    return [
        WholeRow(row, random.normal(size=shape).astype(np.float32), random.integers(0, 2, shape[:2], np.uint8))
        for row, shape in shapes.items()
    ]


@pytest.fixture
def wholes(rows, tmp_path):
    assert write_wholes(tmp_path, iter(rows), name="x", space=SPACE, dtype="float32") == 2
    return Wholes.open(tmp_path)


def test_what_is_written_is_read_again(rows, wholes, tmp_path):
    assert (wholes.name, wholes.space, wholes.rows.tolist()) == ("x", SPACE, [1, 4])
    for place, one in enumerate(rows):
        read = wholes.take(place)
        assert read.row == one.row
        assert np.array_equal(read.values, one.values)
        assert np.array_equal(read.mask, one.mask)
    (tmp_path / "wholes.masks.bin").write_bytes(b"short")
    with pytest.raises(DataError, match="not as it was written"):
        Wholes.open(tmp_path)


def test_where_nothing_is_larger_nothing_is_written(tmp_path):
    assert write_wholes(tmp_path, iter([]), name="x", space=SPACE, dtype="float32") == 0
    assert list(tmp_path.iterdir()) == []
    assert Wholes.open(tmp_path) is None


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_row_is_measured_once_on_any_number_of_ranks(wholes, ranks):
    images, masks = np.zeros((7, *SPACE, 1), np.float32), np.zeros((7, *SPACE), np.uint8)
    dataset = PreparedDataset.from_arrays({"x": images}, {"target": masks}, weight=np.arange(7, dtype=np.float32))
    found = []
    for rank in range(ranks):
        batches = Loader(dataset, batch_size=3 * ranks, rank=rank, ranks=ranks, shuffle=False).batches(0)
        for batch in with_wholes(batches, dataset, wholes, rank=rank, ranks=ranks):
            assert batch.inputs["x"].shape[:-1] == batch.targets["target"].shape
            assert torch.equal(batch.weight, batch.row.float())
            found += [(int(row), tuple(batch.inputs["x"].shape[1:3])) for row in batch.row]
    assert sorted(found) == [(0, SPACE), (1, (8, 20)), (2, SPACE), (3, SPACE), (4, (17, 9)), (5, SPACE), (6, SPACE)]


def test_a_larger_picture_is_answered_window_by_window(rows):
    torch.manual_seed(0)
    spec = InputSpec("x", Kind.IMAGE, ("x",), (*SPACE, 1), "float32")
    task = SegmentationTask(TargetSpec("mask", ("mask",), ("0", "1"), (5, 5), 5, shape=SPACE))

    class LastFirst(torch.nn.Module):
        def forward(self, x):
            return x.movedim(-1, 1)

    inner = UNetModel({"x": spec}, {"x": LastFirst()}, width=4, depth=1)
    model = TaskModel(inner, task).eval()
    windowed = WindowedModel(model, name="x", space=SPACE)
    assert not model.training, "the network is left as it was"
    small = torch.randn(2, *SPACE, 1)
    assert torch.equal(windowed({"x": small}), model({"x": small}))
    with torch.inference_mode():
        made = task.decode(windowed({"x": torch.from_numpy(rows[1].values)[None]}))["probability"][0].numpy()
        wanted = in_windows(lambda x: model.predict({"x": torch.from_numpy(x)})["probability"].numpy(), rows[1].values, SPACE, fill=0.0)
    np.testing.assert_allclose(made, wanted, atol=1e-6)

"""The `datasets` library itself."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pillow

from deepseek.data.sources import open_source
from deepseek.errors import DataError

LABEL = ClassLabel(names=["negative", "positive"])


def read(value):
    return pa.Table.from_batches(list(open_source(value).read())).to_pydict()


def png(level):
    file = io.BytesIO()
    Pillow.fromarray(np.full((4, 4), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_labels_are_read_by_their_names_and_minus_one_is_missing():
    features = Features({"text": Value("string"), "label": LABEL, "tags": List(LABEL)})
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[0, 1], [], [1]]}, features=features)
    assert read(rows) == {
        "text": ["a", "b", "c"],
        "label": ["positive", "negative", None],
        "tags": [["negative", "positive"], [], ["positive"]],
    }


def test_a_shuffled_or_formatted_dataset_is_read_as_it_looks():
    rows = Dataset.from_dict({"a": list(range(10))})
    assert read(rows.select([7, 2]).with_format("torch")) == {"a": [7, 2]}
    assert read(rows.shuffle(seed=0))["a"] == rows.shuffle(seed=0)["a"][:]


def test_splits_become_a_column():
    rows = Dataset.from_dict({"a": [1]})
    assert read(DatasetDict(train=rows, test=rows)) == {"a": [1, 1], "split": ["train", "test"]}
    with pytest.raises(DataError, match="a split is called 'unsupervised'"):
        read(DatasetDict(train=rows, unsupervised=rows))


def test_images_are_bytes_or_where_that_is_all_paths(tmp_path):
    features = Features({"image": Image()})
    assert read(Dataset.from_dict({"image": [{"bytes": png(3), "path": None}]}, features=features)) == {"image": [png(3)]}
    (tmp_path / "a.png").write_bytes(png(7))
    path = str(tmp_path / "a.png")
    assert read(Dataset.from_dict({"image": [path]}, features=features)) == {"image": [path]}
    mixed = Dataset.from_dict({"image": [{"bytes": png(3), "path": None}, {"bytes": None, "path": path}, None]}, features=features)
    assert read(mixed) == {"image": [png(3), png(7), None]}
    mixed.to_parquet(tmp_path / "hub.parquet")
    assert read(tmp_path / "hub.parquet") == {"image": [png(3), png(7), None]}


def test_a_stream_is_refused_with_what_to_do():
    stream = Dataset.from_dict({"a": [1]}).to_iterable_dataset()
    for given in (stream, {"train": stream}):
        with pytest.raises(DataError, match=r"take rows: Dataset\.from_list"):
            open_source(given)

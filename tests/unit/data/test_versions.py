import copy
import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.checks.range import RangeCheck
from deepseek.data.landing import land
from deepseek.data.sources.base import Source
from deepseek.data.spellings import RespelledSource
from deepseek.data.versions import compare, manifest


class Lines(Source):
    """A source of numbers, one a line, in files."""

    def __init__(self, *paths):
        super().__init__()
        self._paths = paths

    def files(self):
        return list(self._paths)

    def schema(self):
        return pa.schema([("a", pa.int64())])

    def read(self, *, columns=None, where=None, batch_rows=65_536):
        for path in self._paths:
            yield pa.record_batch({"a": [int(line) for line in path.read_text().split()]})

    def fingerprint(self):
        return "+".join(path.read_text() for path in self._paths)


@pytest.fixture
def files(tmp_path):
    for name, text in (("a.txt", "1\n2\n-3\n"), ("b.txt", "4\n")):
        (tmp_path / name).write_text(text)
    return tmp_path


def version(folder, *names):
    source = Lines(*(folder / name for name in names))
    landed = land(source, [RangeCheck(column="a", min=0)], folder / "landed")
    return manifest(source, landed, split=np.zeros(landed.rows, dtype=np.int8))


def test_a_manifest_holds_content_hashes_and_counts(files):
    made = version(files, "a.txt", "b.txt")
    assert made["files"][1] == {"path": str(files / "b.txt"), "size_bytes": 2, "sha256": hashlib.sha256(b"4\n").hexdigest()}
    assert made["rows"]["kept"] == 3
    assert made["split"] == {"train": 3, "validation": 0, "test": 0}
    assert made["columns"] == {"a": "int64"}
    assert compare(made, json.loads(json.dumps(made))) == []
    assert compare(made, version(files, "a.txt", "b.txt")) == []


def test_differences_are_said_in_words(files):
    before = version(files, "a.txt", "b.txt")
    (files / "b.txt").write_text("4\n5\n")
    assert compare(before, version(files, "a.txt", "b.txt")) == [
        f"{files / 'b.txt'} changed: 2 bytes became 4",
        "rows read: 4 became 5",
        "rows kept: 3 became 4",
        "rows of train: 3 became 4",
    ]
    (files / "a.txt").rename(files / "c.txt")
    assert compare(before, version(files, "c.txt"))[:2] == [
        f"{files / 'a.txt'} was moved to {files / 'c.txt'}",
        f"{files / 'b.txt'} was removed",
    ]


def test_columns_checks_and_content_without_files():
    before = {
        "files": [],
        "fingerprint": "x",
        "columns": {"a": "int64", "b": "string"},
        "rows": {"read": 1, "kept": 1, "malformed": 0, "checks": [{"reason": "r", "bad": 0}]},
        "split": None,
    }
    after = copy.deepcopy(before)
    after["fingerprint"] = "y"
    after["columns"] = {"a": "double", "c": "string"}
    after["rows"]["checks"] = [{"reason": "s", "bad": 0}]
    assert compare(before, after) == [
        "the content of the source changed",
        "the column 'c' was added",
        "the column 'b' was removed",
        "the column 'a' changed from int64 to double",
        "the check 's' was added",
        "the check 'r' was removed",
    ]


def test_the_files_behind_other_spellings_are_named_too(files):
    source = Lines(files / "a.txt", files / "b.txt")
    source.revision = "4f3c2b1"
    landed = land(source, [], files / "landed")
    respelled = RespelledSource(source, {"plan": {"Pro": "pro"}})
    assert manifest(respelled, landed) == manifest(source, landed)
    assert [file["size_bytes"] for file in manifest(respelled, landed)["files"]] == [7, 2]

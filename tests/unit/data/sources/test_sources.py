import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from deepseek.data.sources import open_source
from deepseek.data.sources.base import ROOT_KEY, rooted, rooted_batches
from deepseek.data.sources.memory import MemorySource
from deepseek.errors import DataError, InputError


def read(source):
    return pa.Table.from_batches(list(source.read()))


class FakeDataset:
    """What MemorySource relies on of a Hugging Face dataset."""

    def __init__(self, table):
        self.table, self.features, self.num_rows = table, {}, table.num_rows

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def __getitem__(self, rows):
        return self.table


def test_arrays_become_columns():
    assert read(MemorySource((np.ones((2, 2)), np.array([0, 1])))).to_pydict() == {"x0": [1, 1], "x1": [1, 1], "y": [0, 1]}
    images = read(MemorySource({"x": np.zeros((2, 4, 4), "u1"), "y": [1, 2]}))
    assert images.schema.field("x").type.shape == [4, 4]
    with pytest.raises(DataError, match="unequal lengths"):
        MemorySource({"a": [1], "b": [1, 2]})


def test_pandas_keeps_categories_and_a_named_index():
    frame = pd.DataFrame({"c": pd.Categorical(["u", "v"])}, index=pd.Index([7, 8], name="key"))
    assert read(MemorySource(frame)).to_pydict() == {"key": [7, 8], "c": ["u", "v"]}


def test_hugging_face_splits_become_a_column():
    splits = {"train": FakeDataset(pa.table({"a": [1]})), "dev": FakeDataset(pa.table({"a": [2]}))}
    source = MemorySource(splits)
    assert source.given_split() == "split"
    assert read(source).to_pydict() == {"a": [1, 2], "split": ["train", "validation"]}
    assert read(MemorySource(splits["train"])).to_pydict() == {"a": [1]}


def test_records_keep_keys_that_come_late():
    assert read(MemorySource([{"a": 1}, {"a": 2, "b": 3}])).to_pydict() == {"a": [1, 2], "b": [None, 3]}


def test_a_memory_fingerprint_sees_values_not_chunks():
    whole, cut = pa.table({"a": [1, 2]}), pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2]})])
    assert MemorySource(whole).fingerprint() == MemorySource(cut).fingerprint()
    assert MemorySource(whole).fingerprint() != MemorySource(pa.table({"a": [1, 3]})).fingerprint()


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_json_widens_flattens_and_rejects(tmp_path, suffix):
    records = [{"a": 1, "n": {"x": 1}}, {"a": 2.5, "n": {"x": 2}, "t": "late"}, [1], {"a": None, "m": "é"}]
    texts = [json.dumps(record, ensure_ascii=False) for record in records]
    (tmp_path / f"t.{suffix}").write_text("\n".join(texts) if suffix == "jsonl" else "[" + ",\n".join(texts) + "]")
    source = open_source(f"t.{suffix}", folder=tmp_path)
    assert read(source).select(["a", "n.x", "t", "m"]).to_pydict() == {
        "a": [1, 2.5, None],
        "n.x": [1, 2, None],
        "t": [None, "late", None],
        "m": [None, None, "é"],
    }
    assert [row["line"] for batch in source.rejects() for row in batch.to_pylist()] == [3]


def test_json_values_that_do_not_go_together_are_text(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"a": "x"}\n')
    assert read(open_source(tmp_path / "t.jsonl")).to_pydict() == {"a": ["1", "x"]}


@pytest.mark.parametrize("other", ["3", "1.5", "-0.25"])
def test_json_keeps_whole_numbers_that_a_float_would_change(tmp_path, other):
    (tmp_path / "t.jsonl").write_text(f'{{"a": 12345678901234567891}}\n{{"a": {other}}}\n')
    assert read(open_source(tmp_path / "t.jsonl")).to_pydict() == {"a": ["12345678901234567891", other]}
    (tmp_path / "t.jsonl").write_text(f'{{"a": 0.1234567890123456789}}\n{{"a": {other}}}\n')
    assert read(open_source(tmp_path / "t.jsonl")).to_pydict() == {"a": [0.1234567890123456789, float(other)]}


@pytest.mark.parametrize("block_records", [1, 10_000])
@pytest.mark.parametrize("records", [
    [{"a": 9007199254740993}, {"a": 1.5}],
    [{"a": 1.5}, {"a": -9007199254740993}],
    [{"a": [1, 9007199254740993]}, {"a": [0.5]}],
])  # fmt: skip
def test_json_rounds_no_whole_number_that_stands_beside_floats(tmp_path, records, block_records, monkeypatch):
    monkeypatch.setattr("deepseek.data.sources.json._BLOCK_RECORDS", block_records)
    (tmp_path / "t.json").write_text(json.dumps(records))
    assert read(open_source(tmp_path / "t.json")).to_pydict() == {"a": [json.dumps(record["a"]) for record in records]}


def test_json_keeps_long_whole_numbers_and_floats_that_stand_in_columns_of_their_own(tmp_path):
    records = [{"id": 9007199254740993, "x": 0.5, "far": 1e300}, {"id": 3, "x": 9.5e15, "far": None}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    found = read(open_source(tmp_path / "t.jsonl"))
    assert found.schema.types == [pa.int64(), pa.float64(), pa.float64()]
    assert found.to_pylist() == records


def test_json_of_nested_objects_rounds_none_either(tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.data.sources.json._BLOCK_RECORDS", 1)
    (tmp_path / "t.json").write_text('[{"n": {"a": 9007199254740993}}, {"n": {"a": 1.5}}]')
    assert read(open_source(tmp_path / "t.json")).to_pydict() == {"n": ['{"a": 9007199254740993}', '{"a": 1.5}']}


def test_json_that_no_text_can_hold_or_no_stack_is_no_foreign_error(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": "\\ud83d\\ude00"}\n{"a": "\\ud83d"}\n')
    source = open_source(tmp_path / "t.jsonl")
    assert read(source).to_pydict() == {"a": ["\N{GRINNING FACE}"]}
    assert [row["line"] for batch in source.rejects() for row in batch.to_pylist()] == [2]
    (tmp_path / "t.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deep"):
        open_source(tmp_path / "t.json").schema()


@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_of_arrays_is_held_to_its_checksums_and_shapes(tmp_path, packed):
    (np.savez_compressed if packed else np.savez)(tmp_path / "t.npz", a=np.arange(1000.0))
    whole = (tmp_path / "t.npz").read_bytes()
    for at in range(150, len(whole) - 150, len(whole) // 7):
        (tmp_path / "t.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match=r"t\.npz"):
            read(open_source(tmp_path / "t.npz"))


def test_a_parquet_page_is_held_to_its_checksum(tmp_path):
    table = pa.table({"a": np.arange(10_000) * 7919 % 10_007})
    pa.parquet.write_table(table, tmp_path / "t.parquet", write_page_checksum=True, use_dictionary=False, compression=None)
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    with pytest.raises(DataError, match=r"t\.parquet.*CRC"):
        read(open_source(tmp_path / "t.parquet"))


def test_an_arrow_file_whose_offsets_lead_out_of_it_is_refused(tmp_path):
    """Arrow believes offsets; looking where they lead would end the process."""
    table = pa.table({"a": ["one", "two", "three"]})
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as writer:
        writer.write_table(table)
    whole = (tmp_path / "t.arrow").read_bytes()
    offsets = np.array([0, 3, 6, 11], "<i4").tobytes()
    assert whole.count(offsets) == 1
    (tmp_path / "t.arrow").write_bytes(whole.replace(offsets, np.array([0, 3, 2**30, 2**30 + 5], "<i4").tobytes()))
    with pytest.raises(DataError, match=r"t\.arrow"):
        read(open_source(tmp_path / "t.arrow"))


def test_json_of_the_other_kind_says_so(tmp_path):
    (tmp_path / "t.json").write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(DataError, match="type: jsonl"):
        open_source(tmp_path / "t.json").schema()


def test_npz_refuses_pickles(tmp_path):
    np.savez(tmp_path / "t.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        open_source(tmp_path / "t.npz").schema()
    with (tmp_path / "u.npz").open("wb") as file:
        pickle.dump([1], file)
    with pytest.raises(DataError, match="no NumPy archive"):
        open_source(tmp_path / "u.npz").schema()


def test_npz_arrays_must_belong_together(tmp_path):
    np.savez(tmp_path / "t.npz", a=np.zeros(3), b=np.zeros(2))
    with pytest.raises(DataError, match="unequal length"):
        open_source(tmp_path / "t.npz").schema()
    source = open_source({"type": "npz", "path": "t.npz", "arrays": ["a"]}, folder=tmp_path)
    assert read(source).to_pydict() == {"a": [0, 0, 0]}


def test_parquet_types_are_widened_over_files(tmp_path):
    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pa.parquet.write_table(pa.table({"a": [0.5]}), tmp_path / "2.parquet")
    assert read(open_source(tmp_path)).to_pydict() == {"a": [1.0, 0.5]}


def test_text_folders_give_the_content(tmp_path):
    for name in ("neg/1.txt", "pos/2.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"text of {name}")
    assert read(open_source(tmp_path)).to_pydict() == {"text": ["text of neg/1.txt", "text of pos/2.txt"], "label": ["neg", "pos"]}


def test_what_is_no_source_is_refused(tmp_path):
    (tmp_path / "t.xyz").write_text("a")
    with pytest.raises(DataError, match=r"suffix '\.xyz'"):
        open_source("t.xyz", folder=tmp_path)
    with pytest.raises(InputError, match="given as a int"):
        open_source(3)


def test_a_matrix_of_one_column_is_a_plain_column(tmp_path):
    np.savez(tmp_path / "t.npz", labels=np.array([[3], [4]], "u1"))
    assert read(open_source(tmp_path / "t.npz")).equals(pa.table({"labels": pa.array([3, 4], pa.uint8())}))


def test_a_source_says_where_the_files_lie_that_its_columns_name(tmp_path):
    for name in ("a/x.csv", "b/y.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("picture,n\np.png,1\n")
    assert open_source(tmp_path / "a/x.csv").root == tmp_path / "a"
    assert open_source("x.csv", folder=tmp_path / "a").root == tmp_path / "a"
    assert open_source(str(tmp_path / "*/*.csv")).root == tmp_path
    assert open_source({"n": [1]}).root is None


def test_columns_of_text_are_told_the_folder_once(tmp_path):
    schema = pa.schema([pa.field("a", pa.string()), pa.field("b", pa.string(), metadata={ROOT_KEY: b"/b"}), pa.field("n", pa.int64())])
    found = rooted(schema, tmp_path)
    assert [(field.metadata or {}).get(ROOT_KEY) for field in found] == [str(tmp_path).encode(), b"/b", None]
    assert rooted(schema, None) is schema
    (batch,) = rooted_batches(iter([pa.record_batch([["x"]], names=["a"])]), tmp_path)
    assert batch.schema.field("a").metadata == {ROOT_KEY: str(tmp_path).encode()}

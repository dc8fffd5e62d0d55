import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek.data.checks.in_set import InSetCheck
from deepseek.data.checks.range import RangeCheck
from deepseek.data.checks.unique import UniqueCheck
from deepseek.data.landing import LandedTable, land
from deepseek.data.sources.base import Source
from deepseek.errors import CheckError, ColumnError, DataError, RunError


class Rows(Source):
    """A source of batches that stand in memory."""

    def __init__(self, *batches, malformed=(), split=None):
        super().__init__()
        self._batches = [pa.record_batch(batch) for batch in batches]
        self._malformed, self._split = list(malformed), split
        self.reads = 0

    def schema(self):
        return self._batches[0].schema

    def read(self, *, columns=None, where=None, batch_rows=65_536):
        self.reads += 1
        yield from self._batches

    def fingerprint(self):
        return "rows"

    def rejects(self):
        if self._malformed:
            yield pa.record_batch({"line": self._malformed, "reason": ["?"] * len(self._malformed), "raw": ["%"] * len(self._malformed)})

    def given_split(self):
        return self._split


def counts(table):
    return [(check.check, check.bad, check.dropped, check.quarantined, check.flagged) for check in table.counts.checks]


def test_every_row_is_kept_or_counted_and_set_aside(tmp_path):
    source = Rows({"a": [1, -2, 300], "b": ["x", "y", "z"]}, {"a": [4, -5, None], "b": ["w", "x", "x"]}, malformed=[9, 12])
    checks = [
        RangeCheck(column="a", min=0, on_fail="drop"),
        RangeCheck(column="a", max=100, on_fail="quarantine"),
        InSetCheck(column="b", values=["x", "y"], on_fail="flag"),
    ]
    seen = []
    table = land(source, checks, tmp_path, progress=seen.append, max_rejected=0.9)
    assert table.column("a").to_pylist() == [1, 4, None]
    assert (table.counts.read, table.counts.kept, table.counts.malformed) == (6, 3, 2)
    assert counts(table) == [("range", 2, 2, 0, 0), ("range", 1, 0, 1, 0), ("in_set", 2, 0, 0, 2)]
    assert pq.read_table(tmp_path / "rejects" / "rows.parquet").to_pylist() == [
        {"check": "range", "reason": "a must be at most 100", "row": 2, "a": 300, "b": "z"}
    ]
    lines = (tmp_path / "rejects" / "malformed.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [9, 12]
    assert seen == [3, 6]
    again = LandedTable.open(tmp_path)
    assert again.counts == table.counts
    assert again.rows == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.arrow", "landed.json", "rejects"]


def test_a_row_that_breaks_two_rules_is_set_aside_under_the_first(tmp_path):
    checks = [RangeCheck(column="a", min=0), RangeCheck(column="a", min=10, on_fail="drop")]
    table = land(Rows({"a": [-1, 5, 20, 30]}), checks, tmp_path)
    assert counts(table) == [("range", 1, 0, 1, 0), ("range", 2, 1, 0, 0)]
    assert table.counts.kept == 2


def test_fail_names_the_check_the_count_and_the_first_rows(tmp_path):
    source = Rows({"a": [1, 2]}, {"a": [3, -4, -5]})
    with pytest.raises(CheckError, match=r"check range failed: a must be at least 0; 2 bad among the first 5 rows: row 3: a = -4; row 4"):
        land(source, [RangeCheck(column="a", min=0, on_fail="fail")], tmp_path)
    with pytest.raises(DataError, match="no landed table"):
        LandedTable.open(tmp_path)
    assert not (tmp_path / "data.arrow.partial").exists()


def test_unique_looks_at_the_rows_that_are_left_and_the_source_is_read_once(tmp_path):
    source = Rows({"id": [1, 1, 2], "a": [-1, 0, 0]}, {"id": [3, 2, 1], "a": [-1, 5, 6]})
    table = land(source, [UniqueCheck(column="id"), RangeCheck(column="a", min=0, on_fail="drop")], tmp_path, max_rejected=0.8)
    assert table.column("id").to_pylist() == [1, 2]  # the first 1 had a bad `a`, so that the second one is the first that counts
    assert counts(table) == [("unique", 2, 0, 2, 0), ("range", 2, 2, 0, 0)]
    assert [(row["row"], row["id"]) for row in pq.read_table(tmp_path / "rejects" / "rows.parquet").to_pylist()] == [(4, 2), (5, 1)]
    assert table.counts.kept == 2
    assert source.reads == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(st.integers(-3, 6), min_size=1, max_size=40), cuts=st.lists(st.integers(0, 40), max_size=3))
def test_rejects_have_the_rows_of_the_source(tmp_path, values, cuts):
    parts = [part for part in np.split(np.array(values), sorted(cuts)) if len(part)]
    checks = [RangeCheck(column="a", min=0), UniqueCheck(column="a")]
    try:
        land(Rows(*({"a": part} for part in parts)), checks, tmp_path, max_rejected=1.0)
    except DataError:
        assert max(values) < 0
        return
    seen, wanted = set(), []
    for row, value in enumerate(values):
        if value < 0 or value in seen:
            wanted.append((row, value))
        seen.add(value)
    path = tmp_path / "rejects" / "rows.parquet"
    given = [(row["row"], row["a"]) for row in pq.read_table(path).to_pylist()] if path.exists() else []
    assert sorted(given) == wanted


def test_too_many_rejects_stop_the_landing(tmp_path):
    source = Rows({"a": [-1, -1, 1]}, malformed=[4])
    with pytest.raises(CheckError, match=r"3 of 4 rows \(75%\).*2 because a must be at least 0; 1 because they could not be parsed"):
        land(source, [RangeCheck(column="a", min=0)], tmp_path)
    assert land(source, [RangeCheck(column="a", min=0)], tmp_path, max_rejected=0.75).rows == 1


def test_nothing_left_or_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        land(Rows({"a": pa.array([], pa.int64())}), [], tmp_path)
    with pytest.raises(DataError, match="no row is left of 1"):
        land(Rows({"a": [-1]}), [RangeCheck(column="a", min=0)], tmp_path, max_rejected=1.0)


def test_columns_are_looked_up_before_a_row_is_read(tmp_path):
    source = Rows({"age": [1]})
    with pytest.raises(ColumnError, match="did you mean 'age'"):
        land(source, [RangeCheck(column="agee", min=0)], tmp_path)
    assert source.reads == 0
    doubled = Rows({"a": [1]})
    doubled._batches = [pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])]
    with pytest.raises(ColumnError, match="more than one column named 'a'"):
        land(doubled, [], tmp_path)


def test_a_source_that_breaks_its_word(tmp_path):
    with pytest.raises(DataError, match="delivered"):
        land(Rows({"a": [1]}, {"b": [1]}), [], tmp_path)
    with pytest.raises(DataError, match="not of the type"):
        land(Rows({"a": [1]}, {"a": ["x"]}), [], tmp_path)


def test_a_preview_stops_early(tmp_path):
    table = land(Rows({"a": [1, 2, 3]}, {"a": [4, 5]}), [], tmp_path, max_rows=4)
    assert table.column("a").to_pylist() == [1, 2, 3, 4]
    assert table.counts.read == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_in_plain_words(tmp_path):
    (tmp_path / "data.arrow.partial").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"disk is full: .*data\.arrow"):
        land(Rows({"a": np.arange(10_000)}), [], tmp_path)


def test_dictionaries_and_tensors_land(tmp_path):
    words = pa.array(["x", "y", "x"]).dictionary_encode(), pa.array(["z", "x", "z"]).dictionary_encode()
    image = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(18, dtype=np.uint8).reshape(3, 2, 3))
    table = land(Rows(*({"w": word, "i": image} for word in words)), [UniqueCheck(columns=["w", "i"])], tmp_path)
    assert table.schema.field("w").type == pa.string()
    assert table.schema.field("i").type == image.type
    assert table.column("w").to_pylist() == ["x", "y", "x", "z", "x", "z"]


@pytest.fixture
def numbers(tmp_path):
    return land(
        Rows(*({"n": np.arange(start, start + 40_000), "m": np.zeros(40_000)} for start in range(0, 200_000, 40_000))), [], tmp_path
    )


def test_batches_are_views_of_the_file(numbers):
    before = pa.total_allocated_bytes()
    batches = list(numbers.batches(columns=["n"]))
    assert pa.total_allocated_bytes() == before
    assert [batch.schema.names for batch in batches] == [["n"]] * len(batches)
    assert max(batch.num_rows for batch in numbers.batches(batch_rows=1_000)) == 1_000
    assert sum(batch.num_rows for batch in batches) == numbers.rows == 200_000


def test_rows_by_mask_and_by_number(numbers):
    wanted = np.array([0, 7, 39_999, 40_000, 123_456, 199_999])
    mask = np.zeros(200_000, dtype=bool)
    mask[wanted] = True
    for rows in (wanted, mask):
        assert pa.Table.from_batches(numbers.batches(rows=rows)).column("n").to_pylist() == wanted.tolist()
    for wrong in (mask[:-1], wanted[::-1], np.array([-1]), np.array([200_000]), np.array([1, 1])):
        with pytest.raises(DataError):
            list(numbers.batches(rows=wrong))
    with pytest.raises(ColumnError):
        list(numbers.batches(columns=["k"]))


def test_a_sample_is_uniform_ordered_and_repeatable(numbers):
    sample = numbers.sample(None, 1_000, 3).column("n").to_numpy()
    assert len(np.unique(sample)) == 1_000
    assert (np.diff(sample) > 0).all()
    assert abs(sample.mean() - 100_000) < 5 * 57_735 / 1_000**0.5
    assert sample.tolist() == numbers.sample(None, 1_000, 3).column("n").to_pylist()
    assert sample.tolist() != numbers.sample(None, 1_000, 4).column("n").to_pylist()
    assert numbers.sample(np.array([5, 6]), 10, 0).column("n").to_pylist() == [5, 6]


def test_small_batches_are_joined(tmp_path):
    table = land(Rows(*({"a": [value]} for value in range(500))), [], tmp_path)
    assert table._reader.num_record_batches == 1
    assert table.column("a").to_pylist() == list(range(500))


def test_nan_lands_as_a_missing_value(tmp_path):
    nan = float("nan")
    table = land(Rows({"a": [1.0, nan, None], "b": pa.array([nan, 1.0, 2.0], pa.float32()), "c": [1, 2, 3]}), [], tmp_path)
    assert table.column("a").to_pylist() == [1.0, None, None]
    assert table.column("b").to_pylist() == [None, 1.0, 2.0]
    assert table.column("b").type == pa.float32()


def test_nan_lands_as_missing_where_the_source_says_that_nothing_is(tmp_path):
    schema = pa.schema([pa.field("a", pa.float64(), nullable=False)])
    source = Rows({"a": [1.0, 2.0]})
    source._batches = [pa.record_batch([pa.array([1.0, float("nan")])], schema=schema)]
    assert land(source, [], tmp_path).column("a").null_count == 1

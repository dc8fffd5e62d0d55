"""Topics joined by key and time: held against a join by brute force, and what becomes of rows that belong to nothing."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.sources import open_source
from deepseek.data.sources.ingested.manifest import Manifest
from deepseek.data.sources.merging import as_text, conform, merged
from deepseek.data.sources.moments import Moments, Others
from deepseek.errors import ColumnError, DataError, InputError, RecipeError, UnknownNameError
from deepseek.fields import Kind, infer_schema
from deepseek.serving.intake.contents import Content
from deepseek.serving.intake.index import Index
from deepseek.serving.intake.parts import Parts


def moments(keys, times):
    return Moments(pa.array(keys, pa.string()), pa.array(times, pa.timestamp("us")))


def drawn(rng, rows, keys):
    names = [None if rng.random() < 0.1 else f"k{rng.integers(keys)}" for _ in range(rows)]
    return names, [None if rng.random() < 0.1 else int(rng.integers(-50, 50)) for _ in range(rows)]


def brute(base, others, within, direction):
    """Return for each row of the base all others that belong to it, as (distance, time, place), the wanted one first."""
    found = []
    for key, time in zip(*base, strict=True):
        near = []
        for place, (other, at) in enumerate(zip(*others, strict=True)):
            if None in (key, time, other, at) or key != other:
                continue
            gap = at - time
            if (direction == "before" and gap > 0) or (direction == "after" and gap < 0) or (within is not None and abs(gap) > within):
                continue
            near.append((abs(gap), at, place))
        found.append(sorted(near))
    return found


@pytest.mark.parametrize("direction", ["nearest", "before", "after"])
@pytest.mark.parametrize("within", [None, 0, 7])
@pytest.mark.parametrize("rows", [0, 1, 60])
def test_nearest_and_windows_are_those_of_brute_force(direction, within, rows):
    rng = np.random.default_rng(rows)
    base, others = drawn(rng, 40, 4), drawn(rng, rows, 5)
    expected = brute(base, others, within, direction)
    found = Others(moments(*others))
    for place, wanted in zip(found.nearest(moments(*base), within, direction).tolist(), expected, strict=True):
        assert (place == -1) == (not wanted)
        if wanted:
            assert (abs(others[1][place] - others[1][wanted[0][2]]), others[1][place]) == (0, wanted[0][1])
    order, begin, end = found.windows(moments(*base), within, direction)
    for first, last, wanted in zip(begin, end, expected, strict=True):
        assert sorted(order[first:last].tolist()) == sorted(place for _, _, place in wanted)
        assert [others[1][place] for place in order[first:last]] == sorted(time for _, time, _ in wanted)


START = datetime(2026, 1, 1)


class Folder:
    """A folder of ingested data, written without a server."""

    def __init__(self, path):
        self.path = path
        (path / "spool").mkdir(parents=True)
        (path / "ingest.json").write_text('{"format": 1}')

    def add(self, topic, rows, attributes=None, *, write=True):
        index = Index(self.path)
        number = sum(one["contents"] for one in index.counts().values())
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        payload = sink.getvalue().to_pybytes()
        content = Content(topic, f"id-{number}", "00", len(payload), "x/y", attributes or {}, len(rows), payload=payload)
        index.add([content]).result()
        if write:
            Parts(self.path, index, size=10**6).write(topic)
        index.close()

    def open(self, *topics, version=None, **join):
        source = {"type": "ingest", "path": str(self.path), "topics": list(topics), "version": version}
        return open_source({**source, **({"join": join} if join else {})})


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "in")
    visits = [
        {"who": who, "when": START + timedelta(seconds=second), "n": n} for n, (who, second) in enumerate([(1, 0), (2, 0), (3, 5), (1, 60)])
    ]
    made.add("visits", visits)
    for who, second, name in [(1, 3, "a"), (1, 58, "b"), (3, 300, "c"), (4, 0, "d")]:
        made.add("scans", [{"image": name}], {"who": str(who), "when": (START + timedelta(seconds=second)).isoformat()})
    made.add("pulse", [{"who": 1.0, "when": 1_767_225_600 + second, "bpm": 60 + second} for second in (0, 2, 4, 61, 500)])
    return made


def columns(source, *names):
    return [tuple(row[name] for name in names) for batch in source.read() for row in batch.to_pylist()]


def test_rows_are_joined_with_what_is_nearest_in_time_and_the_others_are_kept_and_counted(folder):
    source = folder.open("visits", "scans", key="who", time="when", within="10s")
    assert columns(source, "n", "scans.image") == [(0, "a"), (1, None), (2, None), (3, "b")]
    assert source._joined.unmatched == {"scans": 2}
    assert source._joined.unused == {"scans": 2}
    assert list(source.rejects()) == []


def test_a_senders_file_name_is_no_path_of_an_image_that_could_be_read(tmp_path):
    made = Folder(tmp_path / "in")
    for n in range(12):
        made.add("scans", [{"image": f"ab/{n}.png"}], {"filename": f"scan {n}.png", "who": str(n)}, write=n == 11)
        made.add("visits", [{"who": n, "kind": "a" if n % 2 else "b"}], write=n == 11)
    for source, prefix in ((made.open("scans"), ""), (made.open("visits", "scans", key="who"), "scans.")):
        schema, why = infer_schema(pa.Table.from_batches(source.read()))
        assert schema[f"{prefix}image"].kind is Kind.IMAGE
        assert schema[f"{prefix}_filename"].kind is not Kind.IMAGE, why


def test_unmatched_rows_can_be_set_aside_and_say_what_they_lack(folder):
    source = folder.open("visits", "scans", "pulse", key="who", time="when", within="10s", unmatched="reject")
    assert columns(source, "n", "scans.image", "pulse.bpm") == [(0, "a", 60), (3, "b", 121)]
    assert [(row["line"], row["reason"]) for batch in source.rejects() for row in batch.to_pylist()] == [
        (1, "nothing of scans, pulse belongs to it"),
        (2, "nothing of scans, pulse belongs to it"),
    ]


def test_a_series_is_every_row_within_the_time_as_lists(folder):
    source = folder.open("visits", "pulse", key="who", time="when", within="3s", series=["pulse"])
    assert columns(source, "n", "pulse.bpm") == [(0, [60, 62]), (1, None), (2, None), (3, [121])]
    assert str(source.schema().field("pulse.bpm").type) == "list<item: int64>"
    assert "pulse._id" not in source.schema().names
    before = folder.open("visits", "pulse", key="who", time="when", direction="before", series=["pulse"])
    assert columns(before, "n", "pulse.bpm")[3] == (3, [60, 62, 64])


def test_rows_that_came_after_the_version_are_not_counted_as_unused(folder):
    now = folder.open("visits", "scans", key="who", time="when", within="10s", version=3)
    assert columns(now, "n", "scans.image") == [(0, "a"), (1, None), (2, None), (3, "b")]
    assert now._joined.unused == {"scans": 0}
    assert len(folder.open("scans")._topics[0].files()) == 1  # later scans lie in the same part
    series = folder.open("visits", "scans", key="who", time="when", within="10s", series=["scans"], version=4)
    list(series.read())
    assert series._joined.unused == {"scans": 1}


def test_only_the_columns_that_are_named_are_read_as_text(folder):
    folder.add("beats", [{"who": 1, "n": 7, "bpm": 60}])
    source = folder.open("visits", "beats", "pulse", key="who", series=["pulse"]).as_text(["n", "beats.bpm", "pulse.bpm"])
    kinds = {field.name: str(field.type) for field in source.schema()}
    assert (kinds["n"], kinds["beats.n"], kinds["beats.bpm"], kinds["beats.who"]) == ("string", "int64", "string", "int64")
    assert kinds["pulse.bpm"].startswith("list<item: int64")
    assert columns(source, "n", "beats.n", "beats.bpm")[0] == ("0", 7, "60")


def test_direction_keeps_the_future_out(folder):
    before = folder.open("visits", "scans", key="who", time="when", direction="before")
    assert columns(before, "n", "scans.image") == [(0, None), (1, None), (2, None), (3, "b")]
    after = folder.open("visits", "scans", key="who", time="when", direction="after")
    assert columns(after, "n", "scans.image") == [(0, "a"), (1, None), (2, "c"), (3, None)]


def test_without_a_time_of_their_own_rows_go_by_their_arrival(folder):
    assert columns(folder.open("visits", "scans", key="who"), "n", "scans.image")[0] == (0, "a")


def test_batches_of_any_size_and_some_columns_give_the_same(folder):
    source = folder.open("visits", "scans", "pulse", key="who", time="when", within="10s", series=["pulse"])
    whole = pa.Table.from_batches(source.read())
    for names in (whole.column_names, ["pulse.bpm", "n"], ["scans.image"]):
        pieces = pa.Table.from_batches(source.read(columns=names, batch_rows=1))
        assert pieces.to_pydict() == whole.select(names).to_pydict()


def test_joins_that_cannot_be_are_named(folder):
    with pytest.raises(ColumnError, match="neither a column nor an attribute 'patient'"):
        folder.open("visits", "scans", key="patient").schema()
    with pytest.raises(InputError, match="several topics need a join"):
        folder.open("visits", "scans")
    with pytest.raises(InputError, match="a join needs several topics"):
        folder.open("visits", key="who")
    with pytest.raises(UnknownNameError, match="did you mean 'scans'"):
        folder.open("visits", "scan", key="who").schema()
    with pytest.raises(UnknownNameError, match="topic of series"):
        folder.open("visits", "scans", key="who", series=["visits"])
    with pytest.raises(RecipeError, match="did you mean 'within'"):
        folder.open("visits", "scans", key="who", withn="1s")
    with pytest.raises(InputError, match="holds several topics"):
        open_source({"type": "ingest", "path": str(folder.path)}).schema()
    with pytest.raises(DataError, match="the last content has the number"):
        open_source({"type": "ingest", "path": str(folder.path), "topics": "visits", "version": 99}).schema()


LATER = [
    {"a": 1, "n": 2**53 + 1, "t": START, "v": [1, 2], "d": START.date(), "m": None},
    {"a": 2.5, "n": 0.5, "v": [0.5], "a (2)": "a name that a second type might be stored under", "m": 1},
    {"a": "x", "n": -0.0, "t": "soon", "v": 7, "d": START, "m": "y"},
    {"a": True, "b": 5, "t": None, "m": b"bytes"},
    {"a": "1", "b": "1"},
]


def state_of(folder, version):
    source = folder.open("t", version=version)
    return source.schema(), source.fingerprint(), [row for batch in source.read(batch_rows=2) for row in batch.to_pylist()]


def test_rows_types_and_name_of_a_version_stay_whatever_comes_later(tmp_path):
    """Every value, also those that a wider type would round: they are kept as they came, and read as what holds them."""
    folder, seen = Folder(tmp_path / "in"), []
    for row in LATER:
        folder.add("t", [row, {"a": row["a"]}])
        seen.append(state_of(folder, len(seen) + 1))
    assert [str(schema.field("a").type) for schema, _, _ in seen] == ["int64", "double", "string", "string", "string"]
    assert [(rows[0]["a"], rows[0]["n"]) for _, _, rows in seen[:2]] == [(1, 2**53 + 1), (1.0, str(2**53 + 1))]
    assert [row["a"] for row in seen[-1][2][::2]] == ["1", "2.5", "x", "true", "1"]
    assert [schema.get_field_index("b") >= 0 for schema, _, _ in seen] == [False, False, False, True, True]
    assert len(Manifest.read(folder.path, "t").parts) == 1
    for version, then in enumerate(seen, start=1):
        assert state_of(folder, version) == then


def test_contents_that_go_into_one_part_at_once_are_read_as_if_each_had_one_of_its_own(tmp_path):
    one_by_one, at_once = Folder(tmp_path / "one by one"), Folder(tmp_path / "at once")
    for row in LATER:
        one_by_one.add("t", [row])
        at_once.add("t", [row], write=row is LATER[-1])
    assert Manifest.read(at_once.path, "t").parts[0].number == 1
    for version in range(1, len(LATER) + 1):
        (schema, _, rows), (expected, _, others) = state_of(at_once, version), state_of(one_by_one, version)
        assert schema == expected
        assert [{**row, "_at": None} for row in rows] == [{**row, "_at": None} for row in others]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((pa.int64(), pa.float64()), pa.float64()),
        ((pa.null(), pa.bool_()), pa.bool_()),
        ((pa.int64(), pa.string()), pa.string()),
        ((pa.timestamp("s"), pa.timestamp("us", "UTC")), pa.timestamp("us")),
        ((pa.list_(pa.int64()), pa.list_(pa.float64())), pa.list_(pa.float64())),
        ((pa.list_(pa.int64()), pa.int64()), pa.string()),
    ],
)
def test_types_that_differ_become_one_that_holds_both(kinds, expected):
    schemas = [pa.schema([("a", kind)]) for kind in kinds]
    schema = merged([*schemas, pa.schema([("b", pa.int8())])])
    assert schema.field("a").type == expected
    for one in schemas:
        table = conform(pa.Table.from_pylist([{"a": None}], one), schema)
        assert table.schema == schema


def test_numbers_and_times_become_text_alike_from_whatever_they_were_widened():
    assert as_text(pa.chunked_array([[1.0, 2.5, None, 1e300]])).to_pylist() == ["1", "2.5", None, "1e+300"]
    second = pa.chunked_array([pa.array([START], pa.timestamp("s"))])
    assert as_text(second).to_pylist() == as_text(second.cast(pa.timestamp("us"))).to_pylist()
    assert as_text(pa.chunked_array([[[1, 2], None]])).to_pylist() == ["[1, 2]", None]

"""Snapshots of lines: every line once, whatever the lines are and wherever a process dies."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deepseek.artifacts import files as artifact_files
from deepseek.data.sources import open_source
from deepseek.data.streams import writing
from deepseek.data.streams.manifest import Manifest
from deepseek.errors import CheckError, DataError, InputError


def lines_of(folder, *lines):
    with (folder / "t.jsonl").open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))


def source_of(folder, **more):
    spec = {"type": "stream", "stream": {"type": "lines", "path": "t.jsonl"}, "path": "s", "places": True, "max_rejected": 1.0, **more}
    return open_source(spec, folder=folder)


def small_parts(source, rows):
    from dataclasses import replace

    source._plan = replace(source._plan, part_rows=rows)
    return source


def rows_in(source):
    return [row for batch in source.read() for row in batch.to_pylist()]


JUNK = st.one_of(
    st.binary(max_size=30).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b"")),
    st.text(max_size=20).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"{", b"}", b"null", b"[{}]", b'{"n": 1}{"n": 2}', b'{"n": 1, "n": 1}', b'{"n": 1e999}', b"\xff{}", b'{"n": nope}']),
    st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda part: st.lists(part, max_size=3), max_leaves=5).map(
        lambda value: json.dumps(value).encode()
    ),
)


class TestPoison:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(JUNK, st.integers(0, 10**6)), min_size=1, max_size=60))
    @example([0, *[b"{"] * 500, 1])
    def test_rows_and_rejects_are_the_messages_each_once(self, tmp_path_factory, values):
        """500 malformed messages in all and more: counted, kept, named by offset; no row lost or invented."""
        folder = tmp_path_factory.mktemp("poison")
        lines = [b'{"n": %d}' % value if isinstance(value, int) else value for value in values]
        lines_of(folder, *lines)
        source = small_parts(source_of(folder), 17)
        counts = source.take().counts()
        offsets = {sum(len(line) + 1 for line in lines[:place]): line for place, line in enumerate(lines)}
        good = {row["_offset"]: row["n"] for row in rows_in(source)} if counts["rows"] else {}
        bad = {row["line"]: row for batch in source.rejects() for row in batch.to_pylist()}
        assert (len(good), len(bad)) == (counts["rows"], counts["rejected"])
        assert good.keys() | bad.keys() == offsets.keys()
        assert not good.keys() & bad.keys()
        for offset, line in offsets.items():
            try:
                expected = json.loads(line)["n"] if isinstance(json.loads(line), dict) else None
            except (ValueError, KeyError):
                expected = None
            if offset in good and expected is not None:
                assert good[offset] == expected
        assert all(f"offset {offset}:" in row["reason"] for offset, row in bad.items())
        assert sum(isinstance(value, int) for value in values) <= len(good)

    def test_too_many_stop_it_and_do_not_count(self, tmp_path):
        lines_of(tmp_path, *[b"no json"] * 3000)
        with pytest.raises(CheckError, match=r"3,000 of 3,000 messages could not be read, such as t\.jsonl offset 0: no JSON"):
            source_of(tmp_path, max_rejected=0.5).take()
        assert Manifest.read(tmp_path / "s").parts == ()


class Died(BaseException):
    """Stands for kill -9: nothing is tidied up."""


class TestExactlyOnce:
    @pytest.mark.parametrize("step", range(40))
    def test_a_process_that_dies_at_any_step_loses_and_doubles_nothing(self, tmp_path, monkeypatch, step):
        """The n-th touch of the disk is the last one of the first process."""
        lines_of(tmp_path, *(b'{"n": %d}' % number if number % 10 else b"bad" for number in range(60)))
        left = [step]

        def dying(work):
            def call(*given, **more):
                if left[0] == 0:
                    raise Died
                left[0] -= 1
                return work(*given, **more)

            return call

        with monkeypatch.context() as patched:
            for module, name in ((writing, "sync_file"), (writing, "sync_folder"), (writing, "sha256_file"), (artifact_files.os, "fsync")):
                patched.setattr(module, name, dying(getattr(module, name)))
            patched.setattr(Path, "replace", dying(Path.replace))
            try:
                small_parts(source_of(tmp_path), 13).take()
            except Died:
                pass
            except DataError:
                raise
        lines_of(tmp_path, b'{"n": 60}')
        source = small_parts(source_of(tmp_path), 13)
        source.take()
        source.take()
        assert sorted(row["n"] for row in rows_in(source)) == [*(number for number in range(60) if number % 10), 60]
        assert sum(batch.num_rows for batch in source.rejects()) == 6
        named = {about["name"] for part in Manifest.read(tmp_path / "s").parts for about in part.files.values()}
        assert {path.name for path in (tmp_path / "s" / "parts").iterdir()} == named

    def test_a_version_that_was_begun_ends_where_it_was_to_end(self, tmp_path, monkeypatch):
        lines_of(tmp_path, *(b'{"n": %d}' % number for number in range(30)))
        add = writing.PartWriter.add
        calls = []

        def failing(self, *given, **more):
            calls.append(1)
            if len(calls) == 2:
                raise Died
            return add(self, *given, **more)

        with monkeypatch.context() as patched:
            patched.setattr(writing.PartWriter, "add", failing)
            with pytest.raises(Died):
                small_parts(source_of(tmp_path), 10).take()
        lines_of(tmp_path, b'{"n": 30}')
        source = source_of(tmp_path)
        assert source.take().counts()["rows"] == 30
        assert source.take().counts()["rows"] == 31

    def test_two_processes_do_not_write_to_one_folder(self, tmp_path):
        lines_of(tmp_path, b'{"n": 1}')
        with writing.held(tmp_path / "s"), pytest.raises(InputError, match="another process takes the snapshot"):
            source_of(tmp_path).take()


class TestReading:
    def test_types_widen_over_parts_and_versions_keep_theirs(self, tmp_path):
        lines_of(tmp_path, b'{"n": 1}', b'{"n": 2}')
        source = small_parts(source_of(tmp_path), 1)
        source.take()
        lines_of(tmp_path, b'{"n": "x", "m": 1.5}')
        source.take()
        assert [(row["n"], row["m"]) for row in rows_in(source)] == [("1", None), ("2", None), ("x", 1.5)]
        first = source_of(tmp_path, version=1)
        assert first.schema().field("n").type == pa.int64()
        with pytest.raises(DataError, match="version is 3, and the last one is 2"):
            source_of(tmp_path, version=3).schema()

    def test_whole_numbers_that_no_float_holds_stay_what_they_are_beside_floats(self, tmp_path):
        """Two ids that differ by one must not become the same because a part after theirs has floats."""
        ids = [2**53 + 1, 2**53 + 2, -(2**60) - 1]
        lines_of(tmp_path, *(b'{"id": %d, "n": [%d]}' % (one, one) for one in ids))
        source_of(tmp_path).take()
        lines_of(tmp_path, b'{"id": 0.5, "n": [0.5]}')
        source = source_of(tmp_path)
        source.take()
        assert [row["id"] for row in rows_in(source)] == [*map(str, ids), "0.5"]
        assert [row["n"] for row in rows_in(source)] == [*(f"[{one}]" for one in ids), "[0.5]"]
        assert [row["id"] for row in rows_in(source_of(tmp_path, version=1))] == ids

    def test_columns_can_be_read_as_text(self, tmp_path):
        lines_of(tmp_path, b'{"n": 1}')
        assert [row["n"] for row in rows_in(source_of(tmp_path).as_text(["n", "other"]))] == ["1"]

    def test_a_part_that_was_changed_is_noticed(self, tmp_path):
        lines_of(tmp_path, b'{"n": 1}')
        source_of(tmp_path).take()
        (part,) = (tmp_path / "s" / "parts").glob("*.rows.parquet")
        part.write_bytes(part.read_bytes()[:-1] + b"x")
        with pytest.raises(DataError, match="not as it was written"):
            source_of(tmp_path).schema()
        part.unlink()
        with pytest.raises(DataError, match="is not there"):
            source_of(tmp_path).schema()

    def test_a_file_that_was_cut_is_an_error(self, tmp_path):
        lines_of(tmp_path, b'{"n": 1}', b'{"n": 2}')
        source = source_of(tmp_path)
        source.take()
        (tmp_path / "t.jsonl").write_bytes(b'{"n": 1}\n')
        with pytest.raises(DataError, match="ends at byte 9, before the wanted 18"):
            source.take()

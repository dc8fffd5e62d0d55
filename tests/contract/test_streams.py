"""Every built-in stream and decoder keeps the public contract; Kafka's and Pulsar's case stands with their servers."""

import json

import pyarrow as pa
import pytest

from deepseek.data.sources import open_source
from deepseek.data.sources.contract import SourceContract
from deepseek.data.streams.contract import DecoderContract, StreamContract
from deepseek.data.streams.decoders import JsonDecoder, RawDecoder, TextDecoder
from deepseek.data.streams.lines import LinesStream
from deepseek.registry import family

TABLE = pa.table({"a": [1, 2, 3, 4], "b": ["x", None, "z", "w"], "c": [0.5, 1.5, None, 2.5]})


def append(path, values):
    with path.open("ab") as file:
        file.write(b"".join(value + b"\n" for value in values))


class TestLines(StreamContract):
    @pytest.fixture
    def make(self, tmp_path):
        return lambda: LinesStream(tmp_path, path="messages.jsonl")

    @pytest.fixture
    def write(self, tmp_path):
        return lambda values: append(tmp_path / "messages.jsonl", values)


class TestJson(DecoderContract):
    good = (b'{"a": 1, "b": {"c": "x"}}', b'{"a": 2, "_id": 7}', b'{"d": [1, 2], "b": {"c": "2024-01-01"}}', b'{ "a": null }')
    bad = (b"", b"{", b"[1]", b"3", b'{"a": 1}{"a": 2}', b'{"a": 1, "a": 2}', b'{"a": "\xff"}', b'{"a": 1e999}', b'{"a": "\\ud800"}')

    @pytest.fixture
    def decoder(self):
        return JsonDecoder()


class TestText(DecoderContract):
    good = (b"", b"plain", "größer".encode())
    bad = (b"\xff", b"a\xc3")

    @pytest.fixture
    def decoder(self):
        return TextDecoder()


class TestRaw(DecoderContract):
    good = (b"", b"\xff\x00", b"x")

    @pytest.fixture
    def decoder(self):
        return RawDecoder()


class TestStreamSource(SourceContract):
    """A snapshot of lines, of which two are no JSON objects."""

    @pytest.fixture
    def source(self, tmp_path):
        lines = [json.dumps(row).encode() for row in TABLE.to_pylist()]
        append(tmp_path / "t.jsonl", [lines[0], b"oops", *lines[1:], b"[]"])
        return open_source({"type": "stream", "stream": {"type": "lines", "path": "t.jsonl"}, "path": "snapshot"}, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        return TABLE

    def test_its_rejects_name_partition_and_offset(self, source):
        source.schema()
        rejects = [row for batch in source.rejects() for row in batch.to_pylist()]
        assert [(row["line"], row["raw"]) for row in rejects] == [(29, "oops"), (123, "[]")]
        assert rejects[0]["reason"].startswith("t.jsonl, offset 29: no JSON")


def test_no_built_in_is_left_out():
    assert set(family("decoder").names()) == {"json", "text", "raw"}
    assert set(family("stream").names()) == {"lines", "kafka", "pulsar"}

"""What messages become: exactly what was written, one row each, and nothing else."""

import json

import pyarrow as pa
import pytest

from deepseek.data.streams import decoders
from deepseek.data.streams.base import MESSAGES
from deepseek.data.streams.decoders import Decoded, Decoder, JsonDecoder
from deepseek.data.streams.rows import rows_of
from deepseek.errors import PluginError


def decoded(*values):
    return JsonDecoder().decode(pa.array(values, pa.binary()))


def column(*values, name="a"):
    return decoded(*values).rows[name]


class TestJson:
    def test_types_are_the_narrowest_that_hold_all(self):
        assert column(b'{"a": 1}', b'{"a": null}').type == pa.int64()
        assert column(b'{"a": 1}', b'{"a": 1.5}').to_pylist() == [1.0, 1.5]
        assert column(b'{"a": true}', b'{"a": 2}').to_pylist() == ["true", "2"]
        assert column(b'{"a": [1, 2]}', b'{"a": []}').to_pylist() == [[1, 2], []]

    def test_what_looks_like_a_moment_stays_as_it_was_spelled(self):
        assert column(b'{"a": "2024-01-01"}', b'{"a": "2024-01-02 03:04"}').to_pylist() == ["2024-01-01", "2024-01-02 03:04"]
        assert column(b'{"a": {"b": "2024-01-01"}}', name="a.b").to_pylist() == ["2024-01-01"]
        assert column(b'{"a": ["2024-01-01"]}').to_pylist() == [["2024-01-01"]]

    def test_whole_numbers_that_no_float_holds_are_not_rounded(self):
        big = 9_007_199_254_740_993
        assert column(b'{"a": %d}' % big).to_pylist() == [big]
        assert column(b'{"a": %d}' % big, b'{"a": 1.5}').to_pylist() == [str(big), "1.5"]
        assert column(b'{"a": 123456789012345678901234567890}').to_pylist() == ["123456789012345678901234567890"]
        assert column(b'{"a": 1e300}', b'{"a": 2.5}').to_pylist() == [1e300, 2.5]

    def test_neither_are_those_of_another_piece(self, monkeypatch):
        monkeypatch.setattr(decoders, "_PIECE_ROWS", 1)
        values = pa.array([b'{"n": %d}' % (2**53 + 1), b'{"n": 0.5}'], pa.binary())
        assert JsonDecoder().decode(values).rows["n"].to_pylist() == [str(2**53 + 1), "0.5"]

    def test_lists_of_objects_stay_what_was_written(self):
        assert column(b'{"a": [{"b": 1}, {"c": 2}]}').to_pylist() == ['[{"b": 1}, {"c": 2}]']
        assert column(b'{"a": [[1], [2.5]]}').to_pylist() == ["[[1], [2.5]]"]

    def test_objects_without_fields_are_rows_too(self):
        assert decoded(b"{}", b"{}").rows.num_rows == 2
        assert column(b"{}", b'{"a": 1}').to_pylist() == [None, 1]

    def test_names_that_a_snapshot_adds_stay_free(self):
        assert decoded(b'{"_offset": 7, "__x": 1}').rows.column_names == ["__offset", "___x"]

    def test_two_fields_that_come_to_one_name_are_refused(self):
        found = decoded(b'{"a.b": 1, "a": {"b": 2}}', b'{"a.b": 1}')
        assert (found.rows.to_pylist(), list(found.bad)) == ([{"a.b": 1}], [0])
        assert "two fields are called 'a.b'" in found.bad[0]

    def test_columns_come_the_same_whichever_road_they_took(self):
        """One odd message sends its piece down the slow road: the rows of the others do not change by that."""
        values = [json.dumps({"n": number, "x": number / 7, "s": f"ä{number}", "o": {"k": [number]}}).encode() for number in range(50)]
        slow = decoded(*values, b"odd").rows
        assert slow.equals(decoded(*values).rows.cast(slow.schema))
        assert slow.schema.equals(decoded(*values).rows.schema)

    def test_depth_ends_no_process(self):
        assert "deep" in decoded(b'{"a":' * 40 + b"1" + b"}" * 40).bad[0]
        assert "recursion" in decoded(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}").bad[0]
        assert decoded(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"a": 1}').rows.to_pylist() == [{"a": 1}]
        many = [[number] for number in range(500)]
        assert decoded(b'{"a": %s}' % json.dumps(many).encode()).rows.to_pylist() == [{"a": json.dumps(many)}]


class Careless(Decoder):
    """Fails on what it does not know, as code does."""

    def decode(self, values):
        return Decoded(pa.table({"n": [int(value) for value in values.to_pylist()]}))


class Forgetful(Decoder):
    def decode(self, values):
        return Decoded(pa.table({"n": pa.array([], pa.int64())}))


def messages(*values):
    rows = [{"partition": "p", "offset": place, "at": None, "key": None, "value": value} for place, value in enumerate(values)]
    return pa.Table.from_pylist(rows, MESSAGES)


class TestForeignDecoders:
    def test_a_message_that_a_decoder_cannot_bear_costs_no_other(self):
        rows = rows_of(messages(b"1", b"x", b"3"), Careless(), max_message=100)
        assert rows.good["n"].to_pylist() == [1, 3]
        (bad,) = rows.bad.to_pylist()
        assert (bad["_offset"], bad["raw"]) == (1, b"x")
        assert bad["reason"].startswith("ValueError: invalid literal")

    def test_one_that_loses_messages_is_named(self):
        with pytest.raises(PluginError, match="Forgetful made 0 rows and 0 reasons of 2"):
            rows_of(messages(b"1", b"2"), Forgetful(), max_message=100)

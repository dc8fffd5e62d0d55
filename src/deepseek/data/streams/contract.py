"""The public contract suites of streams and decoders: what every one must do, as tests that a plugin's author runs on their own.

Example:
    In a test file of the plugin::

        class TestMyStream(StreamContract):
            @pytest.fixture
            def make(self, tmp_path):
                return lambda: MyStream(tmp_path, path="messages")

            @pytest.fixture
            def write(self, tmp_path):
                return lambda values: append(tmp_path / "messages", values)

        class TestMyDecoder(DecoderContract):
            good = [b"1;2", b"3;4"]
            bad = [b"", b"1;"]

            @pytest.fixture
            def decoder(self):
                return MyDecoder()
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

import pyarrow as pa
import pytest

from deepseek.data.streams.base import MESSAGES, Stream
from deepseek.data.streams.decoders import Decoder
from deepseek.errors import DataError

Make = Callable[[], Stream]
Write = Callable[[Sequence[bytes]], None]
TIMEOUT_S = 60.0


class StreamContract:
    """Tests that hold for every stream; a subclass gives the fixtures `make` and `write`.

    `make` returns a new stream over the messages of the test, of which there are none at first. `write` adds messages behind them, in
    order, and returns when they are there; partitions are its own affair.
    """

    def test_every_message_comes_once_in_the_order_of_its_partition(self, make: Make, write: Write) -> None:
        """What is written is read, as `MESSAGES`, with offsets that grow."""
        write(_values(50))
        with make() as stream:
            batches = _read(stream, 50)
        assert all(batch.schema.equals(MESSAGES) for batch in batches)
        assert sorted(_contents(batches)) == _values(50)
        for rows in _by_partition(batches).values():
            assert [offset for offset, _ in rows] == sorted({offset for offset, _ in rows})
            assert [value for _, value in rows] == sorted(value for _, value in rows)

    @pytest.mark.parametrize("most", [1, 7])
    def test_no_more_messages_come_than_asked_for(self, make: Make, write: Write, most: int) -> None:
        """`max_rows` is kept, and none is lost by it."""
        write(_values(20))
        with make() as stream:
            batches = _read(stream, 20, most=most)
        assert max(batch.num_rows for batch in batches) <= most
        assert sorted(_contents(batches)) == _values(20)

    def test_where_nothing_is_there_nothing_comes(self, make: Make, write: Write) -> None:
        """A poll returns when its time is over, and later messages still come."""
        with make() as stream:
            stream.seek({})
            empty = stream.poll(10, timeout_s=0.2)
            assert (empty.num_rows, empty.schema) == (0, MESSAGES)
            write(_values(3))
            assert sorted(_contents(_read(stream, 3))) == _values(3)

    def test_reading_goes_on_from_a_position_that_was_kept(self, make: Make, write: Write) -> None:
        """Another process that is given the position reads the rest: nothing twice, nothing missing."""
        write(_values(30))
        with make() as stream:
            first = _read(stream, 12, most=4)
            kept = json.loads(json.dumps(stream.position()))
        write(_values(40)[30:])
        with make() as stream:
            stream.seek(kept)
            rest = _read(stream, 40 - sum(batch.num_rows for batch in first))
        assert sorted(_contents(first) + _contents(rest)) == _values(40)

    def test_what_was_read_can_be_read_again(self, make: Make, write: Write) -> None:
        """Going back gives the same messages with the same offsets; where no position is given, from the start."""
        write(_values(10))
        with make() as stream:
            stream.seek({})
            begin = stream.position()
            first = _read(stream, 10)
            stream.seek(begin)
            assert _by_partition(_read(stream, 10)) == _by_partition(first)
            stream.seek({})
            assert _by_partition(_read(stream, 10)) == _by_partition(first)

    def test_reading_stops_at_a_bound(self, make: Make, write: Write) -> None:
        """Exactly what was there when the end was asked for comes, and what is written later does not."""
        write(_values(25))
        with make() as stream:
            stream.seek({})
            end = json.loads(json.dumps(stream.end()))
            assert end.keys() == stream.position().keys()
            write(_values(35)[25:])
            stream.stop_at(end)
            assert not stream.finished
            assert sorted(_contents(_read(stream, 25, most=10))) == _values(25)
            assert stream.finished
            assert stream.position() == end
            assert stream.poll(10, timeout_s=0.2).num_rows == 0
            stream.seek(end)
            assert sorted(_contents(_read(stream, 10))) == _values(35)[25:]

    def test_a_bound_can_be_moved_on(self, make: Make, write: Write) -> None:
        """What lay behind the first bound comes before the second, though it was there, or on its way, when reading stopped."""
        write(_values(20))
        with make() as stream:
            stream.seek({})
            first = stream.end()
            write(_values(30)[20:])
            stream.stop_at(first)
            assert sorted(_contents(_read(stream, 20))) == _values(20)
            stream.stop_at(stream.end())
            assert sorted(_contents(_read(stream, 10))) == _values(30)[20:]
            assert stream.finished

    def test_a_bound_that_is_reached_already_ends_it_at_once(self, make: Make, write: Write) -> None:
        """Nothing to read is no reason to wait."""
        with make() as stream:
            stream.seek({})
            stream.stop_at(stream.end())
            assert stream.finished
            assert stream.poll(10, timeout_s=TIMEOUT_S).num_rows == 0

    def test_a_commit_moves_nothing(self, make: Make, write: Write) -> None:
        """Reading goes on where it was, whatever the server is told."""
        write(_values(10))
        with make() as stream:
            first = _read(stream, 4, most=2)
            stream.commit(stream.position())
            rest = _read(stream, 10 - sum(batch.num_rows for batch in first))
        assert sorted(_contents(first) + _contents(rest)) == _values(10)

    def test_a_partition_that_is_none_is_refused(self, make: Make, write: Write) -> None:
        """A position of another stream is an error that names what is wrong."""
        write(_values(2))
        with make() as stream, pytest.raises(DataError, match="no/such/partition"):
            stream.seek({"no/such/partition": 0})

    def test_it_says_what_it_is(self, make: Make) -> None:
        """The identity is plain JSON, the same each time."""
        with make() as one, make() as other:
            assert json.loads(json.dumps(one.identity)) == other.identity
            assert one.name


class DecoderContract:
    """Tests that hold for every decoder; a subclass gives the fixture `decoder`, and messages that are `good` and `bad`."""

    good: ClassVar[Sequence[bytes]]
    bad: ClassVar[Sequence[bytes]] = ()

    def test_every_message_is_a_row_or_has_a_reason(self, decoder: Decoder) -> None:
        """None is lost, none invented, and it is said which are bad and why."""
        values = [value for pair in zip(self.good, [*self.bad, *self.good], strict=False) for value in pair]
        decoded = decoder.decode(pa.array(values, pa.binary()))
        assert decoded.rows.num_rows + len(decoded.bad) == len(values)
        assert {values[place] for place in decoded.bad} == set(self.bad) & set(values)
        assert all(decoded.bad.values())

    def test_a_row_depends_on_its_own_message_alone(self, decoder: Decoder) -> None:
        """Alone, a message becomes what it becomes among others, in their order."""
        together = decoder.decode(pa.array([*self.bad, *self.good], pa.binary())).rows.to_pylist()
        assert len(together) == len(self.good)
        for value, among in zip(self.good, together, strict=True):
            (alone,) = decoder.decode(pa.array([value], pa.binary())).rows.to_pylist()
            assert alone.items() <= among.items()
            assert all(among[name] is None for name in among.keys() - alone.keys())

    def test_no_message_is_no_row(self, decoder: Decoder) -> None:
        """An empty batch is legal."""
        decoded = decoder.decode(pa.array([], pa.binary()))
        assert (decoded.rows.num_rows, dict(decoded.bad)) == (0, {})


def _values(count: int) -> list[bytes]:
    return [b"message %05d" % number for number in range(count)]


def _read(stream: Stream, count: int, *, most: int = 1000) -> list[pa.RecordBatch]:
    """Return batches of so many messages or, where that does not come out even, a few more; wait for them as long as it takes."""
    batches: list[pa.RecordBatch] = []
    end = time.monotonic() + TIMEOUT_S
    while sum(batch.num_rows for batch in batches) < count:
        assert time.monotonic() < end, f"only {sum(batch.num_rows for batch in batches)} of {count} messages came"
        batch = stream.poll(most, timeout_s=1.0)
        batches += [batch] if batch.num_rows else []
    return batches


def _contents(batches: Sequence[pa.RecordBatch]) -> list[bytes]:
    return [value for batch in batches for value in batch.column("value").to_pylist()]


def _by_partition(batches: Sequence[pa.RecordBatch]) -> dict[str, list[tuple[int, bytes]]]:
    found: dict[str, list[tuple[int, bytes]]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            found.setdefault(row["partition"], []).append((row["offset"], row["value"]))
    return found

"""Kafka as a stream, through librdkafka: partitions assigned by hand, so that no rebalance ever moves them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.data.streams.base import MESSAGES, Position, Stream, no_messages
from deepseek.data.streams.kafka_client import KafkaClient
from deepseek.errors import DataError, InputError
from deepseek.recipe.quantities import Duration

if TYPE_CHECKING:
    from confluent_kafka import Message


class KafkaStream(Stream):
    """Read topics of Kafka, or of what speaks its protocol.

    Transactions that were broken off are not read. Messages that compaction took away leave holes between the offsets, which are no loss.

    Args:
        folder: Not used.
        servers: Addresses to begin with, `HOST:PORT`, several with commas between them.
        topics: A topic, or several.
        start: Where reading begins: `earliest`, `latest`, a moment (`2026-03-01 12:00`, in UTC) or, by partition, an offset or such:
            `{clicks/0: 1200}`.
        group: A consumer group that is told how far rows are safe, so that tools see it; nothing is told where not given.
        options: More settings of librdkafka, such as `security.protocol`; passwords from the environment: `${ENV:KAFKA_PASSWORD}`.
        on_gap: What is done where the server no longer keeps messages that come next: `fail`, or `continue` with those that it keeps and
            count the others.
        patience: How long a server that does not answer is waited for.
    """

    def __init__(  # noqa: PLR0913 (a component's arguments are its schema)
        self,
        folder: Path = Path(),
        /,
        *,
        servers: str,
        topics: str | list[str],
        start: str | dict[str, int | str] = "earliest",
        group: str | None = None,
        options: dict[str, str | int | float | bool] | None = None,
        on_gap: Literal["fail", "continue"] = "fail",
        patience: Duration = 60.0,
    ) -> None:
        super().__init__(folder)
        self.topics = [topics] if isinstance(topics, str) else list(dict.fromkeys(topics))
        if not self.topics:
            raise InputError("no topic is named", hint="topics: clicks")
        self._servers, self._start, self._on_gap, self._group = servers, start, on_gap, group
        self._client = KafkaClient(servers, group, dict(options or {}), patience_s=patience)
        self._names: list[str] = []
        self._places: dict[tuple[Any, Any], int] = {}
        self._at: list[int] = []
        self._stop: list[int] | None = None
        self._dictionary = pa.array([], pa.string())
        self._one_topic = False
        self._due: DataError | None = None
        self._sent = False

    @property
    def name(self) -> str:
        """The topics and the servers."""
        return f"{', '.join(self.topics)} at {self._servers}"

    @property
    def identity(self) -> dict[str, Any]:
        """The topics, and where they begin."""
        return {"type": "kafka", "topics": self.topics, "start": self._start}

    def poll(self, max_rows: int = 10_000, *, timeout_s: float = 1.0) -> pa.RecordBatch:
        """Return the next messages of any partition."""
        if not self._names:
            self.seek({})
        if self._due is not None:
            due, self._due = self._due, None
            raise due
        end = time.monotonic() + timeout_s
        while not self.finished:
            if not self._sent:
                self._assign()
            try:
                messages = self._client.consume(max_rows, max(end - time.monotonic(), 0.0), expected=self._stop is not None)
            except DataError:
                self._sent = False  # librdkafka may have thrown messages away that were not handed out
                raise
            found = self._taken(messages)
            if found.num_rows or time.monotonic() >= end:
                return found
        return no_messages()

    def position(self) -> Position:
        """Return the next offset of each partition."""
        if not self._names:
            self.seek({})
        return dict(zip(self._names, self._at, strict=True))

    def seek(self, position: Mapping[str, int | str]) -> None:
        """Go on from these offsets."""
        self._client.unassign()
        self._sent = False
        partitions = self._client.partitions(self.topics)
        names = [f"{topic}/{number}" for topic, number in partitions]
        for name in position:
            if name not in names:
                raise DataError(f"{self.name} has no partition {name!r}", hint="the topic was made anew, or is another one")
        self._names, self._places = names, {partition: place for place, partition in enumerate(partitions)}
        self._dictionary = pa.array(names)
        self._one_topic = partitions == [(self.topics[0], number) for number in range(len(partitions))]  # its number is its place
        wanted = {name: position[name] if name in position else self._begin(name, newer=bool(position)) for name in names}
        offsets = self._client.offsets(dict(zip(names, partitions, strict=True)), wanted)
        self._at = [self._kept(partition, offsets[name]) for partition, name in zip(partitions, names, strict=True)]
        self._stop = self._due = None

    def commit(self, position: Mapping[str, int | str]) -> None:
        """Tell the group's coordinator, where a group is named."""
        if self._group is not None:
            places = {name: partition for partition, name in zip(self._places, self._names, strict=True)}
            self._client.commit({places[name]: int(offset) for name, offset in position.items()})

    def end(self, before: str | None = None) -> Position:
        """Return the high watermark of each partition, that of finished transactions; or the first offset of a moment or later."""
        if not self._names:
            self.seek({})
        partitions = dict(zip(self._names, self._places, strict=True))
        return dict(self._client.offsets(partitions, dict.fromkeys(self._names, before or "latest")))

    def stop_at(self, position: Mapping[str, int | str]) -> None:
        """Return no message at these offsets or behind them."""
        if not self._names:
            self.seek({})
        self._stop = [int(position.get(name, at)) for name, at in zip(self._names, self._at, strict=True)]
        self._sent = False

    @property
    def finished(self) -> bool:
        """Whether every message before the offsets of `stop_at` has come, or is one that there is no more."""
        return self._stop is not None and all(at >= stop for at, stop in zip(self._at, self._stop, strict=True))

    def close(self) -> None:
        """Leave the servers."""
        self._client.close()
        self._names, self._stop, self._sent = [], None, False

    def _assign(self) -> None:
        """Have everything sent from where reading stands to where it ends."""
        wanted = {
            partition: self._at[place]
            for partition, place in self._places.items()
            if self._stop is None or self._at[place] < self._stop[place]
        }
        self._client.assign(wanted)
        self._sent = True

    def _begin(self, name: str, *, newer: bool) -> int | str:
        """Return where a partition begins; one that was made after a position was kept has messages that nobody has read."""
        begin: int | str
        if not isinstance(self._start, Mapping):
            begin = self._start
        else:
            if unknown := self._start.keys() - set(self._names):
                hint = f"partitions: {', '.join(self._names[:20])}"
                raise DataError(f"start names {min(unknown)!r}, and {self.name} has no such partition", hint=hint)
            begin = self._start.get(name, "earliest")
        return "earliest" if newer and begin == "latest" else begin

    def _kept(self, partition: tuple[str, int], wanted: int) -> int:
        """Return an offset, or the earliest that is kept where it is too old."""
        low, high = self._client.watermarks(partition)
        name = f"{partition[0]}/{partition[1]}"
        if wanted > high:
            raise DataError(
                f"{name} ends at offset {high:,}, before the wanted {wanted:,}",
                hint="the topic was made anew or cut; read it into a new folder",
            )
        if wanted >= low:
            return wanted
        if self._on_gap == "fail":
            raise DataError(
                f"{name} begins at offset {low:,}, and the wanted {wanted:,} is not kept any more: {low - wanted:,} messages are missing",
                hint="on_gap: continue goes on with what is kept, and counts what is missing",
            )
        self.missing[name] = self.missing.get(name, 0) + low - wanted
        progress.warn(f"{name}: {low - wanted:,} messages from offset {wanted:,} on are not kept any more; going on at {low:,}")
        return low

    def _taken(self, messages: Sequence[Message]) -> pa.RecordBatch:
        """Return what librdkafka delivered as columns, after taking note of ends, gaps and errors among them."""
        good = [message for message in messages if message.error() is None]
        found = self._columns(good) if good else no_messages()
        if len(good) < len(messages):  # events come behind the messages that they are about
            try:
                for message in messages:
                    if message.error() is not None:
                        self._note(message)
            except DataError as error:
                if not found.num_rows:
                    raise
                self._due = error  # what came with it counts as read, and so has to be handed out first
        return found

    def _columns(self, messages: list[Message]) -> pa.RecordBatch:
        offsets = np.array([message.offset() for message in messages], dtype=np.int64)
        if self._one_topic:
            places = np.array([message.partition() for message in messages], dtype=np.int32)
        else:
            places = np.array([self._places[message.topic(), message.partition()] for message in messages], dtype=np.int32)
        return self._within(messages, places, offsets)

    def _within(self, messages: list[Message], places: np.ndarray, offsets: np.ndarray) -> pa.RecordBatch:
        """Return the messages between where reading stands and its end, and move the position behind them."""
        wanted = offsets >= np.array(self._at, dtype=np.int64)[places]
        if self._stop is not None:
            wanted &= offsets < np.array(self._stop, dtype=np.int64)[places]
        for place, offset in dict(zip(places.tolist(), offsets.tolist(), strict=True)).items():  # the last of each partition
            self._move_to(place, offset + 1)
        if not wanted.all():
            messages = [message for message, one in zip(messages, wanted.tolist(), strict=True) if one]
            places, offsets = places[wanted], offsets[wanted]
        times = np.array([message.timestamp()[1] for message in messages], dtype=np.int64)
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(places), self._dictionary),
            pa.array(offsets),
            pa.array(times, mask=times < 0).cast(MESSAGES.field("at").type),
            pa.array([message.key() for message in messages], pa.binary()),
            pa.array([message.value() for message in messages], pa.binary()),
        ]
        return pa.record_batch(columns, schema=MESSAGES)

    def _move_to(self, place: int, offset: int) -> None:
        """Have a partition stand at an offset, and send no more of it once that is its end."""
        if self._stop is not None and offset >= self._stop[place]:
            if self._at[place] < self._stop[place]:
                self._client.pause([self._partition(place)])
            offset = self._stop[place]  # what lies behind, and the event of the partition's end there, may come in the same delivery
        self._at[place] = max(self._at[place], offset)

    def _partition(self, place: int) -> tuple[str, int]:
        topic, _, number = self._names[place].rpartition("/")
        return topic, int(number)

    def _note(self, message: Message) -> None:
        """Take note of an end, go on behind a gap, or raise."""
        partition = (str(message.topic()), int(message.partition() or 0))
        what = self._client.meaning(message.error())
        if partition not in self._places or what not in ("end", "gap"):
            self._client.refuse(message.error(), f"{partition[0]}/{partition[1]}" if partition in self._places else self.name)
            return
        place = self._places[partition]
        if what == "end":  # markers of transactions and holes of compaction lie before it: nothing else comes
            self._move_to(place, int(message.offset() or 0))
        else:
            self._at[place] = self._kept(partition, self._at[place])
            self._sent = False  # the next poll has it sent from there

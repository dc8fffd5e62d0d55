"""Pulsar as a stream: one consumer a partition, and an acknowledgement only for what is safe."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from deepseek.data.streams.base import MESSAGES, Position, Stream, no_messages
from deepseek.data.streams.pulsar_ids import id_of, number_of
from deepseek.data.streams.pulsar_library import pulsar_library
from deepseek.errors import DataError, InputError, MissingExtraError
from deepseek.recipe.quantities import Duration

if TYPE_CHECKING:
    import pulsar

_SLICE_MS = 5
_HINTS = {
    "ConnectError": "is the broker running, and is the address right?",
    "Timeout": "is the broker running, and is the address right?",
    "LookupError": "is the broker running, and is the address right?",
    "AuthenticationError": "check the variable that holds the token",
    "AuthorizationError": "this token may not read the topic",
    "TopicNotFound": "check the topic: persistent://TENANT/NAMESPACE/NAME",
    "ConsumerBusy": "another process reads with this subscription: stop it, or name another one under subscription",
}


class PulsarStream(Stream):
    """Read topics of Pulsar with a durable subscription of one's own, which keeps what is not safe yet.

    What is acknowledged is what `commit` was given, no more. Messages that the broker sends again are told by their ids and come once.

    Args:
        folder: Not used.
        url: The address, `pulsar://HOST:PORT` or `pulsar+ssl://HOST:PORT`.
        topics: A topic, or several; partitioned ones are read partition by partition.
        subscription: Its name; what is read twice for different ends needs two.
        start: Where reading begins.
        token: A token, from the environment: `${ENV:PULSAR_TOKEN}`.
        trust_certs: A file of certificates that are trusted.
        patience: How long a broker that does not answer is waited for.
    """

    def __init__(  # noqa: PLR0913 (a component's arguments are its schema)
        self,
        folder: Path = Path(),
        /,
        *,
        url: str,
        topics: str | list[str],
        subscription: str = "deepseek",
        start: Literal["earliest", "latest"] = "earliest",
        token: str | None = None,
        trust_certs: str | None = None,
        patience: Duration = 60.0,
    ) -> None:
        super().__init__(folder)
        self.topics = [topics] if isinstance(topics, str) else list(dict.fromkeys(topics))
        if not self.topics:
            raise InputError("no topic is named", hint="topics: persistent://public/default/clicks")
        self._url, self._subscription, self._start = url, subscription, start
        self._token, self._trust_certs, self._patience_s = token, trust_certs, patience
        self._client: pulsar.Client | None = None
        self._consumers: dict[str, pulsar.Consumer] = {}
        self._at: dict[str, int] = {}
        self._stop: dict[str, int] | None = None
        self._seen: dict[str, list[tuple[int, Any]]] = {}
        self._behind: dict[str, Any] = {}
        self._due: DataError | None = None
        self._silent_s = 0.0

    @property
    def name(self) -> str:
        """The topics and the address."""
        return f"{', '.join(self.topics)} at {self._url}"

    @property
    def identity(self) -> dict[str, Any]:
        """The topics, and where they begin."""
        return {"type": "pulsar", "topics": self.topics, "start": self._start}

    def poll(self, max_rows: int = 10_000, *, timeout_s: float = 1.0) -> pa.RecordBatch:
        """Return the next messages of any partition."""
        self._open()
        end, rows = time.monotonic() + timeout_s, list[tuple[str, int, Any]]()
        began = time.monotonic()
        while not self.finished and self._due is None:
            for partition in self._consumers:
                if self._due is None and (self._stop is None or self._at[partition] < self._stop[partition]):
                    rows += self._received(partition, max_rows - len(rows))
            if rows or time.monotonic() >= end:
                break
        if self._due is not None and not rows:  # what came before it counts as read, and so has to be handed out first
            due, self._due = self._due, None
            raise due
        if rows or self._stop is None:
            self._silent_s = 0.0
        elif not self.finished:
            self._silent_s += time.monotonic() - began
            if self._silent_s > self._patience_s:
                raise DataError(
                    f"{self.name}: nothing came for {self._patience_s:g} s, and messages are still to come",
                    hint="is the broker running? what was read so far is kept",
                )
        return self._batch(rows)

    def position(self) -> Position:
        """Return the number behind the last message of each partition."""
        self._open()
        return dict(self._at)

    def seek(self, position: Mapping[str, int | str]) -> None:
        """Have the broker send what comes behind these numbers."""
        self._open()
        for partition in position:
            if partition not in self._consumers:
                raise DataError(f"{self.name} has no partition {partition!r}", hint="the topic was made anew, or is another one")
        for partition, consumer in self._consumers.items():
            at = int(position.get(partition, 0))
            with self._talking(partition):
                if not position and self._start == "latest":  # of what a position names as 0, or not at all, nothing was read yet
                    at = number_of(consumer.get_last_message_id())
                consumer.seek(id_of(at))
            self._at[partition] = at
        self._stop = self._due = None
        self._seen, self._behind = {partition: [] for partition in self._consumers}, {}

    def commit(self, position: Mapping[str, int | str]) -> None:
        """Acknowledge, partition by partition, everything up to the last message before the position."""
        self._open()
        for partition, number in position.items():
            safe = [one for one in self._seen[partition] if one[0] <= int(number)]
            if safe:
                with self._talking(partition):
                    self._consumers[partition].acknowledge_cumulative(safe[-1][1])
                self._seen[partition] = [one for one in self._seen[partition] if one[0] > int(number)]

    def end(self, before: str | None = None) -> Position:
        """Return the number behind the last message that each partition holds."""
        if before is not None:
            raise InputError(f"until is {before!r}, and Pulsar's ids are not found by time", hint="until: now")
        self._open()
        found: Position = {}
        for partition, consumer in self._consumers.items():
            with self._talking(partition):
                found[partition] = max(number_of(consumer.get_last_message_id()), self._at[partition])
        return found

    def stop_at(self, position: Mapping[str, int | str]) -> None:
        """Return no message behind these numbers."""
        self._open()
        self._stop = {partition: int(position.get(partition, at)) for partition, at in self._at.items()}

    @property
    def finished(self) -> bool:
        """Whether every message before the numbers of `stop_at` has come."""
        return self._stop is not None and all(self._at[partition] >= stop for partition, stop in self._stop.items())

    def close(self) -> None:
        """Leave the broker; what was not acknowledged stays with the subscription."""
        if self._client is not None:
            with self._talking(self.name):
                self._client.close()
        self._client, self._consumers, self._at, self._stop = None, {}, {}, None
        self._behind, self._due = {}, None

    def _open(self) -> None:
        if self._consumers:
            return
        client, pulsar = self._connected(), pulsar_library()
        names = []
        for topic in self.topics:
            with self._talking(topic):
                names += client.get_topic_partitions(topic)
        for name in names:
            with self._talking(name):
                self._consumers[name] = client.subscribe(
                    name,
                    self._subscription,
                    consumer_type=pulsar.ConsumerType.Exclusive,  # cumulative acknowledgement needs one reader
                    initial_position=pulsar.InitialPosition.Earliest,
                )
        self._at = dict.fromkeys(self._consumers, 0)
        self.seek({})

    def _connected(self) -> pulsar.Client:
        if self._client is None:
            try:
                pulsar = pulsar_library()
            except ImportError:
                raise MissingExtraError("pulsar", "stream", "reading from Pulsar") from None
            with self._talking(self._url):
                self._client = pulsar.Client(
                    self._url,
                    authentication=None if self._token is None else pulsar.AuthenticationToken(self._token),
                    operation_timeout_seconds=math.ceil(self._patience_s),
                    connection_timeout_ms=math.ceil(min(self._patience_s, 10.0) * 1000),
                    tls_trust_certs_file_path=self._trust_certs,
                    logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull),
                )
        return self._client

    def _received(self, partition: str, most: int) -> list[tuple[str, int, Any]]:
        """Return what one partition has ready, once each and up to its bound."""
        pulsar = pulsar_library()
        found = list[tuple[str, int, Any]]()
        stop = None if self._stop is None else self._stop[partition]
        while len(found) < most and (stop is None or self._at[partition] < stop):
            try:
                message = self._behind.pop(partition, None) or self._consumers[partition].receive(_SLICE_MS)
                number = number_of(message.message_id())
            except pulsar.Timeout:
                break
            except pulsar.PulsarException as error:
                self._due = self._refused(error, partition)
                break
            except DataError as error:
                self._due = error
                break
            if number <= self._at[partition]:  # the broker sends again what was not acknowledged, though it is safe
                self._seen[partition].append((number, message.message_id()))
                continue
            if stop is not None and number > stop:
                self._at[partition] = stop  # nothing of before is left: this one waits, unacknowledged, for a later bound
                self._behind[partition] = message
                break
            self._at[partition] = number
            found.append((partition, number, message))
        if found:
            self._seen[partition].append((found[-1][1], found[-1][2].message_id()))
        return found

    def _batch(self, rows: list[tuple[str, int, Any]]) -> pa.RecordBatch:
        if not rows:
            return no_messages()
        names = list(self._consumers)
        places = {name: place for place, name in enumerate(names)}
        indices = pa.array([places[partition] for partition, _, _ in rows], pa.int32())
        columns = [
            pa.DictionaryArray.from_arrays(indices, pa.array(names)),
            pa.array([number for _, number, _ in rows], pa.int64()),
            pa.array([message.publish_timestamp() or None for _, _, message in rows], pa.int64()).cast(MESSAGES.field("at").type),
            pa.array([message.partition_key().encode() or None for _, _, message in rows], pa.binary()),
            pa.array([None if message.has_null_value() else message.data() for _, _, message in rows], pa.binary()),
        ]
        return pa.record_batch(columns, schema=MESSAGES)

    @contextmanager
    def _talking(self, where: str) -> Iterator[None]:
        """Turn what the client raises into errors that say what to do."""
        pulsar = pulsar_library()
        try:
            yield
        except pulsar.PulsarException as error:
            raise self._refused(error, where) from None
        except (ValueError, RuntimeError) as error:  # the client's own checks
            raise self._refused(error, where) from None

    def _refused(self, error: Exception, where: str) -> DataError:
        said = str(error) or type(error).__name__
        if self._token:
            said = said.replace(self._token, "***")
        return DataError(f"{where} cannot be read ({self._url}): {said}", hint=_HINTS.get(type(error).__name__))

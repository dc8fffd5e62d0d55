"""librdkafka's consumer: what is asked of it again where a server is away, and its errors in words that say what to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pyarrow as pa

from deepseek import progress
from deepseek.data.streams.waiting import Patience
from deepseek.data.timestamps import read_timestamps
from deepseek.errors import DataError, InputError, MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

_T = TypeVar("_T")
Partition = tuple[str, int]

_ASK_S = 5.0
_SLICE_S, _LINGER_S = 0.25, 0.02
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
_OURS = {
    "bootstrap.servers": "servers", "group.id": "group", "auto.offset.reset": "on_gap", "enable.auto.commit": None,
    "enable.auto.offset.store": None, "enable.partition.eof": None,
}  # fmt: skip
"""Settings of librdkafka that are the stream's own, and the keys that stand for them."""
_SECRET = ("password", "secret", "token", ".pem", "jaas", "userinfo")


class KafkaClient:
    """A consumer of partitions that are assigned by hand.

    Args:
        servers: Addresses to begin with.
        group: The group that is told how far rows are safe, or nothing.
        options: More settings of librdkafka.
        patience_s: How long a server that does not answer is asked again.
    """

    def __init__(self, servers: str, group: str | None, options: Mapping[str, Any], *, patience_s: float) -> None:
        for key in options:
            if key in _OURS:
                hint = f"say {_OURS[key]} beside options" if _OURS[key] else "leave it out: it is what makes reading exact"
                raise InputError(f"options sets {key!r}, which is the stream's own affair", hint=hint)
        self._servers, self._group, self._options = servers, group, options
        self._patience_s, self._silent_s = patience_s, 0.0
        self._assigned = False
        self._trouble: str | None = None
        self._consumer: Consumer | None = None

    @property
    def consumer(self) -> Consumer:
        """The consumer; made when it is first asked for.

        Raises:
            InputError: A setting is wrong.
            MissingExtraError: The client is not installed.
        """
        if self._consumer is None:
            try:
                from confluent_kafka import Consumer, KafkaException
            except ImportError:
                raise MissingExtraError("confluent_kafka", "stream", "reading from Kafka") from None
            quiet = logging.getLogger("deepseek.kafka")
            quiet.setLevel(logging.CRITICAL)
            settings = {
                "bootstrap.servers": self._servers,
                "group.id": self._group or "deepseek",  # librdkafka wants one; nothing is committed to it unless it was named
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 20,  # by default, a queue that was full is left alone for a second
                "max.poll.interval.ms": 86_400_000,
                **self._options,
                "error_cb": self._hear,
            }
            try:
                self._consumer = Consumer(settings, logger=quiet)
            except KafkaException as error:
                raise InputError(
                    f"librdkafka refuses the settings: {self._scrub(str(error.args[0]))}",
                    hint="see options, and librdkafka's CONFIGURATION.md",
                ) from None
        return self._consumer

    def partitions(self, topics: Sequence[str]) -> list[Partition]:
        """Return the partitions of topics, sorted.

        Raises:
            UnknownNameError: There is no such topic.
            DataError: The servers cannot be reached, or refuse.
        """
        found: list[Partition] = []
        for topic in topics:
            about = self._asked(partial(self._about, topic))
            found += [(topic, number) for number in sorted(about.partitions)]
        return found

    def watermarks(self, partition: Partition) -> tuple[int, int]:
        """Return the first offset that is kept, and the one behind the last finished message."""
        low, high = self._asked(
            lambda: self.consumer.get_watermark_offsets(_place(partition), timeout=_ASK_S, cached=False) or _no_answer()
        )
        return int(low), int(high)

    def offsets(self, partitions: Mapping[str, Partition], wanted: Mapping[str, int | str]) -> dict[str, int]:
        """Return numbers for `earliest`, `latest` and moments; numbers stay what they are.

        Args:
            partitions: By name.
            wanted: By name of the partition, an offset or one of these.

        Raises:
            InputError: It is none.
        """
        found: dict[str, int] = {}
        for name, one in wanted.items():
            if isinstance(one, int):
                found[name] = one
            elif one in ("earliest", "latest"):
                found[name] = self.watermarks(partitions[name])[one == "latest"]
            else:
                asked = [_place(partitions[name], moment_ms(one))]
                (place,) = self._asked(partial(self.consumer.offsets_for_times, asked, timeout=_ASK_S))
                found[name] = place.offset if place.offset >= 0 else self.watermarks(partitions[name])[1]
        return found

    def assign(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on."""
        places = [_place(partition, offset) for partition, offset in offsets.items()]
        self.consumer.assign(places)
        self.consumer.resume(places)  # of those before, some may have been paused
        self._assigned, self._silent_s = True, 0.0

    def unassign(self) -> None:
        """Have nothing sent: a request behind a fetch on the same connection waits for as long as that finds nothing."""
        if self._assigned:
            self.consumer.unassign()
            self._assigned = False

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Have nothing more sent of these partitions."""
        places = [_place(partition) for partition in partitions]
        if places:
            self.consumer.pause(places)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the group's coordinator, and wait until it knows."""
        places = [_place(partition, offset) for partition, offset in offsets.items()]
        self._asked(lambda: self.consumer.commit(offsets=places, asynchronous=False))

    def consume(self, most: int, timeout_s: float, *, expected: bool) -> list[Message]:
        """Return what has come: messages, and events in the form of messages with an error.

        Args:
            most: At most so many.
            timeout_s: How long to wait for the first.
            expected: Whether there is something that has to come.

        Raises:
            DataError: The servers are away for longer than patience lasts, or refuse.
        """
        from confluent_kafka import KafkaException

        began = time.monotonic()
        try:
            messages = self._waited_for(most, timeout_s, linger_s=_LINGER_S if expected else 0.0)
        except KafkaException as error:
            raise self._refused(error.args[0], self._servers) from None
        if messages:
            self._trouble, self._silent_s = None, 0.0
        elif expected or self._trouble:  # where nothing is due, silence is no trouble
            self._silent_s += time.monotonic() - began
            if self._silent_s > self._patience_s:
                said = self._trouble or f"nothing came for {self._patience_s:g} s, and messages are still to come"
                raise DataError(
                    f"{self._servers} cannot be read from: {said}", hint="are the servers running? what was read so far is kept"
                )
        return messages

    def _waited_for(self, most: int, timeout_s: float, *, linger_s: float) -> list[Message]:
        """Return what is there or, after waiting, the first that comes; librdkafka itself would wait for as many as asked for."""
        messages: list[Message] = self.consumer.consume(most, min(timeout_s, linger_s))
        return messages or list(self.consumer.consume(1, min(timeout_s, _SLICE_S)))

    def meaning(self, error: KafkaError | None) -> Literal["end", "gap", "passing", "other"]:
        """Say what an event means."""
        from confluent_kafka import KafkaError as Codes

        if error is None:
            return "other"
        if error.code() == Codes._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own errors are spelled so
            return "end"
        if error.code() in (Codes._AUTO_OFFSET_RESET, Codes.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            return "gap"
        return "passing" if error.code() in _passing() else "other"

    def refuse(self, error: KafkaError | None, where: str) -> None:
        """Raise what an event says, unless librdkafka tries again by itself."""
        if error is not None and self.meaning(error) != "passing":
            raise self._refused(error, where)
        self._trouble = self._scrub(error.str() if error is not None else "")

    def close(self) -> None:
        """Leave the servers."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer, self._assigned = None, False

    def _about(self, topic: str) -> Any:
        from confluent_kafka import KafkaError as Codes
        from confluent_kafka import KafkaException

        about = self.consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
        if about.error is None:
            return about
        if about.error.code() in (Codes.UNKNOWN_TOPIC_OR_PART, Codes._UNKNOWN_TOPIC):  # noqa: SLF001
            known = sorted(name for name in self.consumer.list_topics(timeout=_ASK_S).topics if not name.startswith("__"))
            raise UnknownNameError(f"topic of {self._servers}", topic, known[:50])
        raise KafkaException(about.error)

    def _asked(self, work: Callable[[], _T]) -> _T:
        """Ask the servers, again where they are away; what they refuse is raised."""
        from confluent_kafka import KafkaException

        patience, wait_s, told = Patience(self._patience_s), _FIRST_WAIT_S, False
        while True:
            try:
                return work()
            except KafkaException as error:
                if self.meaning(error.args[0]) != "passing":
                    raise self._refused(error.args[0], self._servers) from None
                said = self._trouble or self._scrub(error.args[0].str())
            if not self._assigned:  # it would take a message; before there is any, it lets the callback hear of refused passwords
                self.consumer.poll(0)
            if not patience.wait(wait_s):
                raise DataError(f"{self._servers} cannot be reached: {said}", hint="are the servers running, and is the address right?")
            if not told:
                progress.log(f"{self._servers} does not answer; trying again for {self._patience_s:g} s")
                told = True
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _hear(self, error: KafkaError) -> None:
        """Take note of what librdkafka says of its connections."""
        from confluent_kafka import KafkaError as Codes

        if error.code() in (Codes._AUTHENTICATION, Codes._SSL, Codes.SASL_AUTHENTICATION_FAILED) or error.fatal():  # noqa: SLF001
            raise self._refused(error, self._servers)
        self._trouble = self._scrub(error.str())

    def _refused(self, error: KafkaError, where: str) -> DataError:
        from confluent_kafka import KafkaError as Codes

        hints = {
            Codes._AUTHENTICATION: "check the user, and the variable that holds the password",  # noqa: SLF001
            Codes.SASL_AUTHENTICATION_FAILED: "check the user, and the variable that holds the password",
            Codes._SSL: "check security.protocol, ssl.ca.location and the certificates under options",  # noqa: SLF001
            Codes.TOPIC_AUTHORIZATION_FAILED: "this user may not read the topic",
            Codes.GROUP_AUTHORIZATION_FAILED: "this user may not use the group",
            Codes._UNKNOWN_PARTITION: "the topic was deleted, or made anew with fewer partitions",  # noqa: SLF001
            Codes.UNKNOWN_TOPIC_OR_PART: "the topic was deleted",
        }
        return DataError(f"{where} cannot be read: {self._scrub(error.str())}", hint=hints.get(error.code()))

    def _scrub(self, text: str) -> str:
        """Return librdkafka's words without the settings that are secret."""
        for key, value in self._options.items():
            if value and any(word in key for word in _SECRET):
                text = text.replace(str(value), "***")
        return text


def moment_ms(text: str) -> int:
    """Return a moment as milliseconds since 1970.

    Raises:
        InputError: It is none.
    """
    moment = read_timestamps(pa.array([text]))[0].as_py()
    if moment is None:
        raise InputError(f"{text!r} is no moment", hint="write one as 2026-03-01 12:00, in UTC; or earliest, latest, an offset")
    return round(float(moment.replace(tzinfo=UTC).timestamp()) * 1000)


def _place(partition: Partition, offset: int | None = None) -> TopicPartition:
    from confluent_kafka import TopicPartition

    return TopicPartition(*partition) if offset is None else TopicPartition(*partition, offset)


def _no_answer() -> tuple[int, int]:
    from confluent_kafka import KafkaError, KafkaException

    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001


def _passing() -> set[int]:
    """Return the errors that go by themselves: a server is away, starting, or another one leads now."""
    from confluent_kafka import KafkaError as Codes

    return {
        Codes._TRANSPORT, Codes._ALL_BROKERS_DOWN, Codes._TIMED_OUT, Codes._RESOLVE, Codes._TIMED_OUT_QUEUE, Codes._WAIT_COORD,  # noqa: SLF001
        Codes._IN_PROGRESS, Codes._MSG_TIMED_OUT, Codes._NODE_UPDATE, Codes._RETRY, Codes._WAIT_CACHE,  # noqa: SLF001
        Codes.LEADER_NOT_AVAILABLE, Codes.NOT_LEADER_FOR_PARTITION, Codes.REQUEST_TIMED_OUT, Codes.BROKER_NOT_AVAILABLE,
        Codes.REPLICA_NOT_AVAILABLE, Codes.NETWORK_EXCEPTION, Codes.COORDINATOR_LOAD_IN_PROGRESS, Codes.COORDINATOR_NOT_AVAILABLE,
        Codes.NOT_COORDINATOR, Codes.UNKNOWN_LEADER_EPOCH, Codes.FENCED_LEADER_EPOCH, Codes.OFFSET_NOT_AVAILABLE, Codes.KAFKA_STORAGE_ERROR,
        Codes.THROTTLING_QUOTA_EXCEEDED,
    }  # fmt: skip

"""Streams as sources: a bounded snapshot of their messages in a folder is what is read; learners may have the stream itself."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import pyarrow as pa
from annotated_types import Ge, Le

from deepseek import progress
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver
from deepseek.data.streams.base import Stream
from deepseek.data.streams.decoders import Decoder
from deepseek.data.streams.kafka import KafkaStream
from deepseek.data.streams.manifest import Manifest
from deepseek.data.streams.pulsar import PulsarStream
from deepseek.data.streams.reading import SnapshotRows
from deepseek.data.streams.snapshot import SnapshotPlan, take_snapshot
from deepseek.errors import DataError
from deepseek.recipe.quantities import Size
from deepseek.registry import ArgumentsOf, component, family

if TYPE_CHECKING:
    import pyarrow.compute as pc

    DecoderSpec = dict[str, Any] | str
    StreamSpec = dict[str, Any]
else:
    DecoderSpec = component("decoder")
    StreamSpec = component("stream")

Bound = str | dict[str, int]
Count = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0), Le(1)]


class SnapshotSource(Source):
    """Read a stream as a snapshot: taken when it is first read, and taken further by `deepseek snapshot` alone.

    Args:
        folder: What relative paths are relative to.
        stream: The stream's spec.
        path: The folder of the snapshot.
        decoder: What a message becomes: `json`, `text`, `raw`, or a plugin of the family `decoder`.
        until: Where a snapshot ends: `now`, a moment (`2026-03-01 12:00`, in UTC), or an offset by partition.
        limit: The most messages that are read at a time.
        version: The version to read; the last one where not given.
        places: Whether `_partition` and `_offset` are columns.
        max_message: The most bytes of a message; a larger one is set aside.
        max_rejected: The share of messages, 0 to 1, that may be set aside before a snapshot stops.
    """

    def __init__(  # noqa: PLR0913 (a component's arguments are its schema)
        self,
        folder: Path,
        stream: Mapping[str, Any],
        /,
        *,
        path: str,
        decoder: DecoderSpec = "json",
        until: Bound = "now",
        limit: Count | None = None,
        version: Count | None = None,
        places: bool = False,
        max_message: Size = 1_000_000,
        max_rejected: Share = 0.5,
    ) -> None:
        super().__init__(folder)
        self.path = (self.folder / Path(path).expanduser()).absolute()
        self.max_message, self._version, self._places = max_message, version, places
        self._stream_spec, self._decoder_spec = stream, family("decoder").validate(decoder)
        self._plan = SnapshotPlan(
            self.path, self._decoder_spec, until=until, limit=limit, max_message=max_message, max_rejected=max_rejected
        )
        self._texts: frozenset[str] = frozenset()

    def open_stream(self) -> Stream:
        """Return the stream itself, for whoever reads messages as they come."""
        stream: Stream = family("stream").build(self._stream_spec, self.folder)
        return stream

    def decoder(self) -> Decoder:
        """Return what turns its messages into rows."""
        decoder: Decoder = family("decoder").build(self._decoder_spec)
        return decoder

    def take(self) -> Manifest:
        """Take the snapshot further, up to its bound, and return what the folder holds then.

        Raises:
            DataError: The stream cannot be read, or no longer keeps what comes next.
            InputError: The folder holds another stream, or another process writes to it.
        """
        with self.open_stream() as stream:
            manifest = take_snapshot(stream, self.decoder(), self._plan)
        self.__dict__.pop("_rows", None)
        return manifest

    def messages(self) -> int:
        """Return how many messages the folder holds, as rows or set aside."""
        manifest = Manifest.read(self.path)
        return 0 if manifest is None else sum(part.rows + part.rejected for part in manifest.parts)

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        if not any("rows" in part.files for part in self._rows.manifest.parts):
            raise DataError(f"the snapshot {str(self.path)!r} holds no rows", hint="no message was there, or none could be decoded")
        return self._rows.schema

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows, partition after partition (see `Source.read`)."""
        wanted = check_request(self.schema(), columns, batch_rows)
        batches = self._rows.batches(None if where is not None else wanted, batch_rows=batch_rows)
        return deliver(batches, columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str:
        """Return what names every part of the version, by what it holds."""
        return self._rows.manifest.chain

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the messages that became no rows; `line` is the offset, the reason begins with the partition."""
        return self._rows.rejects()

    def as_text(self, columns: Collection[str]) -> Self:
        """Return a source that reads these columns as text; lists stay what they are."""
        again = copy.copy(self)
        again.__dict__.pop("_rows", None)
        again._texts = frozenset(columns)  # noqa: SLF001 - a copy of itself
        return again

    @cached_property
    def _rows(self) -> SnapshotRows:
        manifest = Manifest.read(self.path)
        if manifest is None or not manifest.versions:
            progress.log(f"there is no snapshot in {self.path} yet: it is taken now")
            manifest = self.take()
        state = manifest.up_to(self._version)
        return SnapshotRows(self.path, state, places=self._places, texts=self._texts)


SnapshotArguments = Annotated[Any, ArgumentsOf(SnapshotSource)]
KafkaArguments = Annotated[Any, ArgumentsOf(KafkaStream, SnapshotSource)]
PulsarArguments = Annotated[Any, ArgumentsOf(PulsarStream, SnapshotSource)]


class StreamSource(SnapshotSource):
    """Read a stream, of any kind, as a snapshot: taken when it is first read, and taken further by `deepseek snapshot` alone.

    Args:
        folder: What relative paths are relative to.
        stream: The stream, such as `{type: lines, path: events.jsonl}`.
    """

    def __init__(self, folder: Path = Path(), /, *, stream: StreamSpec, **snapshot: SnapshotArguments) -> None:
        super().__init__(folder, stream, **snapshot)


class KafkaSource(SnapshotSource):
    """Read topics of Kafka as a snapshot in a folder: taken when it is first read, and taken further by `deepseek snapshot` alone.

    Every message before the bound becomes a row or is set aside, exactly once, whatever is killed on the way. Rows come partition after
    partition, by offset.

    Args:
        folder: What relative paths are relative to.
        arguments: Those of the stream `kafka`, and those of a snapshot.
        until: Where a snapshot ends: `now`, a moment, or an offset by partition (`{clicks/0: 1200}`); other partitions are read up to now.
    """

    def __init__(self, folder: Path = Path(), /, **arguments: KafkaArguments) -> None:
        stream, snapshot = _parted("kafka", arguments)
        super().__init__(folder, stream, **snapshot)


class PulsarSource(SnapshotSource):
    """Read topics of Pulsar as a snapshot in a folder: taken when it is first read, and taken further by `deepseek snapshot` alone.

    Messages are acknowledged once they are in the folder. What was tested against no broker is said in the guide.

    Args:
        folder: What relative paths are relative to.
        arguments: Those of the stream `pulsar`, and those of a snapshot.
        subscription: The name of the subscription that keeps what is not safe yet; each folder needs its own.
        until: Where a snapshot ends: `now`, or a number by partition.
    """

    def __init__(self, folder: Path = Path(), /, **arguments: PulsarArguments) -> None:
        stream, snapshot = _parted("pulsar", arguments)
        super().__init__(folder, stream, **snapshot)


def _parted(kind: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the spec of a stream of some kind, and what is left for the snapshot."""
    streams = family("stream")
    own = streams.schema(kind).model_fields
    spec = streams.validate({"type": kind, **{key: value for key, value in arguments.items() if key in own}})
    return spec, {key: value for key, value in arguments.items() if key not in own}

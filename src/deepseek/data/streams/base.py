"""The contract of every stream: where messages come from that nobody has counted yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

Position = dict[str, int | str]
"""Where reading stands: by partition, what `Stream.seek` goes on from. Plain JSON; what a value means is the stream's own affair."""

MESSAGES = pa.schema([
    ("partition", pa.dictionary(pa.int32(), pa.string())), ("offset", pa.int64()), ("at", pa.timestamp("ms", "UTC")), ("key", pa.binary()),
    ("value", pa.binary()),
])  # fmt: skip
"""What `Stream.poll` returns: the partition and the place in it, when it was written (nothing where that is unknown), key and content."""


class Stream(ABC):
    """Messages in partitions, each in order, read from any position as often as one likes for as long as they are kept.

    A message is named by its partition and its offset, which never change and grow within a partition; between partitions there is no
    order. A stream decodes nothing: a message is bytes, and one without content (a tombstone) is null.

    A stream is opened when it is first asked for something, and belongs to one thread at a time.

    Args:
        folder: What relative paths are relative to; the folder of the recipe.
    """

    def __init__(self, folder: Path = Path(), /) -> None:
        self.folder = Path(folder)
        self.missing: dict[str, int] = {}
        """By partition, messages that were asked for and are no longer kept; only where the stream is told to go on without them."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What is read and from where, for people: without a password."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What makes messages these messages, as plain JSON: a snapshot goes on only where it is the same. No addresses, no secrets."""

    @abstractmethod
    def poll(self, max_rows: int = 10_000, *, timeout_s: float = 1.0) -> pa.RecordBatch:
        """Return the next messages, as `MESSAGES`; none where nothing came in time.

        Args:
            max_rows: The most messages, 1 or more.
            timeout_s: How long to wait for the first of them, in seconds, 0 or more.

        Raises:
            DataError: The server cannot be reached, refuses, or no longer keeps what comes next.
        """

    @abstractmethod
    def position(self) -> Position:
        """Return where reading stands, behind the last message that `poll` returned, in every partition that there is."""

    @abstractmethod
    def seek(self, position: Mapping[str, int | str]) -> None:
        """Go on from a position; where it is empty, partitions begin where the stream is told to start.

        Those that a position does not name were made after it: of them everything is read, also where the start is `latest`.

        Raises:
            DataError: The stream has no such partition, or does not keep what comes next there.
        """

    @abstractmethod
    def commit(self, position: Mapping[str, int | str]) -> None:
        """Tell the server that everything before a position is safe; where the server keeps no account, nothing is done."""

    @abstractmethod
    def end(self, before: str | None = None) -> Position:
        """Return the position behind the last message that there is now, in every partition.

        Args:
            before: A moment: the position of the first message that was written then or later.

        Raises:
            InputError: It is no moment, or messages bear no times here.
        """

    @abstractmethod
    def stop_at(self, position: Mapping[str, int | str]) -> None:
        """Have `poll` return nothing from this position on; partitions that it does not name are at their end already."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether everything before the position of `stop_at` has come."""

    def close(self) -> None:
        """Let go of connections and files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def no_messages() -> pa.RecordBatch:
    """Return a batch of no messages."""
    return pa.RecordBatch.from_pylist([], MESSAGES)

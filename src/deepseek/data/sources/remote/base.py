"""What can be fetched: the contract between the cache and those who speak to servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class DroppedError(Exception):
    """A connection broke off, or a server is busy: another try may go further.

    Args:
        why: What happened.
        afresh: Whether the next try has to begin with the first byte.
    """

    def __init__(self, why: str, *, afresh: bool = False) -> None:
        super().__init__(why)
        self.afresh = afresh


class Stream(Protocol):
    """Bytes to be read from their beginning."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to so many bytes; none at the end."""

    def close(self) -> None:
        """Let the connection go."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A content that is being read.

    Attributes:
        stream: Its bytes, from `start` on.
        start: Which byte comes first; 0 where the server could not begin where it was asked to.
        size_bytes: How long the whole is.
        validator: What changes when the content does, or nothing where the server says nothing of the kind; without it, a content that
            broke off is begun anew.
    """

    stream: Stream
    start: int
    size_bytes: int | None
    validator: str | None


class Remote(Protocol):
    """One content that is elsewhere."""

    url: str

    def open(self, *, start: int, validator: str | None, cached: str | None) -> Opened | None:
        """Begin to read.

        Args:
            start: How many bytes are there already, of the content that `validator` stands for.
            validator: As `Opened` gave it when these were read.
            cached: The validator of what is cached.

        Returns:
            The content; nothing where it is what is cached.

        Raises:
            DroppedError: Another try may succeed.
            DataError: None will.
        """

    def unchanged(self, validator: str | None) -> bool:
        """Say, after the last byte, whether what was read is one content and not pieces of two."""

"""Streams: messages that keep coming, read from a position that is kept; decoders, and snapshots of them as datasets."""

from deepseek.data.streams.base import MESSAGES, Position, Stream

__all__ = ["MESSAGES", "Position", "Stream"]

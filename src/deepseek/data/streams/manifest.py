"""The folder of a snapshot: parts in Parquet, and the manifest that says which count and where in the stream they end.

```text
FOLDER/snapshot.json                      what was read, the parts that count, the versions; replaced whole
FOLDER/parts/00000001.rows.parquet        rows, a group of them a partition, with the partition and the offset of each
FOLDER/parts/00000001.rejects.parquet     messages that could not be decoded, as they came, with the reason
FOLDER/lock                               held by the one process that writes
```

Nothing is ever changed or taken away: version 2 begins with the parts of version 1, and each can be read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deepseek.artifacts.files import read_json, write_json
from deepseek.data.streams.base import Position
from deepseek.errors import DataError

FORMAT = 1
SNAPSHOT = "snapshot.json"
PARTS = "parts"
PARTITION, OFFSET, AT, KEY = "_partition", "_offset", "_at", "_key"
"""The columns that a snapshot adds to what messages hold: where each stood, when it was written, and its key."""

PartFile = Literal["rows", "rejects"]


@dataclass(frozen=True)
class Part:
    """Messages that were read one after the other, in files that never change.

    Attributes:
        number: Its name, from 1.
        rows: How many messages became rows.
        rejected: How many were set aside.
        missing: By partition, messages before these that the server no longer kept.
        position: Where the stream stood behind them.
        chain: What names every part up to this one.
        files: By kind, each file's name, size and SHA-256.
    """

    number: int
    rows: int
    rejected: int
    missing: dict[str, int]
    position: Position
    chain: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A state that was complete.

    Attributes:
        number: From 1.
        parts: How many parts it has.
        taken: When, in seconds since 1970.
        position: Where it ends in the stream.
    """

    number: int
    parts: int
    taken: float
    position: Position


@dataclass(frozen=True)
class Manifest:
    """What a folder holds.

    Attributes:
        stream: What is read and how it is decoded, without secrets: a folder holds one stream.
        parts: The parts that count, in order.
        versions: The states that were complete, in order.
        goal: Where the version that is being made is to end, or nothing where none is.
        begin: Where the first version began; nothing in folders that were begun before this was kept.
    """

    stream: dict[str, Any]
    parts: tuple[Part, ...] = ()
    versions: tuple[Version, ...] = ()
    goal: Position | None = None
    begin: Position | None = None

    @property
    def position(self) -> Position:
        """Where reading goes on."""
        reached = self.parts[-1].position if self.parts else {}
        return reached | (self.versions[-1].position if self.versions and self.versions[-1].parts == len(self.parts) else {})

    @property
    def chain(self) -> str:
        """What names every part so far."""
        return self.parts[-1].chain if self.parts else first_chain(self.stream)

    @staticmethod
    def there(folder: Path) -> bool:
        """Whether a folder holds a snapshot."""
        return (folder / SNAPSHOT).is_file()

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """Return what a folder holds, or nothing where there is no snapshot in it.

        Raises:
            BundleError: The manifest is damaged.
            DataError: It was written by a newer version.
        """
        path = folder / SNAPSHOT
        if not cls.there(folder):
            return None
        value = read_json(path)
        if value.get("format") != FORMAT:
            raise DataError(f"{path} has the format {value.get('format')}; this version reads {FORMAT}", hint="update deepseek-framework")
        parts = tuple(Part(**part) for part in value["parts"])
        versions = tuple(Version(**one) for one in value["versions"])
        return cls(value["stream"], parts, versions, value["goal"], value.get("begin"))

    def write(self, folder: Path) -> None:
        """Replace the folder's manifest, durably, in one step.

        Raises:
            RunError: The disk refuses.
        """
        value = asdict(self)
        write_json(folder / SNAPSHOT, {"format": FORMAT, **value})

    def up_to(self, version: int | None) -> Manifest:
        """Return the manifest as it was at a version; the last complete one where not given.

        Raises:
            DataError: There is no such version.
        """
        if not self.versions:
            raise DataError("the snapshot was never complete", hint="take it again: it goes on where it stopped")
        last = self.versions[-1].number
        if version is not None and version > last:
            raise DataError(f"version is {version}, and the last one is {last}", hint="leave version out for the last")
        wanted = self.versions[(last if version is None else version) - 1]
        return replace(self, parts=self.parts[: wanted.parts], versions=self.versions[: wanted.number], goal=None)

    def counts(self) -> dict[str, Any]:
        """Return rows, rejected and missing messages, in all."""
        missing: dict[str, int] = {}
        for part in self.parts:
            for name, count in part.missing.items():
                missing[name] = missing.get(name, 0) + count
        return {
            "rows": sum(part.rows for part in self.parts),
            "rejected": sum(part.rejected for part in self.parts),
            "missing": missing,
        }


def first_chain(stream: Mapping[str, Any]) -> str:
    """Return what names no part at all of a stream."""
    return link("deepseek snapshot 1", stream)


def link(chain: str, content: object) -> str:
    """Return what names everything so far and one more thing, as plain JSON values."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{chain}\0{text}".encode()).hexdigest()

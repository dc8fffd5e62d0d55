"""The folder that `deepseek ingest` writes and the source `ingest` reads: topics, their parts, the manifest that says which count.

```text
FOLDER/ingest.json                       the format's version
FOLDER/index.sqlite, lock, spool/        the server's own: which contents came, what is not in a part yet
FOLDER/topics/TOPIC/manifest.json        the parts that count; replaced whole, so that a reader sees one state or the next
FOLDER/topics/TOPIC/parts/N.rows.parquet, N.contents.parquet, N.rejects.parquet
FOLDER/topics/TOPIC/blobs/ab/abcd….png   images, audio and other files, under the hash of what they hold
```

Contents are numbered in the order of their arrival (`_seq`), over all topics; a state of the folder is named by the last number in it, and
every earlier state can be read again, as nothing is ever changed or taken away.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from deepseek.artifacts.files import read_json, write_json
from deepseek.data.sources.base import INGESTED
from deepseek.errors import DataError

FORMAT = 1
ID, AT, SEQ, ROW = "_id", "_at", "_seq", "_row"
"""The columns that every row has: its content's id, when that came (UTC), its number, and the row's place in it."""
COUNTERS = (SEQ, ROW)
"""Those of them that a reader is not shown: they would be taken for numbers to learn from."""
BLOBS = ("image", "audio", "file")
"""The columns that hold paths of what was posted."""
MANIFEST = "manifest.json"
TOPICS = "topics"
FIRST_CHAIN = hashlib.sha256(b"deepseek ingest 1").hexdigest()
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

PartFile = Literal["rows", "contents", "rejects"]


@dataclass(frozen=True)
class Part:
    """Rows that came one after the other, in files that never change.

    Attributes:
        number: Its name.
        first: The number of the first content in it.
        last: The number of the last.
        contents: How many contents are in it.
        rows: Their rows.
        rejected: Records that were refused when they came.
        chain: What names every content up to the last one: see `link`.
        files: By kind, each file's name, size and SHA-256; there are no rows where every record was refused, and no rejects where none was.
    """

    number: int
    first: int
    last: int
    contents: int
    rows: int
    rejected: int
    chain: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The state of one topic.

    Attributes:
        topic: Its name.
        parts: The parts that count, in order.
    """

    topic: str
    parts: tuple[Part, ...] = ()

    @property
    def version(self) -> int:
        """The number of the last content; 0 where there is none."""
        return self.parts[-1].last if self.parts else 0

    @property
    def chain(self) -> str:
        """What names every content so far."""
        return self.parts[-1].chain if self.parts else FIRST_CHAIN

    @property
    def counts(self) -> dict[str, int]:
        """How many contents, rows and rejected records there are."""
        return {name: sum(getattr(part, name) for part in self.parts) for name in ("contents", "rows", "rejected")}

    @classmethod
    def read(cls, folder: Path, topic: str) -> Manifest:
        """Return a topic's state, an empty one where nothing of it is in a part yet.

        Raises:
            BundleError: The manifest is damaged.
            DataError: It was written by a newer version.
        """
        path = topic_folder(folder, topic) / MANIFEST
        if not path.is_file():
            return cls(topic)
        value = read_json(path)
        if value["format"] != FORMAT:
            raise DataError(f"{path} has the format {value['format']}; this version reads {FORMAT}", hint="update deepseek-framework")
        return cls(topic, tuple(Part(**part) for part in value["parts"]))

    def write(self, folder: Path) -> None:
        """Replace the topic's manifest, durably, in one step.

        Raises:
            RunError: The disk refuses.
        """
        value = {"format": FORMAT, "topic": self.topic, "version": self.version, "chain": self.chain, **self.counts}
        write_json(topic_folder(folder, self.topic) / MANIFEST, {**value, "parts": [asdict(part) for part in self.parts]})

    def path(self, folder: Path, part: Part, kind: PartFile) -> Path | None:
        """Return where a part's file is, or nothing where the part has none of this kind."""
        about = part.files.get(kind)
        return None if about is None else topic_folder(folder, self.topic) / "parts" / about["name"]


def topic_folder(folder: Path, topic: str) -> Path:
    """Return the folder of a topic."""
    return folder / TOPICS / topic


def is_topic(name: str) -> bool:
    """Whether a topic may be called so: 1 to 64 letters, digits or . _ -, the first a letter or digit."""
    return _TOPIC.fullmatch(name) is not None


def topics_of(folder: Path) -> list[str]:
    """Return the topics that have parts, sorted.

    Raises:
        DataError: The folder is none that `deepseek ingest` wrote.
    """
    if not (folder / INGESTED).is_file():
        raise DataError(f"{str(folder)!r} is no folder of ingested data", hint="name the folder that was given to deepseek ingest")
    return sorted(path.parent.name for path in (folder / TOPICS).glob(f"*/{MANIFEST}"))


def link(chain: str, content: Sequence[object]) -> str:
    """Return what names every content so far and one more.

    Each link is the hash of the one before and of what the content is, so that one name stands for all of them, in their order, however
    they are later cut into parts.

    Args:
        chain: The name so far; `FIRST_CHAIN` at first.
        content: Its number, id, hash, time and attributes, as plain JSON values.
    """
    return hashlib.sha256(f"{chain}\0{json.dumps(content, ensure_ascii=True, separators=(',', ':'))}".encode()).hexdigest()


def record_name(name: str) -> str:
    """Return the name of a record's field as a column: one that begins with an underscore gets one more, as `_id` is taken."""
    return f"_{name}" if name.startswith("_") else name


def attribute_name(name: str) -> str:
    """Return the name of an attribute as a column: `_` and the name in small letters, `-` as `_`; `_id_` for one that is taken."""
    column = "_" + name.lower().replace("-", "_")
    return f"{column}_" if column in (ID, AT, SEQ, ROW) else column

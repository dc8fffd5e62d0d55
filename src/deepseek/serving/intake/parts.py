"""From the index to the dataset: contents that came become parts, small parts become larger ones, and the manifest says which count.

Every step may be the last one before kill -9. Files are written whole, under another name, and waited for; then the manifest is replaced in
one step, which is when the part counts; then the index forgets what it held. Where the last step is missing the next server makes it up
(`Index`), and a part that no manifest names is no part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.artifacts.files import sha256_file, sync_file, sync_folder
from deepseek.data.sources.ingested.columns import came_with, stored_schema, to_stored
from deepseek.data.sources.ingested.manifest import (
    AT,
    FIRST_CHAIN,
    ID,
    ROW,
    SEQ,
    Manifest,
    Part,
    PartFile,
    attribute_name,
    link,
    topic_folder,
)
from deepseek.data.sources.merging import MICROSECONDS, conform, merged
from deepseek.errors import RunError
from deepseek.serving.intake.index import Index, Waiting
from deepseek.serving.intake.records import tables_of

MOST_CONTENTS = 10_000
MOST_BYTES = 64_000_000
GROUP_ROWS = 65_536
GROUP_BYTES = 16_000_000
GRACE_S = 3_600.0
"""Files that no longer count are kept for so long: a reader may have opened the manifest that named them."""


class Parts:
    """Writes the parts of a folder.

    Args:
        folder: The folder of ingested data.
        index: What came.
        size: Small parts are joined up to so many bytes.
    """

    def __init__(self, folder: Path, index: Index, *, size: int) -> None:
        self._folder, self._index, self._size = folder, index, size
        self._superseded: dict[Path, float] = {}

    def write(self, topic: str) -> Part | None:
        """Put the next contents of a topic into a part; return it, or nothing where none wait.

        Raises:
            OSError: The disk refuses, as also `RunError` and `sqlite3.Error` say.
        """
        manifest = Manifest.read(self._folder, topic)
        self._settle(manifest)  # the last try may have failed when the manifest named its contents already
        contents = self._index.next_waiting(topic, most=MOST_CONTENTS, most_bytes=MOST_BYTES)
        if not contents:
            return None
        if contents[0].seq <= manifest.version:
            held = f"the content {contents[0].seq:,} of {topic!r} waits, and the manifest holds all up to {manifest.version:,}"
            raise RunError(f"{held}; it is not written twice", hint="start the server again: it brings the index to what the manifests say")
        folder = topic_folder(self._folder, topic)
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        kept, joined = self._tail(manifest, sum(one.size if one.blob is None else 0 for one in contents))
        for one in contents:
            self._place_blob(folder, one)
        number = manifest.parts[-1].number + 1 if manifest.parts else 1
        part = self._write_part(_Draft(manifest, joined, contents), number)
        written = Manifest(topic, (*kept, part))
        written.write(self._folder)
        self._settle(written)
        self._clean(folder / "parts", written)
        return part

    def _settle(self, manifest: Manifest) -> None:
        """Have the index forget what a manifest names, once the disk has that manifest; where it has forgotten, nothing is done."""
        if not manifest.parts or not self._index.is_waiting(manifest.topic, up_to=manifest.version):
            return
        folder = topic_folder(self._folder, manifest.topic)
        for place in (folder, folder.parent, self._folder):
            sync_folder(place)
        for name in self._index.settle(manifest.topic, manifest.version, manifest.parts[-1].number):
            (self._folder / "spool" / name).unlink(missing_ok=True)

    def _tail(self, manifest: Manifest, size: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """Part the parts into those that stay and those, at the end, that the new one takes in.

        It takes in what is not much larger than itself. So a row is written again only when what it lies in has doubled, a few times in
        all, and the parts are as few. A part that is not as it was written stays, for readers to be told of it: written again, it would
        pass for one that is.
        """
        stay = len(manifest.parts)
        while stay:
            last = sum(about["size_bytes"] for about in manifest.parts[stay - 1].files.values())
            if last > 2 * max(size, 100_000) or size + last > self._size or not self._is_whole(manifest, manifest.parts[stay - 1]):
                break
            size, stay = size + last, stay - 1
        return manifest.parts[:stay], manifest.parts[stay:]

    def _is_whole(self, manifest: Manifest, part: Part) -> bool:
        folder = topic_folder(self._folder, manifest.topic) / "parts"
        files = [(folder / about["name"], about["sha256"]) for about in part.files.values()]
        return all(path.is_file() and sha256_file(path) == digest for path, digest in files)

    def _place_blob(self, folder: Path, one: Waiting) -> None:
        """Move a blob from the spool to its place; where a server died after this, it is there already."""
        if one.blob is None or one.spooled is None:
            return
        source, target = self._folder / "spool" / one.spooled, folder / one.blob
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            for place in (target.parent, target.parent.parent, folder):
                sync_folder(place)

    def _write_part(self, draft: _Draft, number: int) -> Part:
        folder = topic_folder(self._folder, draft.manifest.topic) / "parts"
        files: dict[str, dict[str, Any]] = {}
        contents = draft.contents_table(self._folder)
        sources: dict[PartFile, Callable[[], Iterator[pa.Table]]] = {
            "rows": lambda: draft.rows(self._folder),
            "contents": lambda: iter([contents]),
            "rejects": lambda: draft.rejects(self._folder),
        }
        for kind, tables in sources.items():
            schemas = [table.schema for table in tables()]
            schema = stored_schema(schemas) if kind == "rows" else merged(schemas)
            if not schema.names:
                continue
            path = folder / f"{number:08d}.{kind}.parquet"
            partial = path.with_suffix(".partial")
            with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
                for group in _groups(tables(), schema, to_stored if kind == "rows" else conform):
                    writer.write_table(group)
            sync_file(partial)
            partial.replace(path)
            files[kind] = {"name": path.name, "size_bytes": path.stat().st_size, "sha256": sha256_file(path)}
        sync_folder(folder)
        counts = {name: sum(contents[name].to_pylist()) for name in ("rows", "rejected")}
        numbers = contents[SEQ].to_pylist()
        chain = contents["chain"][-1].as_py()
        return Part(number, numbers[0], numbers[-1], len(numbers), counts["rows"], counts["rejected"], chain, files)

    def _clean(self, folder: Path, manifest: Manifest) -> None:
        now = time.monotonic()
        named = {about["name"] for part in manifest.parts for about in part.files.values()}
        for path in folder.iterdir():
            if path.name in named:
                self._superseded.pop(path, None)
            elif now - self._superseded.setdefault(path, now) > GRACE_S:
                path.unlink(missing_ok=True)
                del self._superseded[path]


@dataclass(frozen=True)
class _Draft:
    """What a part is made of: the parts that it takes in, and contents."""

    manifest: Manifest
    joined: Sequence[Part]
    contents: Sequence[Waiting]

    def rows(self, folder: Path) -> Iterator[pa.Table]:
        yield from self._old(folder, "rows")
        for one in self.contents:
            if one.rows:
                for table in _rows_of(folder, one):
                    yield came_with(table, one.seq)

    def rejects(self, folder: Path) -> Iterator[pa.Table]:
        yield from self._old(folder, "rejects")
        for one in self.contents:
            if one.rejects is not None:
                table = pa.ipc.open_stream(one.rejects).read_all()
                yield _with(table, {SEQ: pa.scalar(one.seq, pa.int64()), ID: pa.scalar(one.id)})

    def contents_table(self, folder: Path) -> pa.Table:
        """Return what every content of the part is, each with the name of all up to it."""
        old = list(self._old(folder, "contents"))
        stay = self.manifest.parts[: len(self.manifest.parts) - len(self.joined)]
        chain = self.manifest.chain if self.contents else (stay[-1].chain if stay else FIRST_CHAIN)
        rows = []
        for one in self.contents:
            chain = link(chain, [one.seq, one.id, one.sha256, one.at, one.media, one.attributes])
            rows.append({
                SEQ: one.seq, ID: one.id, "at": one.at, "sha256": one.sha256, "size": one.size, "media": one.media, "rows": one.rows,
                "rejected": one.rejected, "attributes": list(one.attributes.items()), "chain": chain,
            })  # fmt: skip
        return pa.concat_tables([*old, pa.Table.from_pylist(rows, _CONTENTS)])

    def _old(self, folder: Path, kind: PartFile) -> Iterator[pa.Table]:
        for part in self.joined:
            path = self.manifest.path(folder, part, kind)
            if path is not None:
                with pq.ParquetFile(path) as opened:
                    for batch in opened.iter_batches(batch_size=GROUP_ROWS):
                        yield pa.Table.from_batches([batch])


_CONTENTS = pa.schema([
    (SEQ, pa.int64()), (ID, pa.string()), ("at", pa.int64()), ("sha256", pa.string()), ("size", pa.int64()), ("media", pa.string()),
    ("rows", pa.int64()), ("rejected", pa.int64()), ("attributes", pa.map_(pa.string(), pa.string())), ("chain", pa.string()),
])  # fmt: skip


def _rows_of(folder: Path, one: Waiting) -> Iterator[pa.Table]:
    """Yield a content's rows with the columns that ingest adds."""
    if one.payload is not None:
        source, size = pa.BufferReader(one.payload), len(one.payload)
    else:
        assert one.spooled is not None
        path = folder / "spool" / one.spooled
        source, size = pa.OSFile(str(path)), path.stat().st_size
    constant = {SEQ: pa.scalar(one.seq, pa.int64()), ID: pa.scalar(one.id), AT: pa.scalar(one.at, MICROSECONDS)}
    constant |= {attribute_name(name): pa.scalar(value) for name, value in one.attributes.items()}
    number = 0
    with source:
        for table in tables_of(source, size):
            places = pa.array(range(number, number + table.num_rows), pa.int64())
            number += table.num_rows
            yield _with(table, constant).append_column(ROW, places)


def _with(table: pa.Table, values: dict[str, pa.Scalar]) -> pa.Table:
    columns = {name: pa.repeat(value, table.num_rows) for name, value in values.items()}
    return pa.table([*table.columns, *columns.values()], names=[*table.column_names, *columns])


def _groups(tables: Iterator[pa.Table], schema: pa.Schema, like: Callable[[pa.Table, pa.Schema], pa.Table]) -> Iterator[pa.Table]:
    """Join small tables: a file of a thousand groups of one row is slow to read."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        held.append(like(table, schema))
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield pa.concat_tables(held).combine_chunks()
            held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held).combine_chunks()

"""Parts of a snapshot: every step may be the last one before kill -9, and a part counts once the manifest names it, never before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.artifacts import locked, plain_disk_errors, sha256_file, sync_file, sync_folder
from deepseek.data.streams.base import MESSAGES, Position
from deepseek.data.streams.decoders import Decoder
from deepseek.data.streams.manifest import PARTITION, PARTS, Manifest, Part, PartFile, link
from deepseek.data.streams.rows import Rows, rows_of
from deepseek.errors import CheckError, InputError

_FEW = 1_000
"""Messages from which on the share of rejected ones says something."""


class PartWriter:
    """Adds parts to the folder of a snapshot; it holds the folder's lock while it does.

    Args:
        folder: The folder.
        decoder: Says what messages become.
        max_message: The most bytes of a message.
        max_rejected: The share of a version's messages that may be set aside, 0 to 1.
    """

    def __init__(self, folder: Path, decoder: Decoder, *, max_message: int, max_rejected: float) -> None:
        self._folder, self._decoder = folder, decoder
        self._max_message, self._max_rejected = max_message, max_rejected

    def add(self, manifest: Manifest, messages: Sequence[pa.RecordBatch], *, position: Position, missing: Mapping[str, int]) -> Manifest:
        """Write messages as the next part, and return the manifest that names it, which the disk has.

        Args:
            manifest: What there is.
            messages: Those behind it, as `MESSAGES`.
            position: Where the stream stands behind them.
            missing: By partition, messages before them that the server no longer kept.

        Raises:
            CheckError: Too many messages cannot be decoded; the part does not count.
            RunError: The disk refuses.
        """
        number = len(manifest.parts) + 1
        rows = rows_of(pa.Table.from_batches(messages, MESSAGES), self._decoder, max_message=self._max_message)
        files = {}
        with plain_disk_errors(self._folder):
            if rows.good.num_rows:
                files["rows"] = self._write(number, "rows", rows.good)
            if rows.bad.num_rows:
                files["rejects"] = self._write(number, "rejects", rows.bad)
            sync_folder(self._folder / PARTS)
        counts = {"rows": rows.good.num_rows, "rejected": rows.bad.num_rows, "missing": dict(missing)}
        chain = link(manifest.chain, [counts, position, {kind: about["sha256"] for kind, about in files.items()}])
        part = Part(number, position=dict(position), chain=chain, files=files, **counts)
        written = replace(manifest, parts=(*manifest.parts, part))
        self._refuse_losses(written, rows)
        write(written, self._folder)
        return written

    def _write(self, number: int, kind: PartFile, table: pa.Table) -> dict[str, Any]:
        """Write a file whose row groups hold one partition each, those in their order and its messages in theirs."""
        codes = table.column(PARTITION).unify_dictionaries().combine_chunks()
        names = codes.dictionary.to_pylist()
        rank = {name: place for place, name in enumerate(sorted(names, key=partition_key))}
        numbers = np.array([rank[name] for name in names], dtype=np.int32)[codes.indices.to_numpy()]
        table = table.set_column(table.schema.get_field_index(PARTITION), PARTITION, codes.cast(pa.string()))
        if (numbers[1:] < numbers[:-1]).any():
            order = np.argsort(numbers, kind="stable")
            table, numbers = table.take(pa.array(order)), numbers[order]
        path = self._folder / PARTS / f"{number:08d}.{kind}.parquet"
        partial = path.with_suffix(".partial")
        cuts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
        groups = []
        with pq.ParquetWriter(partial, table.schema, compression="zstd") as writer:
            for start, stop in pairwise(cuts):
                group = table.slice(start, stop - start)
                writer.write_table(group, row_group_size=max(stop - start, 1))
                groups.append(group.column(PARTITION)[0].as_py())
        sync_file(partial)
        partial.replace(path)
        return {"name": path.name, "size_bytes": path.stat().st_size, "sha256": sha256_file(path), "groups": groups}

    def _refuse_losses(self, manifest: Manifest, last: Rows) -> None:
        begun = manifest.versions[-1].parts if manifest.versions else 0
        parts = manifest.parts[begun:]
        rejected, total = sum(part.rejected for part in parts), sum(part.rows + part.rejected for part in parts)
        if last.bad.num_rows and total >= _FEW and rejected > self._max_rejected * total:
            place = " offset ".join(str(last.bad.column(name)[0].as_py()) for name in last.bad.column_names[:2])
            raise CheckError(
                f"{rejected:,} of {total:,} messages could not be read, such as {place}: {last.bad.column('reason')[0].as_py()}",
                hint=f"is the decoder the right one? more may be allowed: max_rejected = {self._max_rejected:g}",
            )


def write(manifest: Manifest, folder: Path) -> None:
    """Replace the manifest, and wait until the disk knows."""
    manifest.write(folder)
    with plain_disk_errors(folder):
        sync_folder(folder)


def partition_key(name: str) -> tuple[str, int]:
    """Return what partitions are sorted by: the topic, then the number as a number."""
    topic, _, number = name.rpartition("/")
    return (topic, int(number)) if number.isdigit() else (name, -1)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder: the block is the only one that writes to it, and what was half written is gone.

    Raises:
        InputError: Another process writes to the folder, or other things are in it.
        RunError: The disk refuses.
    """
    with plain_disk_errors(folder):
        if folder.is_dir() and not Manifest.there(folder) and any(path.name not in ("lock", PARTS) for path in folder.iterdir()):
            raise InputError(f"the folder {str(folder)!r} holds other things", hint="name a new folder under path")
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
    refused = InputError(f"another process takes the snapshot {str(folder)!r}", hint="wait for it, or name another folder")
    with locked(folder / "lock", refuse=lambda _: refused):
        _clean(folder)
        yield


def _clean(folder: Path) -> None:
    manifest = Manifest.read(folder)
    named = {about["name"] for part in (manifest.parts if manifest else ()) for about in part.files.values()}
    for path in (folder / PARTS).iterdir():
        if path.name not in named:
            path.unlink()

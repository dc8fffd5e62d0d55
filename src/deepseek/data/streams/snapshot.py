"""Taking a snapshot: a stream is read from where its folder ends up to a bound, exactly once whatever is killed on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek import progress
from deepseek.data.streams.base import Position, Stream
from deepseek.data.streams.decoders import Decoder
from deepseek.data.streams.manifest import Manifest, Version
from deepseek.data.streams.writing import PartWriter, held, write
from deepseek.errors import DataError, InputError

PART_ROWS = 200_000
PART_BYTES = 64_000_000
POLL_ROWS = 10_000
NOW = "now"


@dataclass(frozen=True)
class SnapshotPlan:
    """How a snapshot is taken.

    Attributes:
        folder: Where it goes.
        decoder: The spec of what bytes become; part of what the folder is.
        until: `now`, a moment, or by partition an offset; other partitions are read up to now.
        limit: The most messages of a version, or nothing.
        max_message: The most bytes of a message.
        max_rejected: The share of messages that may be set aside.
        part_rows: Messages of a part; also 64 MB of them make one.
    """

    folder: Path
    decoder: Mapping[str, Any]
    until: str | Mapping[str, int] = NOW
    limit: int | None = None
    max_message: int = 1_000_000
    max_rejected: float = 0.5
    part_rows: int = PART_ROWS


def take_snapshot(stream: Stream, decoder: Decoder, plan: SnapshotPlan) -> Manifest:
    """Read a stream up to a bound, behind what its folder holds, and make that a version.

    The manifest is the truth: reading begins where it ends, and the server is told only of what it names. A process that is killed has lost
    what no manifest names, which the next one reads again; a version that was begun ends where it was to end.

    Args:
        stream: The stream.
        decoder: Says what messages become.
        plan: How.

    Returns:
        What the folder holds. Where nothing new was there, no version is added.

    Raises:
        CheckError: Too many messages cannot be decoded.
        DataError: The stream cannot be read, or does not keep what comes next.
        InputError: The folder holds another stream, or another process writes to it.
        RunError: The disk refuses.
    """
    with held(plan.folder):
        manifest = _begun(stream, plan)
        stream.seek(manifest.position)
        if manifest.goal is None:
            begin = manifest.begin if manifest.position else stream.position()
            manifest = replace(manifest, goal=_goal(stream, plan.until), begin=begin)
            write(manifest, plan.folder)
        assert manifest.goal is not None
        _as_begun(stream, manifest, manifest.goal)
        stream.stop_at(manifest.goal)
        writer = PartWriter(plan.folder, decoder, max_message=plan.max_message, max_rejected=plan.max_rejected)
        with _Pipeline(stream, writer, manifest) as pipeline:
            position = _read(stream, plan, pipeline)
        manifest = _finished(pipeline.manifest, position)
        write(manifest, plan.folder)
    stream.commit(manifest.position)
    return manifest


def _begun(stream: Stream, plan: SnapshotPlan) -> Manifest:
    about = {**stream.identity, "decoder": dict(plan.decoder), "max_message": plan.max_message}
    manifest = Manifest.read(plan.folder)
    if manifest is None:
        return Manifest(about)
    if manifest.stream != about:
        other = sorted(key for key in {*about, *manifest.stream} if about.get(key) != manifest.stream.get(key))
        said = ", ".join(f"{key} {manifest.stream.get(key)!r}" for key in other)
        raise InputError(f"the snapshot {str(plan.folder)!r} was taken with {said}", hint="take this one into another folder")
    return manifest


def _goal(stream: Stream, until: str | Mapping[str, int]) -> Position:
    if until == NOW:
        return stream.end()
    if isinstance(until, str):
        return stream.end(until)
    goal = stream.end()
    for name, offset in until.items():
        if name not in goal:
            raise DataError(
                f"until names {name!r}, and {stream.name} has no such partition", hint=f"partitions: {', '.join(list(goal)[:20])}"
            )
        if isinstance(last := goal[name], int) and offset > last:
            raise DataError(f"until is {offset:,} for {name}, which ends at {last:,}", hint="leave it out to read up to now")
        goal[name] = offset
    return goal


def _as_begun(stream: Stream, manifest: Manifest, goal: Position) -> None:
    """Have a stream stand where the first version began, where it stands behind that version's end.

    The process that began it was killed before it had a part, and `latest` is somewhere else by now.
    """
    if manifest.position or manifest.begin is None:
        return
    at = stream.position()
    passed = {name: manifest.begin[name] for name in goal if name in manifest.begin and int(at.get(name, 0)) > int(goal[name])}
    if passed:
        stream.seek({**at, **passed})


def _read(stream: Stream, plan: SnapshotPlan, pipeline: _Pipeline) -> Position:
    """Read up to the bound or the limit; return where that is."""
    before = pipeline.manifest.versions[-1].parts if pipeline.manifest.versions else 0
    count = sum(part.rows + part.rejected for part in pipeline.manifest.parts[before:])
    held: list[pa.RecordBatch] = []
    rows = size = 0
    with progress.task(f"reading {stream.name}") as advance:
        while not stream.finished and (plan.limit is None or count < plan.limit):
            most = min(POLL_ROWS, plan.part_rows - rows)
            batch = stream.poll(most if plan.limit is None else min(most, plan.limit - count))
            if not batch.num_rows:
                continue
            held.append(batch)
            count, rows, size = count + batch.num_rows, rows + batch.num_rows, size + batch.nbytes
            advance(batch.num_rows)
            if rows >= plan.part_rows or size >= PART_BYTES:
                pipeline.put(held, stream.position())
                held, rows, size = [], 0, 0
    pipeline.put(held, stream.position())
    return stream.position()


def _finished(manifest: Manifest, position: Position) -> Manifest:
    last = manifest.versions[-1] if manifest.versions else None
    if last is not None and last.parts == len(manifest.parts):  # nothing came: where reading goes on may still have moved over holes
        versions = (*manifest.versions[:-1], replace(last, position=position))
    else:
        versions = (*manifest.versions, Version(last.number + 1 if last else 1, len(manifest.parts), time.time(), position))
    return replace(manifest, versions=versions, goal=None)


class _Pipeline:
    """Decodes and writes one part in a thread while the next is read; at most two parts are in memory.

    The stream stays with the thread that reads: what is safe is committed by it, behind the manifest.
    """

    def __init__(self, stream: Stream, writer: PartWriter, manifest: Manifest) -> None:
        self._stream, self._writer = stream, writer
        self.manifest = manifest
        self._missed: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="deepseek-snapshot")
        self._pending: Future[Manifest] | None = None

    def __enter__(self) -> _Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._settle()
        finally:
            self._pool.shutdown()

    def put(self, messages: list[pa.RecordBatch], position: Position) -> None:
        """Hand over what was read; waits for the part before it."""
        self._settle()
        missing = {name: more for name, count in self._stream.missing.items() if (more := count - self._missed.get(name, 0))}
        if messages or missing:
            self._missed = dict(self._stream.missing)
            self._pending = self._pool.submit(self._writer.add, self.manifest, messages, position=position, missing=missing)

    def _settle(self) -> None:
        if self._pending is not None:
            done, self._pending = self._pending, None
            self.manifest = done.result()
            self._stream.commit(self.manifest.position)

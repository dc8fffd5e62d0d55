"""A buffer for a client that cannot be slowed down: what its reader is not ready for goes to disk instead of memory."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from deepseek.artifacts.files import plain_disk_errors

_MEMORY_BYTES = 64 << 20


class Drain:
    """Takes batches as fast as they come and hands them out in order as they are asked for.

    Args:
        batches: Where batches come from; advanced on a thread of its own.
        memory_bytes: The most bytes of waiting batches that are held in memory; what comes beyond waits in a temporary file.

    Attributes:
        spilled_bytes: How many bytes went to the file.
    """

    def __init__(self, batches: Callable[[], Iterator[pa.RecordBatch]], *, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._make = batches
        self._most = memory_bytes
        self._waiting: deque[pa.RecordBatch | tuple[int, int]] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._file: IO[bytes] | None = None
        self._end = 0
        self._on_disk = 0
        self._restoring = False
        self._done = False
        self._stopped = False
        self._error: BaseException | None = None
        self.spilled_bytes = 0

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches; an error of the source comes in its place, after all that came before it."""
        thread = threading.Thread(target=self._fill, name="deepseek-drain", daemon=True)
        thread.start()
        try:
            schema: pa.Schema | None = None
            while (one := self._next()) is not None:
                batch = one if isinstance(one, pa.RecordBatch) else self._restored(one, schema)
                schema = batch.schema
                yield batch
            if self._error is not None:
                raise self._error
        finally:
            with self._changed:
                self._stopped = True
            thread.join(timeout=60)
            if self._file is not None:
                self._file.close()

    def _next(self) -> pa.RecordBatch | tuple[int, int] | None:
        with self._changed:
            if self._restoring:
                self._on_disk -= 1
            self._changed.wait_for(lambda: self._waiting or self._done)
            one = self._waiting.popleft() if self._waiting else None
            self._restoring = isinstance(one, tuple)
            if isinstance(one, pa.RecordBatch):
                self._held -= one.nbytes
            return one

    def _fill(self) -> None:
        try:
            for batch in self._make():
                if self._stopped:
                    return
                # the first batch stays in memory: its schema is needed to read the others back
                if self._held and self._held + batch.nbytes > self._most:
                    self._add(self._spilled(batch))
                else:
                    self._add(batch)
        except BaseException as error:  # noqa: BLE001 - the edge of the thread: the reader raises it
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify()

    def _add(self, one: pa.RecordBatch | tuple[int, int]) -> None:
        with self._changed:
            self._waiting.append(one)
            if isinstance(one, pa.RecordBatch):
                self._held += one.nbytes
            self._changed.notify()

    def _spilled(self, batch: pa.RecordBatch) -> tuple[int, int]:
        data = batch.serialize()
        with plain_disk_errors(Path(tempfile.gettempdir())), self._changed:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `read` closes it
            if not self._on_disk:
                self._end = 0  # everything in it was read: it is filled anew
            place = self._end
            self._file.seek(place)
            self._file.write(data)
            self._end += data.size
            self._on_disk += 1
        self.spilled_bytes += data.size
        return place, data.size

    def _restored(self, place: tuple[int, int], schema: pa.Schema | None) -> pa.RecordBatch:
        assert schema is not None
        start, size = place
        with self._changed:
            assert self._file is not None
            self._file.seek(start)
            data = self._file.read(size)
        return pa.ipc.read_record_batch(pa.py_buffer(data), schema)

"""The folder of one server: its lock, its index, what it holds from a server that died."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deepseek.artifacts import locked, plain_disk_errors, sync_folder, write_json
from deepseek.data.sources.base import INGESTED
from deepseek.data.sources.ingested.columns import columns_up_to
from deepseek.data.sources.ingested.manifest import COUNTERS, FORMAT, Manifest
from deepseek.errors import InputError
from deepseek.serving.intake.compactor import Compactor
from deepseek.serving.intake.contents import Lander
from deepseek.serving.intake.expected import Expected
from deepseek.serving.intake.index import Index
from deepseek.serving.intake.parts import Parts
from deepseek.serving.intake.receipts import Intake
from deepseek.serving.intake.settings import IngestSettings
from deepseek.serving.intake.spool import clear
from deepseek.serving.metrics import Metrics

log = logging.getLogger("deepseek.ingest")


class IngestFolder:
    """A folder that is being written: one server at a time, in one process.

    Args:
        path: The folder; made where it is not there.
        settings: Sizes and times.
        expected: What the records of a topic have to be, by its name.

    Attributes:
        index: What came.
        intake: What takes more in.
        compactor: What puts it into parts.
        metrics: Where it is counted.

    Raises:
        InputError: Another server writes to the folder, or other things are in it.
        RunError: The disk refuses.
    """

    def __init__(self, path: Path, settings: IngestSettings, *, expected: Callable[[str], Expected] | None = None) -> None:
        self.path, self.settings = path, settings
        spool = path / "spool"
        with plain_disk_errors(path):
            if not (path / INGESTED).is_file() and path.is_dir() and any(path.iterdir()):
                raise InputError(
                    f"the folder {str(path)!r} holds other things", hint="name a new folder, or one that deepseek ingest wrote"
                )
            spool.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()
        error = InputError(f"another server writes to {str(path)!r}", hint="stop it, or name another folder")
        self._lock.enter_context(locked(path / "lock", refuse=lambda _: error))
        if not (path / INGESTED).is_file():
            write_json(path / INGESTED, {"format": FORMAT})
        self._numbers = Path(tempfile.mkdtemp(prefix="deepseek-ingest-"))
        self.metrics = Metrics(self._numbers)
        self.index = Index(path)
        sync_folder(path)
        if gone := clear(spool, self.index.spooled()):
            log.info("%d files that were half received when a server ended are taken away", gone)
        lander = Lander(most_records=settings.max_records, expected=expected, columns=lambda topic: _columns_of(path, topic))
        self.intake = Intake(spool, self.index, lander, settings=settings)
        self.compactor = Compactor(
            self.index, Parts(path, self.index, size=settings.part_size), self.metrics, every_s=settings.flush_interval
        )
        self.compactor.start()

    def close(self) -> None:
        """Put into parts what was taken in, and let others write."""
        self.intake.close()
        self.compactor.stop()
        self.index.close()
        self._lock.close()
        shutil.rmtree(self._numbers, ignore_errors=True)


def _columns_of(folder: Path, topic: str) -> set[tuple[str, str]]:
    """Return the names and types of the columns that a topic's parts have; only their ends are read."""
    manifest = Manifest.read(folder, topic)
    stored = []
    for path in filter(None, (manifest.path(folder, part, "rows") for part in manifest.parts)):
        with contextlib.suppress(OSError, pa.ArrowException):  # of a part that is lost or damaged its readers are told; others still come
            stored.append(columns_up_to(pq.read_schema(path), None))
    return {(field.name, str(field.type)) for columns in stored for field in columns.values() if field.name not in COUNTERS}

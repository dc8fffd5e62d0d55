"""Who works on a trial, whether he is alive, and the signs of life that he gives."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

OWNER = "deepseek:owner"
"""The attribute of a trial that says who works on it."""


def this_worker() -> dict[str, Any]:
    """Return a description of this process that another can check: machine, process id, and when the process began."""
    return {"machine": _machine(), "process": os.getpid(), "began": _began(os.getpid())}


def is_dead(worker: dict[str, Any]) -> bool:
    """Whether a worker's process is known to be gone: it ran on this machine, and its id is free or another's by now.

    Of workers on other machines nothing is known; they are judged by their signs of life.
    """
    return bool(worker["machine"] == _machine() and _began(worker["process"]) != worker["began"])


def _machine() -> str:
    """Return what two processes have in common that see each other's ids: host, start of the system, namespace of process ids."""
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        parts.append("unknown")
    return " ".join(parts)


def _began(process: int) -> str | None:
    """Return when a process began, in ticks since the system did: nothing if it is gone, `unknown` where the system does not say."""
    if not Path("/proc/self/stat").exists():
        return "unknown"
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


class Heartbeat:
    """Signs of life of one trial, given by a thread while it lasts.

    Args:
        storage: Where the trial is kept; one without signs of life (memory) is left alone.
        trial_id: The trial's id in that storage.
        interval_s: Seconds between two signs.
    """

    def __init__(self, storage: BaseStorage, trial_id: int, interval_s: float) -> None:
        self._storage, self._trial_id, self._interval_s = storage, trial_id, interval_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Give the first sign now, and go on in the background."""
        from optuna.storages import RDBStorage

        if isinstance(self._storage, RDBStorage):
            self._storage.record_heartbeat(self._trial_id)
            self._thread = threading.Thread(target=self._beat, args=(self._storage,), name=f"trial-{self._trial_id}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Give no more signs."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self, storage: Any) -> None:
        from optuna.exceptions import StorageInternalError

        while not self._ended.wait(self._interval_s):
            try:
                storage.record_heartbeat(self._trial_id)
            except StorageInternalError:  # a busy or restarting database: the next sign may get through, and `tell` will say if not
                continue
        storage.remove_session()

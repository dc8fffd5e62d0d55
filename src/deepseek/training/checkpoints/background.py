"""One thing at a time done beside the training, on snapshots: writing checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Does one piece of work at a time in a thread; the next one waits for the one before.

    Whatever the work raises is raised where the next work is given or waited for.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, work: Callable[[], object]) -> None:
        """Begin some work, after the work before has ended.

        Args:
            work: What is done; it must not touch anything that training changes.

        Raises:
            BaseException: What the work before raised.
        """
        self.wait()
        # not a daemon: an interpreter that ends waits for what is being written
        self._thread = threading.Thread(target=self._do, args=(work,), name="deepseek-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the work is done.

        Raises:
            BaseException: What it raised.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (the edge of a thread: the error is handed to whoever waits)
            self._error = error

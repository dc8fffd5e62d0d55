"""The runners of one model: begun, given rows to answer, and begun again when they die."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import pyarrow as pa

from deepseek.errors import BundleError, DataError, DeepSeekError, InputError, RunError
from deepseek.inference.backends.base import told_threads
from deepseek.processors import usable_cores
from deepseek.serving.http.problems import RefusedError, RowsLostError
from deepseek.serving.runners.channel import Channel, Kind, as_stream, read_document, read_table

log = logging.getLogger("deepseek.serving")

PROGRAM = (sys.executable, "-m", "deepseek.serving.runners.process")
ATTEMPTS = 3
"""So many runners may die of a batch before its rows are asked one by one."""
ATTEMPTS_ALONE = 2
"""So many may then die of a row; one could have been killed from without."""
START_S = 300.0
LONGEST_PAUSE_S = 5.0
ENDING_S = 5.0
"""So long may a runner that has hung up at its start take to end by itself, with the status that says why."""
WARM_ROUNDS = 3

_FAILURES: dict[str, type[DeepSeekError]] = {"data": DataError, "bundle": BundleError}


class Watch(Protocol):
    """Is told how runners fare; of one call at a time."""

    def runners(self, change: int) -> None:
        """So many more are ready, or fewer."""

    def runner_ended(self, reason: str) -> None:
        """One ended that was not told to: `died`, or `hung` and was killed."""


@dataclass(frozen=True)
class Job:
    """What runners are to run.

    Attributes:
        bundle: The folder of the bundle itself.
        manifest: The SHA-256 of its manifest: a runner that is begun later must not run another bundle.
        backend: What runs the network.
        plugins: The plugins that the bundle needs.
        warm: Rows that every runner answers before it is ready: libraries make their kernels and buffers on first use.
        rowwise: Whether a row is answered alone as among others.
        timeout_s: How long a batch may take. By then nobody waits for it any more, and the runner counts as hung; what a single client is
            ready to wait does not matter here, as it could end runners by that.
    """

    bundle: Path
    manifest: str
    backend: str
    plugins: tuple[str, ...]
    warm: pa.RecordBatch
    rowwise: bool
    timeout_s: float


class _DiedError(Exception):
    """The runner died of a batch, or at least during it."""


@dataclass(eq=False)
class _Runner:
    process: subprocess.Popen[bytes]
    channel: Channel
    dead: bool = False
    hung: bool = False

    def end(self) -> None:
        self.process.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.channel.close()


class Runners:
    """Answers batches in processes of their own, several at a time; what `Predictor.answer` does, in places that may burn down.

    A runner that ends is replaced. The batch that it was working on is asked again of another one, twice at most; rows of which runners
    die again and again are then found by asking them one by one, so that they cost nobody else an answer.

    Args:
        name: The model's name, for the log.
        job: What they run.
        count: How many there are.
        watch: Is told how they fare.
        program: The command of a runner.

    Attributes:
        schema: The columns of the answers.

    Raises:
        BundleError: The bundle cannot be opened.
        RunError: A runner died before it was ready.
    """

    def __init__(self, name: str, job: Job, count: int, *, watch: Watch, program: Sequence[str] = PROGRAM) -> None:
        self._name, self._job, self._watch, self._program = name, job, watch, tuple(program)
        self._threads = max(1, _cores() // count)
        self._free: list[_Runner] = []
        self._living: set[_Runner] = set()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        begun: SimpleQueue[pa.Schema | Exception] = SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._keep, args=(begun,), name="deepseek-runner", daemon=True).start()
        for _ in range(count):
            first = begun.get()
            if isinstance(first, Exception):
                self.close()
                raise first
            self.schema: pa.Schema = first

    def answer(self, batch: pa.RecordBatch) -> pa.Table:
        """Answer every row of a batch, in order; may be called by several threads at once.

        Raises:
            DataError: A value cannot be prepared.
            RowsLostError: Runners died of some rows; it holds the answers of the others.
            RefusedError: No runner could be begun in time (503), or none answered (504).
        """
        try:
            return self._insist(batch, ATTEMPTS)
        except _DiedError:
            log.error("model %s: %d runners died of a batch of %d rows", self._name, ATTEMPTS, batch.num_rows)  # noqa: TRY400 - no defect here
        if batch.num_rows == 1 or not self._job.rowwise:
            raise RowsLostError(dict.fromkeys(range(batch.num_rows), _LOST), self.schema.empty_table())
        return self._one_by_one(batch)

    def _one_by_one(self, batch: pa.RecordBatch) -> pa.Table:
        answers, lost = [self.schema.empty_table()], {}
        for place in range(batch.num_rows):
            try:
                answers.append(self._insist(batch.slice(place, 1), ATTEMPTS_ALONE))
            except _DiedError:
                lost[place] = _LOST
        whole = pa.concat_tables(answers)
        if lost:
            raise RowsLostError(lost, whole)
        return whole

    def _insist(self, batch: pa.RecordBatch, attempts: int) -> pa.Table:
        rows = as_stream(batch)
        for attempt in range(1, attempts + 1):
            try:
                return self._ask(rows)
            except _DiedError:
                if attempt == attempts:
                    raise
        raise AssertionError

    def _ask(self, rows: pa.Buffer) -> pa.Table:
        end = time.monotonic() + self._job.timeout_s
        while True:
            runner = self._take(end - time.monotonic())
            try:
                runner.channel.send(Kind.ROWS, rows, timeout_s=self._job.timeout_s)
            except TimeoutError:
                raise self._hung(runner) from None
            except OSError:  # it was dead before, and has not seen the rows
                runner.end()
                continue
            try:
                kind, content = runner.channel.receive(timeout_s=self._job.timeout_s)
            except TimeoutError:
                raise self._hung(runner) from None
            except (EOFError, OSError):
                runner.end()
                raise _DiedError from None
            self._give_back(runner)
            if kind is Kind.ANSWERS:
                return read_table(content)
            told = read_document(content)
            if told["kind"] != "defect":
                raise _error_of(told)
            log.error("model %s failed in its runner:\n%s", self._name, told["message"])
            raise RefusedError(500, "the model failed to answer; the server's log says why")

    def _take(self, patience_s: float) -> _Runner:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._free) or self._closing.is_set(), patience_s)
            if self._free:
                return self._free.pop()
        detail = (
            "the model is being let go" if self._closing.is_set() else "no process is there to run the model; the server's log says why"
        )
        raise RefusedError(503, detail, headers={"Retry-After": "1"})

    def _give_back(self, runner: _Runner) -> None:
        with self._changed:
            if not runner.dead and not self._closing.is_set():
                self._free.append(runner)
                self._changed.notify()
                return
        runner.end()

    def _hung(self, runner: _Runner) -> RefusedError:
        runner.hung = True
        runner.end()
        return RefusedError(504, f"the model has not answered within {self._job.timeout_s:g} s")

    def _keep(self, begun: SimpleQueue[pa.Schema | Exception]) -> None:
        """Keep one runner alive until `close`; the first time, say how it began."""
        first, failures = True, 0
        while not self._closing.is_set():
            try:
                runner, schema = self._begin()
            except (DeepSeekError, OSError) as error:
                if first:
                    begun.put(error)
                    return
                failures += 1
                if not self._closing.is_set():
                    log.error("model %s: a runner cannot be begun: %s", self._name, error)  # noqa: TRY400 - the message says it all
                self._closing.wait(min(LONGEST_PAUSE_S, 0.05 * 2**failures))
                continue
            failures = 0
            self._give_back(runner)
            if first:
                begun.put(schema)
                first = False
            status = runner.process.wait()
            self._bury(runner, status)

    def _begin(self) -> tuple[_Runner, pa.Schema]:
        """Begin a runner, and return it with the columns of its answers once it has answered the warming rows."""
        ours, theirs = socket.socketpair()
        told = {"socket": theirs.fileno(), "bundle": str(self._job.bundle), "manifest": self._job.manifest}
        try:
            with theirs:
                process = subprocess.Popen(
                    self._program, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()], process_group=0,
                    env={**os.environ, "OMP_NUM_THREADS": str(self._threads)},
                )  # fmt: skip
        except OSError:
            ours.close()
            raise
        runner = _Runner(process, Channel(ours))
        with self._changed:
            self._living.add(runner)
        try:
            assert process.stdin is not None
            line = json.dumps({**told, "backend": self._job.backend, "plugins": self._job.plugins})
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            schema = self._warmed(runner)
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING_S)
            status = self._buried(runner)
            raise RunError(f"the model's process ended with status {status} before it was ready", hint="see its output above") from None
        except BaseException:
            self._buried(runner)
            raise
        with self._changed:
            self._watch.runners(1)
        return runner, schema

    def _warmed(self, runner: _Runner) -> pa.Schema:
        kind, content = runner.channel.receive(timeout_s=START_S)
        rows = as_stream(self._job.warm)
        for _ in range(WARM_ROUNDS):
            if kind is Kind.ERROR:
                break
            runner.channel.send(Kind.ROWS, rows, timeout_s=START_S)
            kind, content = runner.channel.receive(timeout_s=START_S)
        if kind is not Kind.ERROR:
            return read_table(content).schema
        told = read_document(content)
        if told["kind"] == "defect":
            log.error("model %s failed in its runner:\n%s", self._name, told["message"])
            raise RunError(f"the model cannot be opened: {told['message'].strip().splitlines()[-1]}")
        raise _error_of(told)

    def _buried(self, runner: _Runner) -> int:
        runner.end()
        with self._changed:
            self._living.discard(runner)
        return runner.process.wait()

    def _bury(self, runner: _Runner, status: int) -> None:
        with self._changed:
            runner.dead = True
            self._living.discard(runner)
            idle = runner in self._free
            if idle:
                self._free.remove(runner)
            self._watch.runners(-1)
            if not self._closing.is_set():
                self._watch.runner_ended("hung" if runner.hung else "died")
                log.warning("model %s: runner %d ended with status %d and is replaced", self._name, runner.process.pid, status)
        if idle:  # else whoever is asking it lets go of it
            runner.end()

    def close(self) -> None:
        """End all runners; what they were working on is not answered."""
        self._closing.set()
        with self._changed:
            living, idle = list(self._living), list(self._free)
            self._free.clear()
            self._changed.notify_all()
        for runner in living:
            runner.process.kill()
        for runner in idle:
            runner.end()


_LOST = "the process that runs the model died each time that it was asked for this row"


def _error_of(told: dict[str, Any]) -> DeepSeekError:
    return _FAILURES.get(told["kind"], InputError)(told["message"], hint=told["hint"])


def _cores() -> int:
    """Return how many threads this process may compute with: runners share them."""
    return told_threads() or usable_cores()

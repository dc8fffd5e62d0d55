"""One process a device: started, watched, and stopped together.

A rank that fails sends its error to the parent, which stops the others at once instead of letting them wait for a collective that never
comes. A rank whose parent has died, killed or not, ends by itself.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # re-exported without being named

from deepseek import errors
from deepseek.distributed.devices import collective_backend, limit_threads, pick_device, set_device
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.spawning import TOLD, heed_parent, interrupts_kept, script_left_out, take_interrupts
from deepseek.distributed.watch import WAITING, reporting_to
from deepseek.errors import DeepSeekError, RunError

COLLECTIVE_S = 300.0
"""How long a collective may take before a rank gives up, in seconds."""
INTERRUPTED_S = 120.0
"""How long ranks that were interrupted have for saving, in seconds: a large checkpoint takes its time; a second Ctrl-C does not wait."""
_ENDED = (KeyboardInterrupt.__name__, SystemExit.__name__)
_THERE = "deepseek/there"
"""How many ranks have come so far as to work, in the store."""
_GONE = ("connection", "peer", "socket", "timed out", "timeout", "broken pipe", "gloo", "nccl")
"""What is said by collectives of which a rank is missing."""
_CALLS = (f"torch{os.sep}_ops.py", f"torch{os.sep}_library{os.sep}")
"""In which files PyTorch calls operations, collectives among them: what was done is said by who wanted it."""
_ENDING_S = 2.0
"""How long a process may take to end whose connection is closed, in seconds."""
_KILLED = "it was killed, most likely for memory: lower batch_size or raise accumulate; a resume goes on from the last checkpoint"
_LOST = "a rank or the network between ranks is gone: look at what the others say; a resume goes on from the last checkpoint"


@dataclass(frozen=True)
class Failure:
    """What a rank failed with, in a form that can be sent to another process.

    Attributes:
        kind: The error's class.
        message: What happened.
        hint: What to do about it.
        trace: The traceback.
        echo: Whether it came out of what ranks send each other, and so may only be what another rank's failure has led to.
    """

    kind: str
    message: str
    hint: str | None
    trace: str
    echo: bool = False


@dataclass(frozen=True)
class _Place:
    rank: int
    ranks: int
    device: str
    port: int
    timeout_s: float


def launch(function: Callable[..., Any], devices: int, *args: Any, device: str = "auto", timeout_s: float = COLLECTIVE_S) -> Any:
    """Run `function(context, *args)` in one process a device and return what rank 0 returned.

    Args:
        function: A function of a module, so that a fresh process can import it; its first argument is a `RankContext`.
        devices: How many processes; with one, it runs in this process.
        args: What else it is given; sent to the processes, as is what rank 0 returns.
        device: The kind of device, as for `pick_device`.
        timeout_s: How long a collective may take before the ranks give up.

    Raises:
        DeepSeekError: A rank failed on purpose; of the same type, with the rank's traceback as a note.
        RunError: A rank failed otherwise or died.
    """
    if devices == 1:
        return function(RankContext(device=pick_device(device)), *args)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # the parent's: no race for a free port
    spawn = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    try:
        with script_left_out(), interrupts_kept():
            for rank in range(devices):
                ours, theirs = spawn.Pipe(duplex=False)
                place = _Place(rank, devices, device, store.port, timeout_s)
                process = spawn.Process(target=_run_rank, args=(function, place, theirs, args), name=f"rank-{rank}", daemon=True)
                process.start()
                theirs.close()
                processes.append(process)
                pipes.append(ours)
        with _ending_on_sigterm():
            return _collect(pipes, processes)
    except (KeyboardInterrupt, SystemExit):
        if store.add(_THERE, 0) < devices:  # some are still being started: there is nothing to save
            raise
        _let_save(processes)
        _require_ended(processes, pipes)
        raise
    finally:
        _stop(processes)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into `SystemExit`, so that the ranks are told before this process ends."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _let_save(processes: Sequence[Any]) -> None:
    """Tell ranks to end, and wait for them to save and end by themselves."""
    until = time.monotonic() + INTERRUPTED_S
    for process in processes:
        if TOLD is not None and process.is_alive():
            os.kill(process.pid, TOLD)
    for process in processes:
        process.join(max(until - time.monotonic(), 0.0))


def _require_ended(processes: Sequence[Any], pipes: Sequence[Connection]) -> None:
    """Let it not be thought that ranks have saved which have not.

    Raises:
        DeepSeekError: A rank failed when it was told to end.
        RunError: A rank has not ended.
    """
    if late := [process.name for process in processes if process.is_alive()]:
        raise RunError(
            f"interrupted, and {', '.join(late)} had not ended after {INTERRUPTED_S:g} s, and was killed",
            hint="a resume goes on from the last checkpoint that was whole by then",
        )
    for rank, pipe in enumerate(pipes):
        with suppress(EOFError):  # it has been heard already
            require_saved(rank, pipe.recv())


def require_saved(rank: int, answer: Any) -> None:
    """Look at what a rank that was told to end has come to.

    Raises:
        DeepSeekError: Something else: it could not save.
    """
    if isinstance(answer, Failure) and not answer.echo and answer.kind not in _ENDED:
        raise rebuild(rank, answer)


def join_group(context: RankContext, *, timeout_s: float = COLLECTIVE_S) -> None:
    """Join the process group that torchrun's environment variables describe, where there are several ranks and none is joined yet.

    Args:
        context: This process's place; its store is used where it has one.
        timeout_s: How long a collective may take.
    """
    if context.is_single or dist.is_initialized():
        return
    backend, limit = collective_backend(context.device), timedelta(seconds=timeout_s)
    if context.store is None:
        dist.init_process_group(backend, timeout=limit)
    else:
        own = PrefixStore("deepseek/group", context.store)
        dist.init_process_group(backend, store=own, rank=context.rank, world_size=context.ranks, timeout=limit)


class Outcome:
    """What the ranks of a job come to: what rank 0 returns, or the failure that is the reason of the others'.

    A rank that fails closes its connections, and those that waited for it fail, too; their word may arrive first.

    Args:
        patience_s: How long to wait for the reason after the first rank has failed because another was gone.
    """

    def __init__(self, *, patience_s: float = 5.0) -> None:
        self._patience_s = patience_s
        self._echo: tuple[int, Failure] | None = None
        self._until = math.inf
        self.result: Any = None

    @property
    def left_s(self) -> float | None:
        """How long to wait for the next answer; nothing for however long it takes."""
        return None if self._echo is None else max(self._until - time.monotonic(), 0.0)

    def take(self, rank: int, answer: Any) -> None:
        """Take what a rank has returned, or what it has failed with.

        Raises:
            DeepSeekError: It has failed, and not because another was gone.
            KeyboardInterrupt: It was interrupted.
        """
        if not isinstance(answer, Failure):
            self.result = answer if rank == 0 else self.result
        elif answer.kind == KeyboardInterrupt.__name__:
            raise KeyboardInterrupt
        elif not answer.echo:
            raise rebuild(rank, answer)
        elif self._echo is None:
            self._echo, self._until = (rank, answer), time.monotonic() + self._patience_s

    def end(self) -> Any:
        """Return what rank 0 has returned, when no answer is waited for any more.

        Raises:
            DeepSeekError: A rank has failed because another was gone, and none has said why.
        """
        if self._echo is not None:
            raise rebuild(*self._echo)
        return self.result


def _collect(pipes: list[Connection], processes: Sequence[Any] = ()) -> Any:
    ranks = {id(pipe): rank for rank, pipe in enumerate(pipes)}
    waiting, outcome = list(pipes), Outcome()
    while waiting and (ready := wait(waiting, outcome.left_s)):
        for pipe in ready:
            assert isinstance(pipe, Connection)
            waiting.remove(pipe)
            rank = ranks[id(pipe)]
            try:
                answer = pipe.recv()
            except EOFError:
                raise _death(rank, processes[rank] if processes else None) from None
            outcome.take(rank, answer)
    return outcome.end()


def _death(rank: int, process: Any) -> RunError:
    """Return the error of a rank that has closed its connection without an answer, by how its process ended where that is known."""
    if process is not None:
        process.join(_ENDING_S)
    status = None if process is None else process.exitcode
    if status is None or status < 0:
        how = f" ({signal.Signals(-status).name})" if status else ""
        return RunError(f"rank {rank} died without a word{how}", hint=_KILLED)
    return RunError(f"rank {rank} died without a word, with exit status {status}", hint="what its process has said stands above")


def rebuild(rank: int, failure: Failure) -> DeepSeekError:
    """Return a rank's error as it is raised here: of the same type where it is one of ours, with the rank's traceback as a note."""
    kind = getattr(errors, failure.kind, None)
    plain = isinstance(kind, type) and issubclass(kind, DeepSeekError) and kind.__init__ is DeepSeekError.__init__
    error: DeepSeekError
    if plain:
        assert kind is not None
        error = kind(f"rank {rank}: {failure.message}", hint=failure.hint)
    else:
        error = RunError(f"rank {rank} failed: {failure.kind}: {failure.message}", hint=failure.hint)
    error.add_note(f"Traceback of rank {rank}:\n{failure.trace}")
    return error


def _stop(processes: list[Any]) -> None:
    for process in processes:
        if process.exitcode is None:
            process.join(0.2)  # one that has just sent its answer ends by itself
        if process.exitcode is None:
            process.kill()
            process.join()


def _run_rank(function: Callable[..., Any], place: _Place, pipe: Connection, args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to the whole group, it reaches the parent, which tells the ranks to save
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ.update(RANK=str(place.rank), LOCAL_RANK=str(place.rank), WORLD_SIZE=str(place.ranks))
    try:
        heed_parent()
        take_interrupts()
        with reporting_to(lambda error: pipe.send(failure_of(error, "\n".join(error.__notes__)))):
            pipe.send(_in_group(function, place, args))
    except BaseException as error:  # noqa: BLE001 (the edge of a process: whatever happened must reach the parent)
        pipe.send(failure_of(error, traceback.format_exc()))
    finally:
        pipe.close()


def failure_of(error: BaseException, trace: str) -> Failure:
    """Return an error with its traceback as it is sent to another process."""
    echo = _between_ranks(error)
    hint = getattr(error, "hint", None) or (_LOST if echo else None)
    return Failure(type(error).__name__, getattr(error, "message", str(error)), hint, trace, echo)


def _between_ranks(error: BaseException) -> bool:
    """Say whether an error came out of what ranks send each other: out of PyTorch's collectives, and not of a tensor that does not fit."""
    if isinstance(error, dist.DistError):
        return True
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    while files and any(part in files[-1] for part in _CALLS):
        files.pop()
    waited = bool(files) and any(part in files[-1] for part in WAITING)
    return waited and any(word in str(error).lower() for word in _GONE)


def _in_group(function: Callable[..., Any], place: _Place, args: tuple[Any, ...]) -> Any:
    device = pick_device(place.device, index=place.rank)
    if device.type == "cpu":
        limit_threads(place.ranks)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: never over a network card
    else:
        set_device(device)
    store = TCPStore("127.0.0.1", place.port, is_master=False)
    backend, limit = collective_backend(device), timedelta(seconds=place.timeout_s)
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.ranks, timeout=limit)
    store.add(_THERE, 1)
    result = function(RankContext(place.rank, place.ranks, device, store), *args)
    dist.destroy_process_group()
    return result if place.rank == 0 else None


def die_with_parent() -> None:
    """Wait for the parent of this process and end with it, whatever is under way; for a thread of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # not sys.exit: the main thread may be inside a collective that will never return

"""Work on batches in several threads, with results in the batches' order: NumPy and Arrow let go of the interpreter where it counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from deepseek.processors import usable_cores

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 4
"""More would wait for memory, and each holds a batch."""


def threads_here() -> int:
    """Return how many threads are worth while on this machine."""
    return min(usable_cores(), MOST_THREADS)


def in_order(work: Callable[[T], R], items: Iterable[T], *, threads: int) -> Iterator[R]:
    """Yield what `work` makes of each item, in the items' order, while the next ones are worked on.

    Items are taken in the caller's thread, as many ahead as there are threads, so that memory stays bounded. What an item's work raises is
    raised in its place, once all before it have been yielded.

    Args:
        work: Is called from several threads at once, each item once.
        items: What is worked on.
        threads: How many threads; with 1 there is none, and nothing is ahead.
    """
    if threads < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="deepseek-data") as pool:
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for left in ahead:
                left.cancel()


class AtOnce:
    """Does several things with the same batch at once, each of them with one batch after the other.

    What each learns from the batches is therefore what it would learn alone: only the things overlap, never the batches.

    Args:
        threads: How many threads; with 1 there is none.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deepseek-data") if threads > 1 else None

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def run(self, works: Sequence[Callable[[], object]]) -> None:
        """Do all of it, and raise what the first of them raised, in their order."""
        if self._pool is None or len(works) < 2:
            for work in works:
                work()
            return
        for future in [self._pool.submit(work) for work in works]:
            future.result()

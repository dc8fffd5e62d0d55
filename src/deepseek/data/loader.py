"""Batches in their order: each rank takes its share of the same global batches, without padding and without repeating a row."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np

from deepseek.data.batch import PADDED_ELEMENTS, Batch
from deepseek.data.order import by_length, order
from deepseek.data.padding import ANSWERED_BYTES
from deepseek.data.prepared import PreparedDataset
from deepseek.data.resample import Resample, Resampled
from deepseek.errors import InputError

QUEUED_BATCHES = 2
COSTLY_S = 0.001
"""A thread hand-over costs some 50 microseconds and the interpreter's lock; a gather below this is cheaper without one."""
TRIAL_BATCHES = 3
GROUP_BYTES = 1 << 19
"""One gather of half a megabyte costs little more than one of a few kilobytes."""
MOST_TOGETHER = 64
GROUPED_BATCHES = 64
"""Among the rows of so many batches those of like length are brought together: padding is then a few per cent, and chance rules still."""


class Loader:
    """Yields the batches of an epoch.

    There is no state: the rows of global batch `s` of epoch `e` follow from (seed, e, s), and rank `r` takes the `r`-th contiguous share of
    them. So a resume starts anywhere, and N ranks see exactly what one would. Even shares' sizes differ by at most one row; in the last
    batch of an epoch a rank's share may be empty, and a batch of 0 rows is yielded, so that all ranks make equally many steps. Where a
    share must not be that small, as batch statistics need two rows, `least` joins such a last batch to the one before.

    A dataset whose rows follow each other, lane by lane (`batch_rows`), comes in its own order and in batches of its own size.

    Args:
        dataset: The prepared rows.
        seed: Decides the order.
        batch_size: Rows of a *global* batch, over all ranks.
        rank: Which share is taken.
        ranks: How many shares there are.
        shares: In what proportion the ranks share a batch, a whole number a rank, at least 1; evenly where not given.
        shuffle: Whether the order is random; without, rows come in the dataset's order.
        least: The fewest rows of a share, at least 0: a last batch with smaller ones is joined to the batch before.
        steps: How many batches an epoch has, where that was settled before for other ranks: a last batch is then joined or not as it was
            then, or steps would count other rows.
        prefetch: Whether a background thread gathers ahead; `auto` times the first batches and starts one if they are costly.
        pin: Whether batches are gathered into page-locked memory, for copies to a GPU that overlap with computing.
        group_lengths: Whether rows of like length come together, so that ragged inputs are padded less. Every row still comes once an
            epoch, and a batch is a pure function of (seed, epoch, step) as ever. `auto` groups where the order is random and rows are of
            unequal length.
        resample: Whether every class comes equally often, and how long an epoch then is: `over`, `under` or `balanced`. For datasets with
            one target of class codes, in a random order.

    Attributes:
        length: How many rows an epoch has.
        wait_s: Seconds that the consumer has waited for batches, in total.
        batches_read: How many batches were handed out.

    Raises:
        InputError: A number is out of range, or nothing would ever be yielded.
    """

    def __init__(  # noqa: PLR0913  its arguments are its settings
        self,
        dataset: PreparedDataset,
        *,
        seed: int = 0,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        shares: Sequence[int] | None = None,
        shuffle: bool = True,
        least: int = 0,
        steps: int | None = None,
        prefetch: bool | Literal["auto"] = "auto",
        pin: bool = False,
        group_lengths: bool | Literal["auto"] = "auto",
        resample: Resample | None = None,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < ranks:
            raise InputError(f"batch_size is {batch_size}, rank {rank} of {ranks}", hint="a batch has a row, ranks count from 0")
        if dataset.batch_rows is not None:
            batch_size, shuffle = dataset.batch_rows, False
        self._resampled = None if resample is None else Resampled(_class_codes(dataset, shuffle=shuffle), resample)
        self.length = len(dataset) if self._resampled is None else len(self._resampled)
        if min(batch_size, self.length) < least * ranks:
            raise InputError(
                f"each of {ranks} ranks needs {least} rows of every batch; batch_size is {batch_size}, and there are {self.length} rows",
                hint="raise batch_size, take fewer devices, or a model without batch normalisation",
            )
        self.dataset, self.seed, self.batch_size, self.rank, self.ranks = dataset, seed, batch_size, rank, ranks
        self.shuffle, self.least, self.prefetch, self.pin = shuffle, least, prefetch, pin
        self.divide(shares or [1] * ranks)
        self.wait_s = 0.0
        self.batches_read = 0
        self._costly: bool | None = None if prefetch == "auto" else bool(prefetch)
        self.group_lengths = dataset.is_ragged and (shuffle if group_lengths == "auto" else group_lengths)
        self._grouped: dict[tuple[int, int], np.ndarray] = {}
        whole, rest = divmod(self.length, batch_size)
        small = 0 < rest < least * ranks
        self._joined = steps == whole if rest and steps in (whole, whole + 1) else small
        self._steps = whole if self._joined else whole + bool(rest)
        if small and not self._joined:
            raise InputError(
                f"an epoch was begun with {steps} batches, the last of {rest} rows, and {ranks} ranks need {least} rows each",
                hint=f"go on with at most {max(rest // least, 1)} devices, or start a new run",
            )
        # ragged inputs are padded to the longest row of their own batch
        self._together = 1 if dataset.is_ragged else max(min(GROUP_BYTES // max(dataset.row_bytes * batch_size, 1), MOST_TOGETHER), 1)

    @property
    def steps(self) -> int:
        """How many batches an epoch has, the same on every rank."""
        return self._steps

    @property
    def shares(self) -> tuple[int, ...]:
        """In what proportion the ranks share a batch."""
        return self._shares

    def divide(self, shares: Sequence[int]) -> None:
        """Share batches in another proportion from now on; iterators that have begun are no longer to be used.

        Args:
            shares: A whole number a rank, at least 1.

        Raises:
            InputError: There are not as many as ranks, or one is less than 1.
        """
        if len(shares) != self.ranks or min(shares) < 1:
            raise InputError(f"the shares of {self.ranks} ranks are {list(shares)}", hint="give a whole number of at least 1 for each rank")
        self._shares, self._before = tuple(shares), (0, *accumulate(shares))

    def share(self, step: int) -> tuple[int, int, int]:
        """Return where this rank's rows begin and end in the global batch of a step, and how many rows that batch has."""
        left = self.length - step * self.batch_size
        total = left if self._joined and step == self._steps - 1 else min(self.batch_size, left)
        rest = total - self.least * self.ranks  # what every rank must have comes first, the rest goes by the shares
        start, stop = (self.least * rank + rest * self._before[rank] // self._before[-1] for rank in (self.rank, self.rank + 1))
        return start, stop, total

    def rows(self, epoch: int, step: int) -> np.ndarray:
        """Return the rows of this rank's share of a batch, int64."""
        start, stop, _ = self.share(step)
        if self.group_lengths:
            first_step = step - step % GROUPED_BATCHES
            first = (step - first_step) * self.batch_size + start
            return self._stretch(epoch, first_step)[first : first + stop - start]
        return self._ordered(epoch, step * self.batch_size + start, stop - start)

    def _ordered(self, epoch: int, start: int, count: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(start, start + count)
        if self._resampled is not None:
            return self._resampled.rows(seed=self.seed, epoch=epoch, start=start, count=count)
        return order(len(self.dataset), seed=self.seed, epoch=epoch, start=start, count=count)

    def _stretch(self, epoch: int, first_step: int) -> np.ndarray:
        """Return the rows of the batches that are grouped together, all ranks' shares, in the order of the steps."""
        grouped = self._grouped.get((epoch, first_step))
        if grouped is None:
            sizes = [self.share(step)[2] for step in range(first_step, min(first_step + GROUPED_BATCHES, self.steps))]
            rows = self._ordered(epoch, first_step * self.batch_size, sum(sizes))
            lengths = self.dataset.lengths(rows)
            grouped = by_length(rows, lengths, sizes, seed=self.seed, epoch=epoch, first_step=first_step)
            self._grouped = {(epoch, first_step): grouped}
        return grouped

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Args:
            epoch: The epoch, counted from 0.
            first_step: The first step wanted, for a resume.
        """
        step = first_step
        spent: list[float] = []
        while step < self.steps and not self._costly:
            began = time.perf_counter()
            ready = self._take(epoch, step)
            taken = time.perf_counter() - began
            self.wait_s += taken
            step += len(ready)
            for batch in ready:
                self.batches_read += 1
                yield batch
            spent += [taken / len(ready)] * len(ready)
            if self._costly is None and len(spent) >= TRIAL_BATCHES:
                self._costly = sorted(spent)[TRIAL_BATCHES // 2] > COSTLY_S
        if step < self.steps:
            yield from self._ahead(epoch, step)

    def _take(self, epoch: int, step: int) -> list[Batch]:
        """Return the batches from a step to the end of its group: small batches are gathered several at once and cut apart.

        Groups begin at multiples of their size, whatever the first step: a batch then lies at the same place in memory after a resume, on
        which the last bit of a matrix product can depend.
        """
        first = step - step % self._together
        steps = range(first, min(first + self._together, self.steps))
        if self.ranks == 1 and self.shuffle and not self.group_lengths:
            start = first * self.batch_size
            count = sum(self.share(each)[2] for each in steps)
            rows = self._ordered(epoch, start, count)
        else:
            rows = np.concatenate([self.rows(epoch, each) for each in steps])
        whole = self.dataset.take(rows, pin=self.pin)
        if len(steps) == 1:
            return [whole]
        sizes = [stop - start for start, stop, _ in map(self.share, steps)]
        return whole.cut(sizes)[step - first :]

    def _ahead(self, epoch: int, first_step: int) -> Iterator[Batch]:
        ready: queue.Queue[Batch | BaseException] = queue.Queue(QUEUED_BATCHES)
        stopped = threading.Event()

        def put(item: Batch | BaseException) -> bool:
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.1)
                except queue.Full:
                    continue
                return True
            return False

        def work() -> None:
            try:
                step = first_step
                while step < self.steps:
                    batches = self._take(epoch, step)
                    step += len(batches)
                    if not all(map(put, batches)):
                        return
            except BaseException as error:  # noqa: BLE001  handed to the consumer, who raises it
                put(error)

        worker = threading.Thread(target=work, name="deepseek-loader", daemon=True)
        worker.start()
        try:
            for _ in range(first_step, self.steps):
                began = time.perf_counter()
                item = ready.get()
                self.wait_s += time.perf_counter() - began
                if isinstance(item, BaseException):
                    raise item
                self.batches_read += 1
                yield item
        finally:
            stopped.set()
            worker.join()


def _class_codes(dataset: PreparedDataset, *, shuffle: bool) -> np.ndarray:
    """Return the class of each row, int64 `[rows]`.

    Raises:
        InputError: The dataset has no classes that rows could be drawn by, or rows are to come in their own order.
    """
    targets = [column for column in dataset.layout if column.role == "target"]
    codes = dataset.column(targets[0].name) if len(targets) == 1 and not targets[0].shape and not targets[0].ragged else None
    if not shuffle or codes is None or not (codes == np.floor(codes)).all() or (len(codes) and codes.min() < 0):
        raise InputError(
            "rows cannot be resampled by class: there is not one target of class codes, or they are to come in their own order",
            hint="resample rows of a binary or multiclass task, in training",
        )
    return np.asarray(codes, dtype=np.int64)


def rows_within(dataset: PreparedDataset, rows: int) -> int:
    """Return how many rows a batch that is only answered may have: fewer where large rows, or long ones, padded, would fill the memory.

    Args:
        dataset: The prepared rows.
        rows: The most, at least 1.
    """
    longest = int(dataset.lengths(np.arange(len(dataset))).max(initial=1))
    return max(min(rows, PADDED_ELEMENTS // max(longest, 1), ANSWERED_BYTES // max(dataset.row_bytes, 1)), 1)

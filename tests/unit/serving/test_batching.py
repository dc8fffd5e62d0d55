"""Gathering rows: every answer to its own request, whatever came when; on a loop whose clock the tests turn."""

import asyncio
import selectors
import threading

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import DataError
from deepseek.recipe.sections import BatchingSection
from deepseek.serving.batching import Batcher
from deepseek.serving.http.problems import ClientGoneError, RefusedError, RowsLostError


class Clock(asyncio.SelectorEventLoop):
    """A loop that skips the time it would wait, unless a thread is at work."""

    def __init__(self):
        super().__init__(selectors.DefaultSelector())
        self.now, self.busy = 0.0, 0

    def time(self):
        return self.now

    def run_in_executor(self, executor, function, *arguments):
        self.busy += 1
        future = super().run_in_executor(executor, function, *arguments)
        future.add_done_callback(lambda _: setattr(self, "busy", self.busy - 1))
        return future

    def _run_once(self):
        due = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if not self._ready and due and not self.busy:
            self.now = max(self.now, min(due))
        super()._run_once()


class Watch:
    def __init__(self):
        self.batches, self.reasons, self.longest = [], [], 0

    def batch(self, rows, seconds):
        self.batches.append(rows)

    def dropped(self, reason):
        self.reasons.append(reason)

    def queued(self, rows):
        self.longest = max(self.longest, rows)


class Model:
    """Doubles numbers; waits where it is told to, so that requests gather."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.seen = []

    def answer(self, batch):
        assert self.open.wait(10)
        self.seen.append(batch["x"].to_pylist())
        if -1 in self.seen[-1]:
            raise DataError("a value is -1")
        return pa.table({"y": pc.multiply(batch["x"], 2)})


def rows(*values):
    return pa.record_batch({"x": pa.array(values, pa.int64())})


def run(main):
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(main())


async def held(batcher, model):
    """Keep the model busy with one row, so that what comes next gathers."""
    model.open.clear()
    task = asyncio.ensure_future(ask(batcher, 0))
    while batcher.waiting or not batcher.running:
        await asyncio.sleep(0)
    return task


def ask(batcher, *values, deadline=1e9, gone=lambda: False):
    return batcher.submit(rows(*values), deadline=deadline, gone=gone)


def batcher_of(model, *, alone=False, watch=None, lanes=1, **settings):
    return Batcher(model.answer, BatchingSection(**settings), watch or Watch(), alone=alone, lanes=lanes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=7), min_size=1, max_size=25), st.integers(1, 9), st.booleans())
def test_every_request_gets_its_own_answers_in_its_order(requests, size, wait):
    async def main():
        batcher = batcher_of(Model(), max_size=size, max_wait_ms=5 if wait else 0)
        answers = await asyncio.gather(*(ask(batcher, *values) for values in requests))
        await batcher.close()
        return [answer["y"].to_pylist() for answer in answers]

    assert run(main) == [[2 * value for value in values] for values in requests]


def test_what_comes_while_the_model_works_goes_through_it_together():
    async def main():
        model, watch = Model(), Watch()
        batcher = batcher_of(model, watch=watch, max_size=4)
        first = await held(batcher, model)
        later = [asyncio.ensure_future(ask(batcher, number)) for number in range(6)]
        await asyncio.sleep(0)
        model.open.set()
        await asyncio.gather(first, *later)
        return model.seen, watch.batches

    seen, batches = run(main)
    assert seen == [[0], [0, 1, 2, 3], [4, 5]]
    assert batches == [1, 4, 2]


def test_an_idle_model_waits_for_more_rows_as_long_as_it_is_told():
    async def main(wait):
        model = Model()
        batcher = batcher_of(model, max_size=8, max_wait_ms=wait)
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(ask(batcher, 1))
        await asyncio.sleep(0.009)
        before = len(model.seen)
        second = asyncio.ensure_future(ask(batcher, 2))
        await asyncio.gather(first, second)
        return model.seen, before, loop.time()

    seen, before, now = run(lambda: main(10))
    assert (seen, before) == ([[1, 2]], 0)
    assert now == pytest.approx(0.010)
    assert run(lambda: main(0))[0] == [[1], [2]]


def test_a_full_batch_does_not_wait():
    async def main():
        batcher = batcher_of(Model(), max_size=3, max_wait_ms=60_000)
        await asyncio.gather(*(ask(batcher, number) for number in range(3)))
        return asyncio.get_running_loop().time()

    assert run(main) < 1


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again():
    async def main():
        model, watch = Model(), Watch()
        batcher = batcher_of(model, watch=watch, max_queue=3)
        first = await held(batcher, model)
        accepted = [asyncio.ensure_future(ask(batcher, number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as refused:
            await ask(batcher, 4)
        with pytest.raises(RefusedError) as too_large:
            await ask(batcher, 1, 2, 3, 4)
        model.open.set()
        await asyncio.gather(first, *accepted)
        return refused.value, too_large.value, watch.longest, batcher.waiting

    refused, too_large, longest, waiting = run(main)
    assert (refused.status, refused.headers) == (429, {"Retry-After": "1"})
    assert too_large.status == 413
    assert (longest, waiting) == (3, 0)


def test_what_nobody_waits_for_costs_nothing():
    async def main():
        model, watch = Model(), Watch()
        batcher = batcher_of(model, watch=watch)
        first = await held(batcher, model)
        late = asyncio.ensure_future(ask(batcher, 1, deadline=asyncio.get_running_loop().time() - 1))
        left = asyncio.ensure_future(ask(batcher, 2, gone=lambda: True))
        cancelled = asyncio.ensure_future(ask(batcher, 3))
        kept = asyncio.ensure_future(ask(batcher, 4))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        model.open.set()
        await asyncio.gather(first, kept)
        with pytest.raises(RefusedError) as timed_out:
            await late
        with pytest.raises(ClientGoneError):
            await left
        return model.seen, timed_out.value.status, watch.reasons

    seen, status, reasons = run(main)
    assert seen == [[0], [4]]
    assert status == 504
    assert sorted(reasons) == ["cancelled", "deadline", "disconnected"]


def test_a_bad_request_spoils_no_other():
    async def main():
        model = Model()
        batcher = batcher_of(model)
        first = await held(batcher, model)
        later = [asyncio.ensure_future(ask(batcher, value)) for value in (1, -1, 2)]
        await asyncio.sleep(0)
        model.open.set()
        await first
        return await asyncio.gather(*later, return_exceptions=True)

    one, bad, two = run(main)
    assert (one["y"].to_pylist(), two["y"].to_pylist()) == ([2], [4])
    assert isinstance(bad, DataError)


def test_a_defect_of_the_model_reaches_those_who_wait_and_the_next_are_answered():
    async def main():
        model = Model()
        batcher = batcher_of(model)
        batcher._answer = lambda batch: 1 / 0
        with pytest.raises(ZeroDivisionError):
            await ask(batcher, 1)
        batcher._answer = model.answer
        return (await ask(batcher, 2))["y"].to_pylist()

    assert run(main) == [4]


def losing(model, poison):
    """Answers all rows but one, as runners do that die of it."""

    def answer(batch):
        answers = model.answer(batch)
        lost = {place: "it died" for place, value in enumerate(batch["x"].to_pylist()) if value == poison}
        if lost:
            raise RowsLostError(lost, answers.filter(pc.not_equal(answers["y"], 2 * poison)))
        return answers

    return answer


def test_a_row_that_kills_costs_only_itself():
    async def main():
        model = Model()
        batcher = batcher_of(model, max_size=4)
        batcher._answer = losing(model, 7)
        first = await held(batcher, model)
        later = [asyncio.ensure_future(ask(batcher, *values)) for values in ((1, 2), (7,), (3,), (4, 5, 6, 8, 9, 7, 10))]
        await asyncio.sleep(0)
        model.open.set()
        await first
        return await asyncio.gather(*later, return_exceptions=True)

    one, alone, other, pieces = run(main)
    assert (one["y"].to_pylist(), other["y"].to_pylist()) == ([2, 4], [6])
    assert (list(alone.lost), alone.answers.num_rows) == ([0], 0)
    assert (list(pieces.lost), pieces.answers["y"].to_pylist()) == ([5], [8, 10, 12, 16, 18, 20])


@pytest.mark.parametrize("lanes", [1, 2])
def test_as_many_batches_run_at_once_as_there_are_lanes(lanes):
    async def main():
        model, begun = Model(), threading.Semaphore(0)
        batcher = batcher_of(model, lanes=lanes, max_size=1)
        batcher._answer = lambda batch: (begun.release(), model.answer(batch))[1]
        model.open.clear()
        asked = [asyncio.ensure_future(ask(batcher, number)) for number in range(3)]
        for _ in range(lanes):
            while not begun.acquire(blocking=False):
                await asyncio.sleep(0)
        running, waiting = batcher.running, batcher.waiting
        model.open.set()
        answers = await asyncio.gather(*asked)
        await batcher.close()
        return running, waiting, [answer["y"].to_pylist() for answer in answers]

    assert run(main) == (lanes, 3 - lanes, [[0], [2], [4]])


def test_a_large_request_goes_through_in_pieces():
    async def main():
        model = Model()
        batcher = batcher_of(model, max_size=4)
        answer = await ask(batcher, *range(10))
        return model.seen, answer["y"].to_pylist()

    seen, answers = run(main)
    assert [len(part) for part in seen] == [4, 4, 2]
    assert answers == [2 * value for value in range(10)]


def test_requests_stay_apart_where_preparation_looks_at_neighbours():
    async def main(alone):
        model = Model()
        batcher = batcher_of(model, alone=alone)
        first = await held(batcher, model)
        later = [asyncio.ensure_future(ask(batcher, value)) for value in (1, 2)]
        await asyncio.sleep(0)
        model.open.set()
        await asyncio.gather(first, *later)
        return model.seen

    assert run(lambda: main(alone=True)) == [[0], [1], [2]]
    assert run(lambda: main(alone=False)) == [[0], [1, 2]]


def test_closing_answers_what_was_accepted():
    async def main():
        batcher = batcher_of(Model(), max_wait_ms=60_000, max_size=100)
        waiting = [asyncio.ensure_future(ask(batcher, value)) for value in range(5)]
        await asyncio.sleep(0)
        await batcher.close()
        return [(await one)["y"].to_pylist() for one in waiting], asyncio.get_running_loop().time()

    answers, now = run(main)
    assert answers == [[0], [2], [4], [6], [8]]
    assert now < 1  # who stops waits for no more rows

"""Work in several threads: the batches' order, bounded look-ahead, errors in their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data import materialize, preparation
from deepseek.data.preparation import Preparation
from deepseek.data.threads import AtOnce, in_order, threads_here
from deepseek.data.transforms.number import NumberTransform
from deepseek.fields import Field, Kind, Schema


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert list(in_order(lambda item: item * item, range(100), threads=threads)) == [item * item for item in range(100)]


def test_two_items_are_worked_on_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)
    assert list(in_order(lambda item: (both.wait() >= 0, item)[1], range(4), threads=2)) == [0, 1, 2, 3]


def test_items_are_taken_only_a_few_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items(), threads=3)
    for done in range(10):
        assert next(results) == done
        assert len(taken) <= done + 1 + 3
    results.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_in_its_place(threads: int) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise KeyError(item)
        return item

    seen = []
    with pytest.raises(KeyError):
        seen.extend(in_order(work, range(10), threads=threads))
    results = in_order(work, range(10), threads=threads)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)


@pytest.mark.parametrize("threads", [1, 2])
def test_several_things_are_done_and_the_first_error_is_raised(threads: int) -> None:
    done: list[str] = []

    def fail(name: str) -> None:
        raise ValueError(name)

    with AtOnce(threads) as at_once:
        at_once.run([lambda: done.append("a"), lambda: done.append("b")])
        with pytest.raises(ValueError, match="first"):
            at_once.run([lambda: fail("first"), lambda: fail("second")])
    assert sorted(done) == ["a", "b"]


def test_things_done_at_once_overlap() -> None:
    both = threading.Barrier(2, timeout=60)
    with AtOnce(2) as at_once:
        at_once.run([both.wait, both.wait])


def test_there_is_at_least_one_thread() -> None:
    assert threads_here() >= 1


@pytest.mark.parametrize("threads", [1, 3])
def test_fitting_and_preparing_in_threads_gives_the_same_numbers(threads, tmp_path, monkeypatch) -> None:
    draw = np.random.default_rng(0)
    rows = {"x": draw.normal(size=5_000), "y": draw.integers(0, 9, 5_000), "c": draw.choice(["a", "b", "c"], 5_000)}
    batches = pa.table({**rows, "t": draw.choice(["no", "yes"], 5_000)}).to_batches(max_chunksize=700)
    schema = Schema((Field("x", Kind.NUMBER), Field("y", Kind.NUMBER), Field("c", Kind.CATEGORY), Field("t", Kind.CATEGORY)), ("t",))
    used: set[str] = set()
    for name in ("observe", "apply"):
        whole = getattr(NumberTransform, name)

        def noted(self, batch, name=name, whole=whole):
            used.add(f"{name} in the main thread: {threading.current_thread() is threading.main_thread()}")
            return whole(self, batch)

        monkeypatch.setattr(NumberTransform, name, noted)

    def made(count, folder):
        monkeypatch.setattr(preparation, "threads_here", lambda: count)
        monkeypatch.setattr(materialize, "threads_here", lambda: count)
        fitted = Preparation(schema, target="binary").fit(lambda: iter(batches))
        dataset, _ = materialize.prepare(fitted, iter(batches), folder, rows=5_000, training=True)
        return fitted.to_json(), dataset.take(np.arange(5_000))

    learned, batch = made(threads, tmp_path / "threads")
    assert used == {f"{name} in the main thread: {threads == 1}" for name in ("observe", "apply")}
    alone, wanted = made(1, tmp_path / "alone")
    assert learned == alone
    assert all((batch.inputs[name] == wanted.inputs[name]).all() for name in wanted.inputs)
    assert (batch.targets["target"] == wanted.targets["target"]).all()

"""Counts and times of a server, for Prometheus: summed over all workers, whichever of them is asked.

Every worker keeps its values in a file of its own, which it maps into memory: to count is to add to a number. Whoever is asked reads the
files of all. Counters and histograms of workers that have died stay in the sum, as counters must never fall; gauges count the living only.
The text is Prometheus's exposition format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).
"""

from __future__ import annotations

import contextlib
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

import orjson

from deepseek.serving.hardware import gpu_samples, process_samples

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
SLOTS = 16_384
SECONDS = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

Kind = Literal["counter", "gauge", "histogram"]


class _Family(NamedTuple):
    kind: Kind
    help: str
    bounds: tuple[float, ...] = ()


FAMILIES: dict[str, _Family] = {
    "deepseek_requests_total": _Family("counter", "Requests answered, by model, endpoint and HTTP status."),
    "deepseek_request_seconds": _Family("histogram", "Time from a request's headers to its answer, by model.", SECONDS),
    "deepseek_rows_total": _Family("counter", "Rows of requests, by model and outcome: answered, bad."),
    "deepseek_batch_rows": _Family("histogram", "Rows that went through the network at once, by model.", ROWS),
    "deepseek_model_seconds": _Family("histogram", "Time that one batch took: preparation, network and decoding.", SECONDS),
    "deepseek_dropped_total": _Family(
        "counter", "Requests taken out of the queue unanswered, by model and reason: deadline, disconnected."
    ),
    "deepseek_queue_rows": _Family("gauge", "Rows that wait for the model."),
    "deepseek_requests_in_flight": _Family("gauge", "Requests being read or answered."),
    "deepseek_model_info": _Family("gauge", "Workers that answer with this version of a model."),
    "deepseek_model_loads_total": _Family("counter", "Times a bundle was taken up while serving, by model and outcome."),
    "deepseek_observer_dropped_total": _Family("counter", "Answers that an observer was not told of, as its queue was full."),
    "deepseek_observer_failures_total": _Family("counter", "Errors that an observer raised."),
    "deepseek_experiment_rows_total": _Family("counter", "Rows of an experiment that were answered, by model and arm."),
    "deepseek_experiment_lost_rows_total": _Family(
        "counter", "Rows that an arm did not answer, by reason: failed, late, busy, resting, unreadable, closed; the champion did instead."
    ),
    "deepseek_experiment_seconds": _Family("histogram", "Time that an arm took for its rows of a request.", SECONDS),
    "deepseek_feedback_total": _Family("counter", "Outcomes that clients told, by model and outcome: accepted, refused."),
    "deepseek_journal_dropped_total": _Family("counter", "Answers that the journal had no room for: the watch will not know of them."),
    "deepseek_journal_bytes": _Family("gauge", "Bytes of the journal that its reader has not read."),
    "deepseek_journal_damaged_total": _Family("counter", "Stretches of the journal that were passed over, by reason: torn, damaged."),
    "deepseek_recorder_entries_total": _Family("counter", "Entries of the journal that the recorder has read."),
    "deepseek_recorder_failures_total": _Family("counter", "Errors of what the recorder feeds, by consumer."),
    "deepseek_recorder_lag_seconds": _Family("gauge", "Age of the journal's entry that was read last, when it was read."),
    "deepseek_recorders": _Family("gauge", "Recorders that read the journal."),
    "deepseek_unwatched_rows_total": _Family("counter", "Answered rows, and labels, of models that nobody watches, by model."),
    "deepseek_alarm_failures_total": _Family("counter", "Times an alarm could not be told; it is told again."),
    "deepseek_workers": _Family("gauge", "Workers that accept requests."),
    "deepseek_process_resident_bytes": _Family("gauge", "Memory that a process of the server has in RAM, by process and role."),
    "deepseek_process_cpu_seconds_total": _Family("counter", "Time that a process of the server has computed, by process and role."),
    "deepseek_gpu_utilization_ratio": _Family("gauge", "Share of the last moments in which a GPU computed, 0 to 1."),
    "deepseek_gpu_memory_used_bytes": _Family("gauge", "Memory of a GPU that is taken, by whomever."),
    "deepseek_gpu_memory_bytes": _Family("gauge", "Memory of a GPU."),
    "deepseek_runners": _Family("gauge", "Processes ready to run the model for their workers."),
    "deepseek_runner_ends_total": _Family("counter", "Such processes that ended untold and were replaced, by reason: died, hung."),
    "deepseek_ingest_contents_total": _Family("counter", "Contents that came, by topic and outcome: stored, duplicate, refused."),
    "deepseek_ingest_records_total": _Family("counter", "Records of stored contents, by topic and outcome: kept, rejected."),
    "deepseek_ingest_bytes_total": _Family("counter", "Bytes of stored contents, by topic."),
    "deepseek_ingest_waiting_contents": _Family("gauge", "Contents that are stored and not in a part yet."),
    "deepseek_ingest_waiting_bytes": _Family("gauge", "Bytes of contents that are stored, or being received, and not in a part yet."),
    "deepseek_ingest_parts_total": _Family("counter", "Parts written, by topic."),
    "deepseek_ingest_failures_total": _Family("counter", "Times that writing a part failed and is tried again."),
}


class Cell:
    """One number in the worker's file."""

    __slots__ = ("_place", "_values")

    def __init__(self, values: memoryview[float], place: int) -> None:
        self._values, self._place = values, place

    def add(self, amount: float = 1.0) -> None:
        """Add to the number."""
        self._values[self._place] += amount

    def set(self, value: float) -> None:
        """Set the number."""
        self._values[self._place] = value


class Histogram:
    """Counts of values by size, as Prometheus wants them; p50 and p99 follow with `histogram_quantile`."""

    __slots__ = ("_bounds", "_cells", "_sum")

    def __init__(self, bounds: tuple[float, ...], cells: list[Cell], total: Cell) -> None:
        self._bounds, self._cells, self._sum = bounds, cells, total

    def observe(self, value: float) -> None:
        """Count one value."""
        self._cells[bisect_left(self._bounds, value)].add()
        self._sum.add(value)


class Metrics:
    """The numbers of one worker.

    Args:
        folder: Where the workers of one server keep their files.
        role: What this process does: `worker` or `recorder`.
    """

    def __init__(self, folder: Path, *, role: str = "worker") -> None:
        self._folder = folder
        name = f"{os.getpid()}-{role}-{os.urandom(4).hex()}"
        self._keys = folder / f"{name}.keys"
        with (folder / f"{name}.values").open("w+b") as file:
            file.truncate(8 * SLOTS)
            self._map = mmap.mmap(file.fileno(), 8 * SLOTS)
        self._values = memoryview(self._map).cast("d")
        self._making = Lock()
        self._cells: dict[tuple[Any, ...], Cell] = {}
        self._histograms: dict[tuple[Any, ...], Histogram] = {}

    def cell(self, name: str, **labels: str) -> Cell:
        """Return the number of a counter or gauge with these labels; the same object each time."""
        key = (name, *labels.items())
        return self._cells.get(key) or self._cell(key, {"name": name, "labels": labels})

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Return the histogram of this name with these labels; the same object each time."""
        key = (name, *labels.items())
        made = self._histograms.get(key)
        if made is None:
            bounds = FAMILIES[name].bounds
            ends = [*(f"{bound:g}" for bound in bounds), "+Inf"]
            cells = [self._cell((*key, end), {"name": name, "labels": labels, "end": end}) for end in ends]
            made = Histogram(bounds, cells, self._cell((*key, "sum"), {"name": name, "labels": labels, "end": "sum"}))
            self._histograms[key] = made
        return made

    def _cell(self, key: tuple[Any, ...], meaning: dict[str, Any]) -> Cell:
        with self._making:  # a name's line is its number's place: threads that made some at once would mix them up
            made = self._cells.get(key)
            if made is None:
                # past the last place, numbers are kept for nobody: labels are names of models and statuses, which are few
                place = min(len(self._cells), SLOTS - 1)
                if place < SLOTS - 1:
                    with self._keys.open("ab") as file:
                        file.write(orjson.dumps(meaning) + b"\n")
                made = self._cells[key] = Cell(self._values, place)
            return made

    def text(self) -> bytes:
        """Return the numbers of all workers in Prometheus's format."""
        sums: dict[str, dict[tuple[tuple[str, str], ...], dict[str, float]]] = {}
        processes: dict[int, str] = {}
        for path in sorted(self._folder.glob("*.keys")):
            process, role, _ = path.name.split("-")
            living = _lives(int(process))
            if living:
                processes[int(process)] = role
            for meaning, value in _numbers(path):
                if living or FAMILIES[meaning["name"]].kind != "gauge":
                    ends = sums.setdefault(meaning["name"], {}).setdefault(tuple(meaning["labels"].items()), {})
                    end = meaning.get("end", "")
                    ends[end] = ends.get(end, 0.0) + value
        for name, about, value in (*process_samples(processes), *gpu_samples()):
            sums.setdefault(name, {})[tuple(about.items())] = {"": value}
        lines: list[str] = []
        for name, family in FAMILIES.items():
            if name in sums:
                lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
                for labels, ends in sums[name].items():
                    lines += _lines(name, labels, ends)
        return ("\n".join(lines) + "\n").encode() + b"".join(_texts(self._folder))


def _texts(folder: Path) -> Iterator[bytes]:
    """Return what other processes of the server have written as text: the figures of the watch."""
    for path in sorted(folder.glob("*.prom")):
        with contextlib.suppress(FileNotFoundError):
            yield path.read_bytes()


def _numbers(path: Path) -> Iterator[tuple[dict[str, Any], float]]:
    whole = path.read_bytes().rpartition(b"\n")[0]  # the last line may be half written
    values = memoryview(path.with_suffix(".values").read_bytes()).cast("d")
    for place, line in enumerate(whole.splitlines()):
        yield orjson.loads(line), values[place]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lines(name: str, labels: tuple[tuple[str, str], ...], ends: dict[str, float]) -> Iterator[str]:
    if "" in ends:
        yield f"{name}{_labels(labels)} {_number(ends[''])}"
        return
    count = 0.0
    for end, value in ends.items():
        if end != "sum":
            count += value
            yield f"{name}_bucket{_labels((*labels, ('le', end)))} {_number(count)}"
    yield f"{name}_sum{_labels(labels)} {_number(ends.get('sum', 0.0))}"
    yield f"{name}_count{_labels(labels)} {_number(count)}"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    parts = [f'{key}="{_escaped(value)}"' for key, value in labels]
    return f"{{{','.join(parts)}}}" if parts else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

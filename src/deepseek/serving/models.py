"""The models behind one address: opened, warmed, exchanged while they are in use."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from os import PathLike, fspath
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from PIL import Image

from deepseek.artifacts import Bundle, sha256_file
from deepseek.data.cleaning.base import Cleaner
from deepseek.data.volumes import blank_volume
from deepseek.data.windows.opening import preparation_of
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.fields import Kind
from deepseek.inference import Predictor
from deepseek.monitoring.outcomes import Target
from deepseek.recipe.sections import ServeSection
from deepseek.registry import load_plugin
from deepseek.serving.batching import Batcher
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.metrics import Metrics
from deepseek.serving.rows.answers import AnswerWriter
from deepseek.serving.rows.feedback import FeedbackReader
from deepseek.serving.rows.reader import RowReader
from deepseek.serving.runners.pool import WARM_ROUNDS, Job, Runners
from deepseek.serving.state import version_of

log = logging.getLogger("deepseek.serving")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Answers(Protocol):
    """What answers: `Predictor`, or anything that does the same."""

    def answer(self, batch: pa.RecordBatch, /) -> pa.Table:
        """Answer every row of a batch, in order."""


class ServedModel:
    """One bundle, ready to answer.

    Args:
        name: The model's name in the address.
        path: A run, a run's name, or a bundle.
        settings: How it is served.
        metrics: Where it counts.
        plugins: The plugins that the bundle needs.
        thread: Where the network runs, instead of in a new thread.

    Attributes:
        version: The run's number and the beginning of the bundle's hash.
        bundle: The bundle's own folder: `path` may be a name, whose newest run changes.
        runs_in: The library that runs the network; of runners, what they were told.
        in_use: How many requests hold it.
        outcome: What its answers are compared with, where that is known.

    Raises:
        BundleError: The bundle is not there, or not as it was written.
    """

    def __init__(
        self,
        name: str,
        path: str | PathLike[str],
        *,
        settings: ServeSection,
        metrics: Metrics,
        plugins: Sequence[str] = (),
        thread: Executor | None = None,
    ) -> None:
        self.name, self.path = name, str(path)
        for plugin in plugins:
            load_plugin(plugin, Path())
        bundle = Bundle.open(Path(path))
        self.version, self.bundle = version_of(bundle), str(bundle.path.absolute())
        preparation = preparation_of(bundle.read("data.json"))
        self.target = preparation.schema.target
        self.outcome = None if preparation.target is None else Target.of(preparation.target)
        self.feedback = FeedbackReader(preparation.target, max_rows=settings.max_rows)
        self.reader = RowReader(preparation, max_rows=settings.max_rows)
        self._channels = {spec.columns[0]: spec.shape[-1] for spec in preparation.inputs.values() if spec.kind is Kind.VOLUME}
        # a step that looks at rows before would mix the rows of different clients
        alone = any(type(cleaner).start is not Cleaner.start for cleaner in preparation.cleaners)
        self.in_use = 0
        self._begun = False
        self._watch = _Watch(name, metrics)
        self._runners: Runners | None = None
        if settings.runners:
            job = Job(
                bundle.path.absolute(), sha256_file(bundle.path / "manifest.json"), settings.backend, tuple(plugins),
                warm=self._blank(), rowwise=not alone, timeout_s=settings.timeout,
            )  # fmt: skip
            self._runners = Runners(name, job, settings.runners, watch=self._watch)
        self.predictor: Answers = self._runners or Predictor.load(path, backend=settings.backend, plugins=plugins, served=True)
        self.writer = AnswerWriter(self._runners.schema if self._runners else self._warm().schema)
        # runners open the bundle for themselves, in the same way
        self.runs_in = self.predictor.backend.library if isinstance(self.predictor, Predictor) else settings.backend
        self._info = metrics.cell("deepseek_model_info", model=name, version=self.version, backend=self.runs_in)
        self.batcher = Batcher(
            self.predictor.answer, settings.batching, self._watch, alone=alone, lanes=max(1, settings.runners), thread=thread
        )

    def _warm(self) -> pa.Table:
        """Answer rows without values: libraries make their kernels and buffers on first use, which no client is to wait for."""
        row = self._blank()
        for _ in range(WARM_ROUNDS):
            answers = self.predictor.answer(row)
        return answers

    def _blank(self) -> pa.RecordBatch:
        blank = {Kind.IMAGE: _blank_image, Kind.AUDIO: _blank_sound}
        values = {one.name: blank[one.kind]() if one.kind in blank else None for one in self.reader.fields}
        values |= {one.name: one.convert(one.example) for one in self.reader.fields if one.needed}
        values |= {name: blank_volume(channels) for name, channels in self._channels.items()}
        return pa.RecordBatch.from_arrays([pa.array([values[one.name]], one.type) for one in self.reader.fields], schema=self.reader.schema)

    def begin(self) -> None:
        """Say that this worker answers with it; however often that is said it counts once."""
        if not self._begun:
            self._begun = True
            self._info.add(1)  # the same bundle may be open twice while it is exchanged for another form

    async def retire(self) -> None:
        """Wait until no request holds it, and let it go."""
        if self._begun:
            self._begun = False
            self._info.add(-1)
        while self.in_use:
            await asyncio.sleep(0.01)
        await self.close()

    async def close(self) -> None:
        """Answer what was accepted, and let it go."""
        await self.batcher.close()
        if self._runners is not None:
            self._runners.close()

    def describe(self) -> dict[str, object]:
        """Return what a client may want to know."""
        fields = [{"name": one.name, "kind": one.kind.value, "schema": one.schema, "example": one.example} for one in self.reader.fields]
        return {
            "name": self.name,
            "version": self.version,
            "backend": self.runs_in,
            "target": list(self.target),
            "fields": fields,
            "classes": list(self.writer.classes),
            "answer": self.writer.json_schema(),
            "feedback": self.feedback.json_schema(),
        }

    def bad_rows(self, batch: pa.RecordBatch) -> dict[int, str]:
        """Return why rows cannot be prepared, by their place: slow, for batches that could not be answered."""
        found = {}
        for place in range(batch.num_rows):
            try:
                self.predictor.answer(batch.slice(place, 1))
            except DataError as error:
                found[place] = error.message
        return found


class Models:
    """The models of a server, by name; each may be exchanged while requests come in.

    Args:
        paths: The bundles by name.
        settings: How they are served.
        metrics: Where they count.
        plugins: The plugins that bundles need.
    """

    def __init__(self, paths: Mapping[str, str], settings: ServeSection, metrics: Metrics, *, plugins: Sequence[str] = ()) -> None:
        self._settings, self._metrics, self._plugins = settings, metrics, tuple(plugins)
        self._served: dict[str, ServedModel] = {name: self._open(name, path) for name, path in paths.items()}
        for model in self._served.values():
            model.begin()
        self._retiring: set[asyncio.Task[None]] = set()
        self.changed: Callable[[], None] = lambda: None

    def _open(self, name: str, path: str, thread: Executor | None = None) -> ServedModel:
        return ServedModel(name, path, settings=self._settings, metrics=self._metrics, plugins=self._plugins, thread=thread)

    async def open_beside(self, name: str, path: str, thread: Executor) -> ServedModel:
        """Open another bundle, which nobody is answered by yet.

        Args:
            name: What its figures are called.
            path: The bundle.
            thread: Where it is opened, and its network runs.

        Raises:
            BundleError: The bundle is not there, or not as it was written.
        """
        return await asyncio.get_running_loop().run_in_executor(thread, self._open, name, path, thread)

    def all(self) -> list[ServedModel]:
        """The models in the order they were given."""
        return list(self._served.values())

    def find(self, name: str) -> ServedModel | None:
        """Return the model of a name, or nothing."""
        return self._served.get(name)

    def get(self, name: str) -> ServedModel:
        """Return the model of a name.

        Raises:
            RefusedError: There is none (404).
        """
        model = self._served.get(name)
        if model is None:
            unknown = UnknownNameError("model", name[:100], list(self._served))
            raise RefusedError(404, unknown.message, hint=unknown.hint)
        return model

    async def load(self, name: str, path: str) -> ServedModel:
        """Take up another bundle: it is verified, opened and warmed beside the old one, which goes on answering until the switch.

        Args:
            name: The model to be exchanged.
            path: The new bundle.

        Raises:
            RefusedError: There is no such model, or the bundle takes other fields than a JSON object can hold.
            BundleError: The bundle is not there, or not as it was written; the old one stays.
        """
        began = time.perf_counter()
        new = await self.open(name, path)
        self.exchange(new, seconds=time.perf_counter() - began)
        return new

    async def open(self, name: str, path: str) -> ServedModel:
        """Verify, open and warm another bundle, which answers nobody until `exchange`.

        Args:
            name: The model in whose place it is to come.
            path: The bundle.

        Raises:
            RefusedError: There is no such model, or the bundle takes other fields than a JSON object can hold.
            BundleError: The bundle is not there, or not as it was written.
        """
        self.get(name)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._open, name, path)
        except BaseException:
            self._metrics.cell("deepseek_model_loads_total", model=name, outcome="failed").add()
            raise

    def exchange(self, new: ServedModel, *, seconds: float) -> None:
        """Answer with a model that was opened from now on; the one before it is let go once its last request is answered.

        Args:
            new: What `open` returned.
            seconds: How long it took to open it, for the log.
        """
        name = new.name
        old = self._served[name]
        self._served[name] = new
        new.begin()
        self._metrics.cell("deepseek_model_loads_total", model=name, outcome="loaded").add()
        task = asyncio.get_running_loop().create_task(old.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        log.info("model %s: %s in the place of %s, after %.2f s", name, new.version, old.version, seconds)
        self.changed()

    async def close(self) -> None:
        """Answer what was accepted, and let go of everything."""
        for model in self.all():
            await model.close()


def named_paths(runs: Sequence[str | PathLike[str]]) -> dict[str, str]:
    """Return the bundles by name: `NAME=PATH`, or a run's folder, whose name is that of its recipe.

    Raises:
        InputError: Two have the same name, or a name cannot stand in an address.

    Example:
        >>> named_paths(["runs/churn/002", "old=runs/churn/001"])
        {'churn': 'runs/churn/002', 'old': 'runs/churn/001'}
    """
    if not runs:
        raise InputError("there is nothing to serve", hint="name a run: deepseek serve runs/NAME")
    found: dict[str, str] = {}
    for given in runs:
        text = fspath(given)  # what a run came to is a path too, and says more than that as text
        name, separator, path = text.partition("=")
        if not separator:
            name, path = _name_of(Path(text)), text
        if not NAME.fullmatch(name):
            raise InputError(
                f"the model's name {name!r} cannot stand in an address", hint="give it one of letters, digits, . _ -: NAME=PATH"
            )
        if name in found:
            raise InputError(f"two models have the name {name!r}: {found[name]} and {path}", hint="give one another name: NAME=PATH")
        found[name] = path
    return found


def _name_of(path: Path) -> str:
    parts = [part for part in path.absolute().parts if part != "bundle"]
    return next((part for part in reversed(parts) if not part.isdigit()), "model").strip("/")


def _blank_image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def _blank_sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(4_000))
    return file.getvalue()


class _Watch:
    """Counts what a model's batcher does."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._rows = metrics.histogram("deepseek_batch_rows", model=name)
        self._seconds = metrics.histogram("deepseek_model_seconds", model=name)
        self._queue = metrics.cell("deepseek_queue_rows", model=name)
        self._metrics, self._name = metrics, name

    def batch(self, rows: int, seconds: float) -> None:
        self._rows.observe(rows)
        self._seconds.observe(seconds)

    def dropped(self, reason: str) -> None:
        self._metrics.cell("deepseek_dropped_total", model=self._name, reason=reason).add()

    def queued(self, rows: int) -> None:
        self._queue.set(rows)

    def runners(self, change: int) -> None:
        self._metrics.cell("deepseek_runners", model=self._name).add(change)

    def runner_ended(self, reason: str) -> None:
        self._metrics.cell("deepseek_runner_ends_total", model=self._name, reason=reason).add()

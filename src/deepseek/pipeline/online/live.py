"""Learning from a live stream: poll, answer, learn, save; a learner that is killed goes on as if nothing had been.

The position in the stream is part of the state: one checkpoint holds weights, optimizer, what is rehearsed, the detectors, the generators
and where the stream stood behind the last row that was learned. The server is told of a position once the disk has the state. So what a
killed learner had learned since its last checkpoint is forgotten with its position, and is learned again from the messages, once.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from deepseek import progress as display
from deepseek.artifacts import CACHE, RunFolder, StageCache, locked, write_json
from deepseek.data.checks.base import Check
from deepseek.data.preparation import Preparation
from deepseek.data.sources.stream import SnapshotSource
from deepseek.data.streams.base import Stream
from deepseek.data.streams.rows import Rows
from deepseek.errors import CheckError, DataError, InputError
from deepseek.inference import build_model
from deepseek.learning.online import ProgressiveValidation
from deepseek.pipeline.online.messages import Aside, Messages, Usable, without_places
from deepseek.pipeline.online.rejects import RejectsLog
from deepseek.pipeline.online.saving import Saver
from deepseek.pipeline.online.student import Start, Student, begin, tell_short_warmup, watched_errors
from deepseek.pipeline.preparing.sources import source_of
from deepseek.pipeline.resuming import require_same_recipe
from deepseek.recipe import Recipe
from deepseek.recipe.load import keep_recipe
from deepseek.recipe.sections import LearnSection, LiveSection
from deepseek.registry import family
from deepseek.training.checkpoints.files import Tensors, list_checkpoints, load_latest, save_checkpoint
from deepseek.training.guards.interruption import Interruption
from deepseek.training.state import Json, kept_generators, seed_generators

SAVE_EVERY = 1_000
"""Rows after which the state is saved where the recipe says nothing."""
KEEP = 2
LIVE = "live.json"
"""The file that marks a run which learned from a live stream: its checkpoints are no training's."""
LOCK = "lock"
_ENOUGH = 1_000
"""Messages from which on the share of those set aside says something."""


def learn_live(recipe: Recipe, section: LearnSection, live: LiveSection, *, out: Path, resume: bool) -> dict[str, Any]:
    """Learn from a recipe's stream as its messages come, until there are enough, it falls silent, or somebody says stop.

    Args:
        recipe: The recipe, whose source is a stream.
        section: How it learns.
        live: When it waits and ends.
        out: The folder that holds the runs.
        resume: Whether to go on with the newest run of the recipe, if there is one.

    Returns:
        As `deepseek.learn`, and the position in the stream under `position`.

    Raises:
        CheckError: Too many messages cannot be used.
        DataError: The stream cannot be read, or does not keep what comes next.
        InputError: The source is no stream, or the run is another recipe's.
    """
    source = source_of(recipe, recipe.data.source)
    if not isinstance(source, SnapshotSource):
        raise InputError("learn.live needs a stream", hint="a source of type kafka, pulsar or stream; files are learned without live")
    folder, is_new = _folder(recipe, out, resume=resume)
    refused = InputError(f"another process learns in {folder.path}", hint="stop it, or start a new run without resume")
    with (
        folder.gone_if_bare(LIVE, LOCK) if is_new else nullcontext(),
        kept_generators(torch.device("cpu")),
        locked(folder.path / LOCK, refuse=lambda _: refused),
        source.open_stream() as stream,
        Interruption(lambda _: None) as interruption,
    ):
        seed_generators(recipe.seed, torch.device("cpu"))
        messages = Messages(stream, source, live, stopped=lambda: interruption.signal is not None)
        learner = _Learner(recipe, section, folder, StageCache(out / CACHE))
        if list_checkpoints(folder.checkpoints):
            learner.take_up(stream)
        else:
            stream.seek({})
            learner.begin(messages, stream)
        return learner.run(messages, stream, live)


def _folder(recipe: Recipe, out: Path, *, resume: bool) -> tuple[RunFolder, bool]:
    """Return the newest run that learned this recipe's stream, or a new one, and whether it is new."""
    begun = sorted((out / recipe.name).glob(f"*/{LIVE}"), key=lambda path: int(path.parent.name))
    if resume and begun:
        folder = RunFolder(begun[-1].parent)
        require_same_recipe(folder, recipe)
        return folder, False
    folder = RunFolder.create(out, recipe.name)
    keep_recipe(recipe, folder.recipe)
    write_json(folder.path / LIVE, {"resume": "deepseek learn RECIPE --resume"})
    return folder, True


@dataclass
class _Parts:
    """What is there once learning has begun."""

    start: Start
    usable: Usable
    student: Student
    validation: ProgressiveValidation
    saver: Saver


class _Learner:
    """Learns from what comes, and keeps its state in the run's checkpoints."""

    def __init__(self, recipe: Recipe, section: LearnSection, folder: RunFolder, cache: StageCache) -> None:
        self._recipe, self._section, self._folder, self._cache = recipe, section, folder, cache
        self._every = section.save_every or SAVE_EVERY
        self._counts: Counter[str] = Counter()
        self._messages = self._lost = self._saved_at = 0
        self._saved_messages: int | None = None
        self._before_s, self._began = 0.0, time.monotonic()
        self._rejects = RejectsLog(folder.rejects / "stream.jsonl")
        self._parts: _Parts | None = None

    @property
    def parts(self) -> _Parts:
        """What is there once learning has begun."""
        assert self._parts is not None, "learning has begun"
        return self._parts

    def begin(self, messages: Messages, stream: Stream) -> None:
        """Wait for the first rows, fit the transforms on them, and learn them."""
        display.log(f"waiting for the first {self._section.warmup:,} messages of {stream.name}")
        self._rejects.cut(0)
        received = messages.gather(self._section.warmup, patient=True)
        if received is None:
            raise DataError(f"{stream.name} is silent, and no row is there to begin with", hint="wait for messages, or say start: earliest")
        tell_short_warmup(received.good.num_rows + received.bad.num_rows, self._section, what="messages")
        rows = self._taken(received)
        usable = Usable(rows.schema, self._checks())
        good, aside = usable.checked(rows)
        self._set_aside(aside)
        with tempfile.TemporaryDirectory(prefix="deepseek-stream-") as work:
            start = begin(self._recipe, self._section, iter([good]), cache=self._cache, work=Path(work))
        self._make(start, usable)
        self._learn(good)
        self.save(stream)

    def take_up(self, stream: Stream) -> None:
        """Go on from the newest checkpoint."""
        # an older one must be asked for by hand: what lies between may be acknowledged, and gone at the server
        path, tensors, state, _ = load_latest(self._folder.checkpoints, fall_back=False)
        preparation = Preparation.from_json(state["preparation"])
        specs = state["specs"]
        start = Start(preparation, build_model(preparation, specs["model"], specs["task"]), specs, plugins=state["plugins"])
        self._make(start, Usable(pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(state["schema"]))), self._checks()))
        self._load(tensors, state)
        stream.seek(state["position"])
        display.log(f"going on from {path.name}, behind {self._messages:,} messages")
        if not self._folder.bundle.is_dir():
            self.parts.saver.write_bundle({})

    def run(self, messages: Messages, stream: Stream, live: LiveSection) -> dict[str, Any]:
        """Learn batch by batch until it is to end; the state is saved then, too."""
        while True:
            left = self._section.batch_rows if live.rows is None else live.rows - self.parts.validation.rows
            received = messages.gather(min(left, self._section.batch_rows))
            if received is None:
                break
            good, aside = self.parts.usable.checked(self._taken(received))
            self._set_aside(aside)
            self._learn(good)
            if self.parts.validation.rows - self._saved_at >= self._every:
                self.save(stream)
        self.save(stream)
        found = self.parts.validation.progress()
        result = self.parts.saver.finish(found, self._counts, self._seconds)
        return {**result, "messages": self._messages, "position": stream.position()}

    def save(self, stream: Stream) -> None:
        """Save the state with the position, and only then tell the server; then write the bundle."""
        if self._messages == self._saved_messages:
            return
        parts = self.parts
        position = stream.position()
        tensors, student = parts.student.state()
        tensors["rows"], seen = parts.saver.state()
        state = {
            "position": position,
            "messages": self._messages,
            "lost": self._lost,
            "counts": dict(self._counts),
            "seconds": self._seconds,
            "rejects_bytes": self._rejects.flush(),
            "preparation": parts.start.preparation.to_json(),
            "specs": {name: dict(spec) for name, spec in parts.start.specs.items()},
            "plugins": dict(parts.start.plugins),
            "schema": parts.usable.schema.serialize().to_pybytes().hex(),
            "student": student,
            "validation": parts.validation.state(),
            "seen": seen,
        }
        save_checkpoint(self._folder.checkpoints, self._messages, tensors=tensors, state=state, keep=KEEP)
        stream.commit(position)
        self._saved_at, self._saved_messages = parts.validation.rows, self._messages
        if seen:
            parts.saver.write_bundle({})

    def _load(self, tensors: Tensors, state: Json) -> None:
        parts = self.parts
        parts.student.load_state(tensors, state["student"])
        parts.validation.load_state(state["validation"])
        parts.saver.load_state(tensors["rows"], state["seen"])
        self._counts = Counter(state["counts"])
        self._messages, self._lost, self._before_s = state["messages"], state["lost"], state["seconds"]
        self._saved_at, self._saved_messages = parts.validation.rows, self._messages
        self._rejects.cut(state["rejects_bytes"])

    @property
    def _seconds(self) -> float:
        return self._before_s + time.monotonic() - self._began

    def _make(self, start: Start, usable: Usable) -> None:
        student = Student(start, self._section, seed=self._recipe.seed)
        detectors, acted = watched_errors(self._section)
        validation = ProgressiveValidation(student, detectors=detectors, forget_at=acted)
        saver = Saver(self._folder, start, student=student, section=self._section)
        self._parts = _Parts(start, usable, student, validation, saver)

    def _checks(self) -> list[Check]:
        checks: list[Check] = [family("check").build(spec) for spec in self._recipe.data.checks]
        for check in checks:
            check.folder = self._recipe.folder
        return checks

    def _taken(self, received: Rows) -> pa.Table:
        """Return the decoded rows; messages that are none are kept aside."""
        self._messages += received.good.num_rows + received.bad.num_rows
        self._lost += received.bad.num_rows
        for bad in received.bad.to_pylist():
            self._counts["the message cannot be read"] += 1
            self._rejects.add({**bad, "raw": (bad["raw"] or b"").decode(errors="replace")})
        self._refuse_losses()
        return without_places(received.good)

    def _learn(self, rows: pa.RecordBatch) -> None:
        parts = self.parts
        batches, aside = parts.usable.prepared(rows, parts.start.preparation, self._section.batch_rows)
        self._set_aside(aside)
        for part, batch in batches:
            parts.saver.note(part, batch)
            parts.validation.step(batch)

    def _set_aside(self, aside: Aside) -> None:
        self._counts.update(aside.counts)
        self._lost += sum(aside.counts.values())
        for reason, row in aside.rows:
            self._rejects.add({"reason": reason, "row": row})
        self._refuse_losses()

    def _refuse_losses(self) -> None:
        if self._messages >= _ENOUGH and self._lost > self._recipe.data.max_rejected * self._messages:
            self._rejects.flush()
            raise CheckError(
                f"{self._lost:,} of {self._messages:,} messages could not be used: {dict(self._counts)}",
                hint=f"look at {self._rejects.path}; more may be allowed: data.max_rejected = {self._recipe.data.max_rejected:g}",
            )

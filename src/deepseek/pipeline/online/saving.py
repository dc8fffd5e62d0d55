"""What is written of learning from a stream: the recipe at once, the bundle every so many rows and at the end."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deepseek.artifacts import RunFolder, replace_folder, sha256_json, write_json
from deepseek.data.batch import Batch
from deepseek.inference.saving import documents_of, write_model
from deepseek.learning import Progress
from deepseek.monitoring.outcomes import Target
from deepseek.monitoring.reference import REFERENCE_FILE, make_reference, sketch_inputs
from deepseek.pipeline.online.student import Start, Student
from deepseek.recipe.sections import LearnSection
from deepseek.tasks.base import TARGET

PROGRESS_FILE = "learn.json"


class Saver:
    """Writes the run's bundle every so many rows and at the end.

    Args:
        folder: The run's.
        start: What was begun with.
        student: Who learns.
        section: How it learns.
    """

    def __init__(self, folder: RunFolder, start: Start, *, student: Student, section: LearnSection) -> None:
        self._folder, self._start = folder, start
        self._student, self._every, self._rows = student, section.save_every, 0
        self._recent: deque[pa.RecordBatch] = deque(maxlen=student.recent.maxlen)

    def watched(self, batches: Iterator[tuple[pa.RecordBatch, Batch]]) -> Iterator[Batch]:
        """Yield batches; when the next one is asked for, the one before has been learned."""
        due = self._every
        for rows, batch in batches:
            self.note(rows, batch)
            yield batch
            if due is not None and self._every is not None and self._rows >= due:
                self.write_bundle({})
                due += self._every

    def note(self, rows: pa.RecordBatch, batch: Batch) -> None:
        """Keep the last rows: the bundle's reference is made of them."""
        self._recent.append(rows)
        self._rows += len(batch)

    def state(self) -> tuple[dict[str, Tensor], int]:
        """Return the last rows as bytes of Arrow, and how many rows there have been."""
        return {str(place): torch.frombuffer(_bytes_of(rows), dtype=torch.uint8) for place, rows in enumerate(self._recent)}, self._rows

    def load_state(self, tensors: Mapping[str, Tensor], rows: int) -> None:
        """Go on from what `state` returned."""
        self._rows = rows
        self._recent.clear()
        for place in range(len(tensors)):
            with pa.ipc.open_stream(pa.py_buffer(tensors[str(place)].numpy().tobytes())) as stream:
                self._recent.extend(stream)

    def finish(self, found: Progress, counts: Mapping[str, int], seconds: float) -> dict[str, Any]:
        """Write the bundle and what was found; return it."""
        reached = {"accuracy": found.accuracy, "no_change": found.no_change}
        self.write_bundle({"stream": reached})
        aside = {reason: count for reason, count in counts.items() if count}
        result = {**found.to_json(), "set_aside": aside, "seconds": seconds}
        write_json(self._folder.path / PROGRESS_FILE, result)
        outcome = {
            "metrics": {"stream": reached},
            "seconds": seconds,
            "warnings": [f"{count} rows: {reason}" for reason, count in aside.items()],
        }
        write_json(self._folder.metrics, outcome)
        return {"run": str(self._folder.path), "bundle": str(self._folder.bundle), **result}

    def write_bundle(self, metrics: Mapping[str, Any]) -> None:
        """Write the model as it is now in the place of the bundle before."""
        preparation, specs, model = self._start.preparation, self._start.specs, self._student.model
        documents = documents_of(preparation, model=dict(specs["model"]), task=dict(specs["task"]), metrics=metrics, trained=model)
        whole = self._folder.path / f"bundle.{sha256_json(self._rows)[:8]}"
        for left_behind in self._folder.path.glob("bundle." + 8 * "[0-9a-f]"):  # of a process that was killed right here
            shutil.rmtree(left_behind, ignore_errors=True)
        write_model(whole, model, {**documents, REFERENCE_FILE: self._reference()}, plugins=self._start.plugins)
        replace_folder(whole, self._folder.bundle)

    def _reference(self) -> dict[str, Any]:
        """Return what the last rows looked like, and how they were answered before they were learned."""
        preparation = self._start.preparation
        assert preparation.target is not None, "the stream has a target"
        spec = preparation.target.spec
        target = Target(spec.kind, tuple(spec.columns), tuple(spec.classes), preparation.target.separator)
        table = pa.concat_tables([pa.Table.from_batches([rows]) for rows in self._recent], promote_options="permissive")
        wanted = [one for one in preparation.schema.inputs if one.name in preparation.columns]
        pairs = list(self._student.recent)
        decoded = {name: torch.cat([answers[name] for _, answers in pairs]) for name in pairs[0][1]}
        truth = torch.cat([batch.targets[TARGET] for batch, _ in pairs]).numpy().astype(np.int64)
        labels = [spec.classes[place] for place in truth.tolist()]
        answers = self._student.model.task.answer(decoded)
        return make_reference(sketch_inputs(table, wanted), target, answers, labels=labels, spellings=preparation.spellings)


def _bytes_of(rows: pa.RecordBatch) -> bytearray:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return bytearray(sink.getvalue())

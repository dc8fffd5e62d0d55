"""What people labelled in Label Studio as a table: the task's fields, and a column for each control."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from deepseek.artifacts.files import sha256_json
from deepseek.data.labelling.annotations import ControlKind, Export, LabelledTask, Several, Value, read_export, settle
from deepseek.data.labelling.client import LabelStudio
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver, find_files
from deepseek.data.sources.text import utf8_blocks
from deepseek.errors import DataError, InputError

if TYPE_CHECKING:
    import pyarrow.compute as pc

_SHAPE = [("x", pa.float64()), ("y", pa.float64()), ("width", pa.float64()), ("height", pa.float64())]
_TYPES: dict[ControlKind, pa.DataType] = {
    "spans": pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())])),
    "boxes": pa.list_(pa.struct([*_SHAPE, ("label", pa.string()), ("rotation", pa.float64())])),
    "polygons": pa.list_(pa.struct([("points", pa.list_(pa.list_(pa.float64()))), ("label", pa.string())])),
}
TASK, ANNOTATIONS = "task", "annotations"


class LabelStudioSource(Source):
    """Read annotations of Label Studio, from an export (JSON, JSON-MIN) or from the server.

    Fields of a task become columns: numbers, booleans and texts as they are, anything nested as JSON. A control becomes a column: the
    chosen name, or a list of names where several can be chosen; spans, boxes (in pixels) and polygons as lists. A task without annotations
    has no label there. Tasks whose annotations come to nothing are set aside with the reason. The export is held in memory.

    Args:
        folder: What relative paths are relative to.
        path: The exported file.
        url: The server, in the place of a file; its token is in the environment variable `LABEL_STUDIO_API_KEY`.
        project: The project's number on the server.
        controls: The controls that become columns; all where not given. For JSON-MIN they must be named.
        several: What becomes of several annotations of one task: `majority` (of spans and shapes the annotation that is most like the
            others), `all` (a row each), `reject` (differing ones are set aside), or the `latest`.
        multiple: Whether choices are lists; where not given, if any annotation has more than one.
        media: The folder of uploaded pictures, where fields name them by paths of the server, `/data/…`.
        about: Whether the columns `task` (its number) and `annotations` (how many it has) come along.
    """

    def __init__(  # noqa: PLR0913 - its arguments are its schema
        self,
        folder: Path = Path(),
        /,
        *,
        path: str | None = None,
        url: str | None = None,
        project: int | None = None,
        controls: list[str] | None = None,
        several: Several = "majority",
        multiple: bool | None = None,
        media: str | None = None,
        about: bool = False,
    ) -> None:
        super().__init__(folder)
        if (path is None) == (url is None):
            raise InputError("annotations come from a file or from a server", hint="give path, or url and project")
        if url is not None and project is None:
            raise InputError(f"which project of {url} is not said", hint="give project, the number in its address")
        self.path, self.url, self.project, self.controls = path, url, project, controls
        self.several, self.multiple, self.media, self.about = several, multiple, media, about
        self._read: tuple[str, pa.Table, list[tuple[int, str, str]]] | None = None

    def files(self) -> list[Path]:
        """Return the exported file, where there is one."""
        return [] if self.path is None else find_files(self.path, self.folder)

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        return self._table().schema

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        table = self._table()
        wanted = check_request(table.schema, columns, batch_rows)
        return deliver(iter(table.to_batches(max_chunksize=batch_rows)), columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str:
        """Return a hash of what was labelled and how, and of what was said here; moments and people are not in it."""
        table = self._table()
        said = [self.controls, self.several, self.multiple, self.about, str(self.media)]
        return sha256_json([said, str(table.schema), table.to_pydict(), [[line, reason] for line, reason, _ in self._aside()]])

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the tasks whose annotations come to nothing, with the reason."""
        if aside := self._aside():
            line, reason, raw = zip(*aside, strict=True)
            yield pa.record_batch([pa.array(line, pa.int64()), pa.array(reason), pa.array(raw)], names=["line", "reason", "raw"])

    def as_text(self, columns: Collection[str]) -> Self:
        """Return the source as it is: its fields have types of their own."""
        return self

    def export(self) -> Export:
        """Return the export itself, for what a table does not hold: every annotation, and how far people agree.

        Raises:
            DataError: It cannot be read.
        """
        return read_export(self._text(), controls=self.controls)

    def _text(self) -> str:
        if self.url is not None:
            assert self.project is not None
            return LabelStudio(self.url).export(self.project)
        return "".join(block.decode() for file in self.files() for block in utf8_blocks(file))

    def _stamp(self) -> str:
        return (
            "server" if self.url is not None else str([(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files()])
        )

    def _aside(self) -> list[tuple[int, str, str]]:
        self._table()
        assert self._read is not None
        return self._read[2]

    def _table(self) -> pa.Table:
        stamp = self._stamp()
        if self._read is None or self._read[0] != stamp:
            aside: list[tuple[int, str, str]] = []
            self._read = (stamp, self._made(self.export(), aside), aside)
        return self._read[1]

    def _made(self, export: Export, aside: list[tuple[int, str, str]]) -> pa.Table:
        kinds: dict[str, ControlKind] = {name: export.kinds.get(name, "choices") for name in self.controls or export.kinds}
        if not kinds:
            raise DataError("nothing in the export is labelled", hint="label a few tasks, or say which controls there are under controls")
        if clash := sorted({name for task in export.tasks for name in task.data} & {*kinds, *((TASK, ANNOTATIONS) if self.about else ())}):
            raise DataError(f"the control {clash[0]!r} is called like a field of the tasks", hint="rename it in the labelling set-up")
        fields = list(dict.fromkeys(name for task in export.tasks for name in task.data))
        rows: list[tuple[LabelledTask, dict[str, Value | None]]] = []
        for number, task in enumerate(export.tasks, start=1):
            try:
                rows += [(task, row) for row in _rows(task, kinds, self.several)]
            except DataError as error:
                aside.append((number, error.message, json.dumps({"id": task.number, **task.data}, ensure_ascii=False)))
        columns: dict[str, pa.Array] = {}
        if self.about:
            columns[TASK] = pa.array([task.number for task, _ in rows], pa.int64())
            columns[ANNOTATIONS] = pa.array([len(task.annotations) for task, _ in rows], pa.int64())
        for name in fields:
            columns[name] = _field([self._value(task.data.get(name)) for task, _ in rows])
        for name, kind in kinds.items():
            columns[name] = self._control([row[name] for _, row in rows], kind)
        return pa.table(columns)

    def _control(self, values: list[Value | None], kind: ControlKind) -> pa.Array:
        if kind != "choices":
            return pa.array([None if value is None else [asdict(one) for one in value] for value in values], _TYPES[kind])
        multiple = any(len(value) > 1 for value in values if value) if self.multiple is None else self.multiple
        if multiple:
            return pa.array([None if value is None else list(value) for value in values], pa.list_(pa.string()))
        if any(len(value) > 1 for value in values if value):
            raise DataError("multiple is false, and an annotation has several choices", hint="leave multiple out")
        return pa.array([value[0] if value else None for value in values], pa.string())

    def _value(self, value: Any) -> Any:
        """Return a field as it is, but paths of the server as paths in the folder of media, and nested values as JSON."""
        if isinstance(value, dict | list):
            return json.dumps(value, ensure_ascii=False)
        if self.media is None or not isinstance(value, str) or not value.startswith("/data/"):
            return value
        parts = urlsplit(value)
        local = parse_qs(parts.query).get("d")
        return str((self.folder / self.media / (local[0] if local else Path(parts.path).name)).absolute())


def _rows(task: LabelledTask, kinds: dict[str, ControlKind], several: Several) -> list[dict[str, Value | None]]:
    """Return what a task's controls come to: a row, or with `all` one for each annotation."""
    if several == "all" and task.annotations and not task.problems:
        return [
            {name: annotation.values.get(name, None if kind == "choices" else ()) for name, kind in kinds.items()}
            for annotation in task.annotations
        ]
    settled = {name: settle(task, name, kind, several=several) for name, kind in kinds.items()}
    return [{name: values[0] if values else None for name, values in settled.items()}]


def _field(values: list[Any]) -> pa.Array:
    """Return a field as numbers, booleans or text; text where a field holds several of these."""
    try:
        made = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        made = pa.array(
            [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values], pa.string()
        )
    return made if not pa.types.is_null(made.type) else made.cast(pa.string())

"""What `deepseek ingest` has taken in: one topic as a table, or several joined by a key and the nearest time."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import pyarrow as pa
from annotated_types import Ge

from deepseek import progress
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver
from deepseek.data.sources.ingested.join import Joined, JoinSection
from deepseek.data.sources.ingested.manifest import topics_of
from deepseek.data.sources.ingested.topic import Topic
from deepseek.errors import DataError, InputError, UnknownNameError

if TYPE_CHECKING:
    import pyarrow.compute as pc


class IngestSource(Source):
    """Read a folder that `deepseek ingest` wrote, as it is when it is first looked at: what comes later is not seen.

    A topic's columns are the fields of its records, or `text`, `image`, `audio` or `file` (the path of what was posted), then `_id`, `_at`
    and one column for each attribute, `_NAME`. Types are the narrowest that hold every value so far. Joined, the first topic gives the
    rows; the columns of the others are called `TOPIC.COLUMN`, and their rows are held in memory. Records that were refused when they came
    are handed out as rejects.

    Args:
        folder: What a relative path is relative to.
        path: The folder.
        topics: The topic to read, or several, of which the first gives the rows; not needed where there is one.
        join: With several topics: `key`, the column or attribute that says what belongs together; `within`, the longest time between two
            rows that do (`10s`); `time`, the column or attribute that says when, else the arrival; `direction`: the `nearest` row, the last
            one `before` or the first one `after`; `series`, topics of which all rows within that time are wanted, as lists; `unmatched`:
            rows that lack one of the topics are kept with missing values (`keep`) or set aside (`reject`).
        version: Read the state up to the content of this number, which is in the manifests: rows and fingerprint are those of then.

    Raises:
        DataError: The folder is none of ingested data, or a part of it is not as it was written.
        InputError: Several topics are named and no join, or the other way round.
    """

    def __init__(
        self,
        folder: Path = Path(),
        /,
        *,
        path: str | Path,
        topics: str | list[str] | None = None,
        join: JoinSection | None = None,
        version: Annotated[int, Ge(1)] | None = None,
    ) -> None:
        super().__init__(folder)
        self.path, self.version = path, version
        self.topics = [topics] if isinstance(topics, str) else topics
        self.join = JoinSection.model_validate(join) if isinstance(join, Mapping) else join
        self._texts: frozenset[str] = frozenset()
        if self.topics is not None and (len(self.topics) > 1) != (self.join is not None):
            needed = "a join needs several topics" if self.join else "several topics need a join"
            raise InputError(f"topics is {self.topics}, and {needed}", hint="join: {key: patient_id, within: 10s}")
        if self.join is not None:
            for name in self.join.series:
                if name not in (self.topics or ())[1:]:
                    raise UnknownNameError("topic of series", name, (self.topics or ())[1:])

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        return self._topics[0].schema if self._joined is None else self._joined.schema

    def files(self) -> list[Path]:
        """Return the files that hold the rows."""
        return [file for topic in self._topics for file in topic.files()]

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`)."""
        wanted = check_request(self.schema(), columns, batch_rows)
        read = None if where is not None else wanted
        batches = (
            self._topics[0].batches(read, batch_rows=batch_rows) if self._joined is None else self._join(self._joined, read, batch_rows)
        )
        return deliver(batches, columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str:
        """Return a hash of every content's id, hash, time and attributes, in order; the parts that they lie in make no difference."""
        return hashlib.sha256("".join(f"{topic.name}\0{topic.chain}\0" for topic in self._topics).encode()).hexdigest()

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the records that were refused when they came, and rows that lack one of the topics where these are set aside."""
        for topic in self._topics:
            yield from topic.rejects()
        if self._joined is not None:
            yield from self._joined.rejects()

    def as_text(self, columns: Collection[str]) -> Self:
        """Return a source that reads these columns as text: those of other topics are `TOPIC.COLUMN`; lists stay what they are."""
        again = copy.copy(self)
        again.__dict__.pop("_topics", None)
        again.__dict__.pop("_joined", None)
        again._texts = frozenset(columns)  # noqa: SLF001 - a copy of itself
        return again

    @cached_property
    def _topics(self) -> list[Topic]:
        folder = (self.folder / Path(self.path).expanduser()).absolute()
        known = topics_of(folder)
        if not known:
            raise DataError(f"the folder {str(folder)!r} holds nothing yet", hint="post something to it, and wait until it is in a part")
        names = known if self.topics is None else self.topics
        if self.topics is None and len(known) > 1:
            raise InputError(f"the folder {str(folder)!r} holds several topics: {', '.join(known)}", hint="say which: topics: [NAME]")
        for name in names:
            if name not in known:
                raise UnknownNameError("topic", name, known)
        topics = [Topic(folder, name, self.version, texts=self._texts_of(name, first=name == names[0])) for name in names]
        last = max(topic.manifest.version for topic in topics)
        if self.version is not None and self.version > last:
            raise DataError(f"version is {self.version:,}, and the last content has the number {last:,}", hint="leave version out for all")
        for topic in topics:
            if not topic.schema.names:
                raise DataError(f"the topic {topic.name!r} has no rows: every record was refused", hint="look at its rejects")
        return topics

    def _texts_of(self, topic: str, *, first: bool) -> Collection[str]:
        """Return the columns of a topic that are to be text: of those behind the first only what is named as theirs."""
        if first:
            return self._texts
        if self.join is not None and topic in self.join.series:
            return ()
        prefix = f"{topic}."
        return [name.removeprefix(prefix) for name in self._texts if name.startswith(prefix)]

    @cached_property
    def _joined(self) -> Joined | None:
        return None if self.join is None else Joined(self._topics, self.join)

    def _join(self, joined: Joined, columns: Sequence[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
        yield from joined.batches(columns, batch_rows=batch_rows)
        for name, count in joined.unmatched.items():
            if count or joined.unused[name]:
                progress.log(f"{name}: {count:,} rows have nothing that belongs to them; {joined.unused[name]:,} rows belong to none")

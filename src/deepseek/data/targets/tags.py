"""A tag for each word: names and other spans in a text, or parts of speech."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deepseek.data.columns import get_column, is_text, plain
from deepseek.data.labelling.spans import OUTSIDE, Span, to_tags
from deepseek.data.targets.base import TargetTransform
from deepseek.data.targets.spec import TargetSpec
from deepseek.data.transforms.base import Ragged
from deepseek.data.transforms.words import WordsTransform
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind, TargetKind

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.transforms.base import Array, Transform

_SPAN_TAG = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
LETTERS = {"B": 1, "I": 2, "E": 3, "L": 3, "S": 4, "U": 4}
"""What a tag's letter says: its word begins a span, goes on with one, ends one, or is one alone. `L` (last) and `U` (unit) are what
BILOU calls `E` and `S` (Ratinov and Roth, CoNLL 2009, https://aclanthology.org/W09-1119/)."""


class TagsTarget(TargetTransform):
    """Turns a column of tags, or of spans, into one ragged int64 array: a code for each word.

    A row holds a list of tags, one for each word of its list of words; or a list of `start`, `end`, `label` in characters of its text, as
    Label Studio gives it, which become `B-LABEL` and `I-LABEL` for the words and marks inside, `O` outside. A span that no tags can say,
    since it cuts through a word or overlaps another, is left out, and how many are is said in the warnings.

    Where all tags are `O` or begin with `B-`, `I-`, `E-` or `S-` (`L-` and `U-` are read like the last two), they are spans: each label
    then has all of its tags among the classes, `O` is the first, and a row's spans are answered too.

    Args:
        fields: The one column.
    """

    kind: ClassVar[TargetKind] = "tags"
    transforms: ClassVar[Mapping[Kind, str]] = {Kind.TEXT: "words", Kind.TAGS: "words"}

    def __init__(self, fields: Sequence[Field], /) -> None:
        if len(fields) != 1:
            raise InputError(f"a target of kind 'tags' is given {len(fields)} columns", hint="it is one column of lists")
        super().__init__(fields)
        self._counts: dict[str, int] = {}
        self._rows = self._spans = 0
        self._lost: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._words: WordsTransform | None = None

    def missing(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a row has no list, or no tag; no spans are an answer."""
        column = plain(get_column(batch, self.columns[0]))
        absent = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
        if self._holds_spans(column):
            return absent
        return np.array([row is None or not len(row) for row in column.to_pylist()], dtype=bool)

    def unseen(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a tag was not among the training rows."""
        absent = self.missing(batch)
        rows = zip(absent, self._tags(batch), strict=True)
        return np.array([not gone and any(tag not in self._codes for tag in row) for gone, row in rows], dtype=bool)

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where there are not as many tags as words."""
        words = self._of_words().words(batch)
        return np.array([len(row) != len(tags) for row, tags in zip(words, self._tags(batch), strict=True)], dtype=bool)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Count the tags; of spans, their labels, as the words are not known yet."""
        self._rows += batch.num_rows
        column = plain(get_column(batch, self.columns[0]))
        for row in column.to_pylist():
            for item in row or ():
                tags = (f"B-{item['label']}", f"I-{item['label']}") if isinstance(item, dict) else (str(item),)
                for tag in tags:
                    self._counts[tag] = self._counts.get(tag, 0) + 1
        if _is_spans(column.type, self.columns[0]):
            self._counts.setdefault(OUTSIDE, 0)
            self._count_lost(batch, column.to_pylist())

    def _count_lost(self, batch: pa.RecordBatch, rows: Sequence[Sequence[Any] | None]) -> None:
        """Count the spans that no tags can say, by every column that could be their text: which one it is, is not known yet."""
        self._spans += sum(len(row or ()) for row in rows)
        for name in batch.schema.names:
            column = plain(batch.column(batch.schema.get_field_index(name)))
            if not is_text(column.type):
                continue
            lost = [len(to_tags(text or "", _spans(row))[1]) for text, row in zip(column.to_pylist(), rows, strict=True)]
            self._lost[name] = self._lost.get(name, 0) + sum(lost)

    def finish(self) -> None:
        """Settle the tags.

        Raises:
            DataError: No row has a tag, or all tags are the same.
        """
        if not self._counts:
            raise DataError(f"no training row of {self.columns[0]!r} has a tag", hint="is this the column to predict?")
        classes = scheme(self._counts)
        if len(classes) < 2:
            raise DataError(f"all tags of {self.columns[0]!r} are {classes[0]!r}", hint="there is nothing to tell apart")
        counts = tuple(self._counts.get(name, 0) for name in classes)
        self._set(TargetSpec("tags", self.columns, classes, counts, self._rows))

    def follow(self, transforms: Sequence[Transform]) -> None:
        """Take over how the words of a row are told apart.

        Raises:
            InputError: There are no words among the inputs, or several columns of them.
        """
        words = [transform for transform in transforms if isinstance(transform, WordsTransform)]
        if len(words) != 1:
            raise InputError(
                f"tags belong to one column of words, and there are {len(words)}",
                hint="say which column holds them: data.transforms: {COLUMN: words}, and leave others out with data.drop",
            )
        (self._words,) = words
        if lost := self._lost.get(self._words.column, 0):
            self.warnings = (
                f"{lost} of {self._spans} spans of {self.columns[0]!r} are left out: they cut through a word, overlap another or hold none",
            )

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return `target`, ragged int64: a code for each word.

        Raises:
            DataError: A tag was not among the training rows, or a row has not as many tags as words.
        """
        rows = self._tags(batch)
        for number, (words, tags) in enumerate(zip(self._of_words().words(batch), rows, strict=True)):
            if len(words) != len(tags):
                raise RowError(
                    number,
                    f": {len(tags)} tags in {self.columns[0]!r} for {len(words)} words",
                    hint="give each word a tag",
                )
            if wrong := [tag for tag in tags if tag not in self._codes]:
                raise RowError(
                    number,
                    f": {wrong[0]!r} is no tag of {self.columns[0]!r} that training knew",
                    hint=f"known: {', '.join(self.spec.classes[:10])}",
                )
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)])
        codes = np.array([self._codes[tag] for row in rows for tag in row], dtype=np.int64)
        return {"target": Ragged(codes, offsets)}

    def placed(self, answers: pa.Table, batch: pa.RecordBatch) -> pa.Table:
        """Return answers with spans counted in characters where the words were cut from a text; else in words, as they are."""
        import pyarrow as pa

        places = self._of_words().places(batch)
        if places is None or "spans" not in answers.column_names:
            return answers
        spans = [
            [{"start": where[one["start"]][0], "end": where[one["end"] - 1][1], "label": one["label"]} for one in row]
            for row, where in zip(answers["spans"].to_pylist(), places, strict=True)
        ]
        column = answers.column_names.index("spans")
        return answers.set_column(column, "spans", pa.array(spans, answers.schema.field("spans").type))

    def _holds_spans(self, column: pa.Array) -> bool:
        return _is_spans(column.type, self.columns[0])

    def _of_words(self) -> WordsTransform:
        if self._words is None:
            raise InputError("the target does not know the words yet", hint="call follow with the fitted transforms first")
        return self._words

    def _tags(self, batch: pa.RecordBatch) -> list[list[str]]:
        column = plain(get_column(batch, self.columns[0]))
        if not _is_spans(column.type, self.columns[0]):
            return [[str(tag) for tag in row or ()] for row in column.to_pylist()]
        places = self._of_words().places(batch)
        if places is None:
            raise ColumnError(f"{self.columns[0]!r} holds spans of characters, and the words come as lists", hint="give the text, or tags")
        whole = plain(get_column(batch, self._of_words().column)).to_pylist()
        rows = []
        for text, where, row in zip(whole, places, column.to_pylist(), strict=True):
            rows.append(to_tags(text or "", _spans(row), where)[0])
        return rows

    def _set(self, spec: TargetSpec) -> None:
        super()._set(spec)
        self._codes = {name: code for code, name in enumerate(spec.classes)}


def scheme(tags: Mapping[str, int]) -> tuple[str, ...]:
    """Return the tags in their order; of spans, with all the tags that a label can have, `O` first.

    Example:
        >>> scheme({"B-PER": 2, "O": 5})
        ('O', 'B-PER', 'I-PER')
        >>> scheme({"NOUN": 1, "DET": 2})
        ('DET', 'NOUN')
    """
    parts = [_SPAN_TAG.fullmatch(tag) for tag in tags if tag != OUTSIDE]
    if not parts or not all(parts):
        return tuple(sorted(tags))
    found = [(part[1], part[2]) for part in parts if part]
    letters = "BI" + "".join(pair for pair in ("ES", "LU") if any(letter in pair for letter, _ in found))
    return (OUTSIDE, *(f"{letter}-{label}" for label in sorted({label for _, label in found}) for letter in letters))


def are_spans(classes: Sequence[str]) -> bool:
    """Whether tags say spans: each is `O`, or `B`, `I`, `E` or `S` (or `L` or `U`) with a label."""
    return OUTSIDE in classes and all(tag == OUTSIDE or _SPAN_TAG.fullmatch(tag) for tag in classes)


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return the spans that a row's tags say: first word, the word behind the last, label.

    An `I`, `E` or `L` that goes on with nothing of its label begins a span.

    Example:
        >>> spans_of(["B-PER", "I-PER", "O", "I-LOC", "S-LOC"])
        [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC')]
    """
    spans: list[tuple[int, int, str]] = []
    before = OUTSIDE
    for place, tag in enumerate(tags):
        if tag != OUTSIDE:
            joined = tag[0] in "IEL" and before[0] in "BI" and before[2:] == tag[2:]
            if joined:
                spans[-1] = (spans[-1][0], place + 1, tag[2:])
            else:
                spans.append((place, place + 1, tag[2:]))
        before = tag
    return spans


def _spans(row: Sequence[Any] | None) -> list[Span]:
    return [Span(one["start"], one["end"], one["label"]) for one in row or ()]


def _is_spans(kind: pa.DataType, name: str) -> bool:
    import pyarrow as pa

    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise ColumnError(f"the tags in {name!r} are {kind}", hint="give a list of tags for each row, or a list of start, end and label")
    return bool(pa.types.is_struct(kind.value_type))

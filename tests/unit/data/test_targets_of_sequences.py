"""Targets of sequences: tags by word, spans by character, and the next token."""

import pyarrow as pa
import pytest

from deepseek.data.preparation import Preparation
from deepseek.data.targets.tags import scheme
from deepseek.errors import DataError, InputError
from deepseek.fields import Field, Kind, Schema
from deepseek.fields.inference import infer_schema

WORDS = Schema((Field("words", Kind.TAGS), Field("tags", Kind.TAGS)), ("tags",))
TEXT = Schema((Field("text", Kind.TEXT), Field("marks", Kind.TAGS)), ("marks",))
SPANS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))


def tagged(words, tags):
    kind = pa.list_(pa.string())
    return pa.record_batch({"words": pa.array(words, kind), "tags": pa.array(tags, kind)})


def marked(texts, marks):
    spans = [None if row is None else [{"start": a, "end": b, "label": label} for a, b, label in row] for row in marks]
    return pa.record_batch({"text": texts, "marks": pa.array(spans, SPANS)})


def fitted(batch, schema=WORDS, **settings):
    return Preparation(schema, target="tags", **settings).fit(lambda: iter([batch]))


def rows_of(ragged):
    return [ragged.values[start:end].tolist() for start, end in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)]


ROWS = tagged([["Ada", "Smith", "wrote"], ["Rome"], ["no", "one"]], [["B-PER", "I-PER", "O"], ["B-LOC"], ["O", "O"]])


def test_each_word_has_the_code_of_its_tag():
    target = fitted(ROWS).target
    assert target.spec.classes == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert rows_of(target.apply(ROWS)["target"]) == [[3, 4, 0], [1], [0, 0]]


def test_what_was_fitted_is_the_same_from_json():
    again = Preparation.from_json(fitted(ROWS).to_json())
    assert rows_of(again.target.apply(ROWS)["target"]) == [[3, 4, 0], [1], [0, 0]]
    assert again.inputs["words"].kind is Kind.TEXT


def test_a_label_has_all_tags_of_its_scheme_even_where_training_had_not():
    assert scheme({"B-PER": 1, "O": 1, "E-LOC": 1}) == ("O", *(f"{letter}-{label}" for label in ("LOC", "PER") for letter in "BIES"))
    assert scheme({"NOUN": 2, "B": 1}) == ("B", "NOUN")
    assert scheme({"O": 1, "B-PER": 1, "U-PER": 1}) == ("O", "B-PER", "I-PER", "L-PER", "U-PER")


def test_rows_that_cannot_be_labelled_are_named():
    target = fitted(ROWS).target
    odd = tagged([["a", "b"], ["a"], ["a"], ["a"]], [["O"], None, [], ["B-ORG"]])
    assert target.missing(odd).tolist() == [False, True, True, False]
    assert target.bad(odd).tolist() == [True, True, True, False]
    assert target.unseen(odd).tolist() == [False, False, False, True]
    with pytest.raises(DataError, match="1 tags in 'tags' for 2 words"):
        target.apply(odd.slice(0, 1))
    with pytest.raises(DataError, match="'B-ORG' is no tag"):
        target.apply(odd.slice(3))


def test_spans_of_characters_become_tags_of_words():
    batch = marked(["Ada Smith lives in Rome.", "nobody"], [[(0, 9, "PER"), (19, 23, "LOC")], []])
    preparation = fitted(batch, TEXT)
    classes = preparation.target.spec.classes
    assert [[classes[code] for code in row] for row in rows_of(preparation.target.apply(batch)["target"])] == [
        ["B-PER", "I-PER", "O", "O", "B-LOC", "O"],
        ["O"],
    ]
    assert preparation.warnings == ()
    assert not preparation.target.missing(batch).any()
    assert preparation.target.missing(marked(["x"], [None])).tolist() == [True]


def test_spans_that_no_tags_can_say_are_counted():
    batch = marked(["Ada Smith", "Grace"], [[(0, 9, "PER"), (1, 3, "LOC")], [(0, 5, "PER")]])
    (warning,) = fitted(batch, TEXT).warnings
    assert "1 of 3 spans of 'marks' are left out" in warning


def test_spans_are_answered_in_characters_of_the_text_and_else_in_words():
    batch = marked(["Ada Smith lives", "Rome"], [[(0, 9, "PER")], []])
    spans = pa.array([[{"start": 0, "end": 2, "label": "PER"}], []], SPANS)
    answers = pa.table({"prediction": pa.array([["B-PER", "I-PER", "O"], ["O"]]), "spans": spans})
    assert fitted(batch, TEXT).target.placed(answers, batch)["spans"].to_pylist()[0] == [{"start": 0, "end": 9, "label": "PER"}]
    words = tagged([["Ada", "Smith", "lives"], ["Rome"]], [["B-PER", "I-PER", "O"], ["O"]])
    assert fitted(words).target.placed(answers, words).equals(answers)


def test_spans_are_told_by_their_type():
    batch = marked(["Ada", "Rome"], [[(0, 3, "PER")], []])
    schema, reasons = infer_schema(pa.Table.from_batches([batch]), ["marks"])
    assert schema["marks"].kind is Kind.TAGS
    assert reasons["marks"] == "lists of spans"


def test_tags_need_one_column_of_words():
    both = Schema((Field("words", Kind.TAGS), Field("more", Kind.TAGS), Field("tags", Kind.TAGS)), ("tags",))
    batch = pa.record_batch({"words": [["a"]], "more": [["b"]], "tags": [["O", "B-X"]]})
    with pytest.raises(InputError, match="there are 2"):
        Preparation(both, target="tags").fit(lambda: iter([batch]))


def test_the_next_token_needs_no_column_and_bears_none_beside_its_text():
    batch = pa.record_batch({"text": ["to be", "or not"], "size": [1.0, 2.0]})
    alone = Preparation(Schema((Field("text", Kind.TEXT),)), target="tokens").fit(lambda: iter([batch]))
    spec = alone.target.spec
    assert spec.columns == ("text",)
    assert len(spec.lengths) == alone.inputs["text"].cardinalities[0]
    assert alone.target.apply(batch) == {}
    again = Preparation.from_json(alone.to_json())
    assert again.target.spec == spec
    beside = Schema((Field("text", Kind.TEXT), Field("size", Kind.NUMBER)))
    with pytest.raises(InputError, match="reads one text"):
        Preparation(beside, target="tokens").fit(lambda: iter([batch]))
    with pytest.raises(InputError, match="is given the target"):
        Preparation(Schema((Field("text", Kind.TEXT), Field("size", Kind.NUMBER)), ("size",)), target="tokens")

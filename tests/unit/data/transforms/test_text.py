from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepseek.data.transforms.text_columns as module
from deepseek.data.transforms.sample import TextSample
from deepseek.data.transforms.text import TextTransform
from deepseek.data.transforms.text_columns import pieces_for
from deepseek.data.transforms.tokenizer import LEAST_BPE
from deepseek.errors import ColumnError, InputError
from deepseek.fields import Field, Kind

FIELD = Field("note", Kind.TEXT)
ENGLISH = ["the film was good", "the film was bad", "Good acting, bad film!", "it's a film that isn't bad"]
CHINESE = ["这部电影真的非常好看", "这部电影真的不好看", "演员演得非常好"]


def column(texts, kind=None):
    return pa.record_batch([pa.array(texts, kind or pa.string())], names=["note"])


def fit(texts, **arguments):
    transform = TextTransform([FIELD], **{"min_count": 1, **arguments})
    transform.observe(column(texts))
    transform.finish()
    return transform


def ids(transform, texts):
    rows = transform.apply(column(texts))["note"]
    return [part.tolist() for part in np.split(rows.values, rows.offsets[1:-1])]


def words(transform, text):
    names = {number: word for word, number in transform._fitted().get_vocab().items()}
    return [names[number] for number in ids(transform, [text])[0][1:]]


def test_missing_is_not_empty_and_unknown_is_neither():
    transform = fit(ENGLISH, tokenizer="word")
    assert ids(transform, [None, "", "  ", "zebra"]) == [[2, 3], [2], [2], [2, 1]]
    (spec,) = transform.inputs
    assert (spec.kind, spec.ragged, spec.shape, spec.dtype) == (Kind.TEXT, True, (), "int32")
    assert min(min(row[1:]) for row in ids(transform, ENGLISH)) == 4
    assert max(map(max, ids(transform, ENGLISH))) < spec.cardinalities[0]


def test_words_signs_and_apostrophes():
    transform = fit([*ENGLISH, "नमस्ते दुनिया", "می‌خواهم", "hello 👍🏽 world_1"], tokenizer="word")
    assert words(transform, "It's GOOD, isn't it?! hello") == ["it's", "good", ",", "isn't", "[ unknown ]", "[ unknown ]", "!", "hello"]
    assert words(transform, "नमस्ते می‌خواهم") == ["नमस्ते", "می‌خواهم"]
    assert words(transform, "hello 👍🏽 world_1") == ["hello", "👍", "🏽", "world_1"]


@pytest.mark.parametrize("text", ["ภาษาไทย", "日本語です", "中文"])
def test_words_of_scripts_without_spaces_are_single_characters(text):
    transform = fit([text, *ENGLISH], tokenizer="word")
    assert "".join(words(transform, text)) == text
    assert len(words(transform, text)) > 1


def test_case_and_unicode_forms_are_folded():
    folded, kept = fit(["Café ﬁn"], tokenizer="word"), fit(["Café ﬁn"], tokenizer="word", lowercase=False)
    assert ids(folded, ["CAFE\u0301 fin"]) == ids(folded, ["café ﬁn"])
    assert ids(kept, ["café"]) != ids(kept, ["Café"]) == ids(kept, ["Cafe\u0301"])


@settings(max_examples=60, deadline=None)
@given(text=st.text())
def test_pieces_lose_nothing(text):
    transform = PIECES
    (row,) = ids(transform, [text])
    assert 1 not in row
    vocabulary = {number: piece for piece, number in transform._fitted().get_vocab().items()}
    known = transform._fitted().normalizer.normalize_str(text)
    from tokenizers.decoders import ByteLevel

    assert ByteLevel().decode([vocabulary[number] for number in row[1:]]).lstrip() == known.lstrip()


PIECES = fit(["some text", "更多文字"], tokenizer="bpe", lowercase=False, max_tokens=10**6)


def test_characters_are_characters():
    transform = fit(["abc\nd"], tokenizer="characters")
    assert words(transform, "a\nz") == ["a", "\n", "[ unknown ]"]


def test_pieces_are_shown_as_they_are_written():
    transform = fit(["café olé"] * 3, tokenizer="bpe")
    assert transform.tokens(ids(transform, ["café olé"])[0]) == ["[ start ]", " café", " olé"]


def test_more_text_has_more_pieces():
    few, many = (pa.array([f"text number {number}" for number in range(count)]) for count in (100, 10_000))
    assert LEAST_BPE < pieces_for(few) < pieces_for(many) < 10 * pieces_for(few)
    assert pieces_for(pa.array([], pa.string())) == LEAST_BPE


def test_scripts_of_many_characters_have_a_piece_for_each_that_is_frequent():
    signs = [chr(0x4E00 + number) for number in range(2_000)]
    texts = pa.array(["".join(signs[start : start + 50]) * 2 for start in range(0, 2_000, 50)])
    assert pieces_for(texts) > LEAST_BPE + 2_000
    assert fit(texts.to_pylist()).inputs[0].cardinalities[0] > LEAST_BPE + 2_000


@pytest.mark.parametrize("texts", [ENGLISH, CHINESE, [None]])
def test_nothing_is_unknown_unless_words_are_asked_for(texts):
    assert all(1 not in row for row in ids(fit(texts), ["never seen: 👍🏽 مرحبا"]))
    assert 1 in ids(fit(texts, tokenizer="word"), ["never seen: 👍🏽 مرحبا"])[0]


@pytest.mark.parametrize("tokenizer", ["word", "bpe", "characters"])
def test_no_text_can_spell_a_reserved_token(tokenizer):
    names = ["[ padding ]", "[ unknown ]", "[ start ]", "[ missing ]", "<pad>", "[UNK]", "<s>"]
    transform = fit(names * 3, tokenizer=tokenizer, lowercase=False)
    assert all(min(row[1:]) >= 4 for row in ids(transform, names))


def test_frequency_and_size_limit_the_vocabulary():
    assert ids(fit(ENGLISH, tokenizer="word", min_count=2), ["film acting"]) == [[2, 4, 1]]
    assert fit(ENGLISH, tokenizer="word", vocabulary=6).inputs[0].cardinalities == (6,)
    with pytest.raises(InputError, match="at least 260") as caught:
        TextTransform([FIELD], tokenizer="bpe", vocabulary=100)
    assert "vocabulary is 100" in str(caught.value)
    assert fit(CHINESE, tokenizer="bpe", vocabulary=260).inputs[0].cardinalities == (260,)


@pytest.mark.parametrize(("keep", "wanted"), [("start", "abcd"), ("end", "efgh"), ("both", "abgh")])
def test_long_texts_are_cut_and_counted(keep, wanted):
    texts = ["abcdefgh", "abcd", None, "a"]
    transform = fit(texts, tokenizer="characters", max_tokens=5, keep=keep)
    assert [len(row) for row in ids(transform, texts)] == [5, 5, 2, 2]
    assert "".join(words(transform, texts[0])) == wanted
    (warning,) = transform.warnings
    assert warning.startswith("33.3% of the training texts of 'note' have over 5 tokens and are cut (keep: ")
    assert not fit(texts, tokenizer="characters", max_tokens=9).warnings


def test_a_vocabulary_that_knows_little_is_said():
    (warning,) = fit(["one two", "three four"], tokenizer="word", min_count=2).warnings
    assert "100% of the tokens of 'note'" in warning


def test_unknown_texts_are_counted():
    transform = fit(ENGLISH, tokenizer="word")
    assert transform.unknown(column(["the film", "zebra quagga the", "", None])) == {"note": (1, 2)}
    assert fit(ENGLISH, tokenizer="bpe").unknown(column(["zebra"])) == {}


def test_large_columns_go_in_parts(monkeypatch):
    whole = ids(fit(ENGLISH), ENGLISH * 10)
    monkeypatch.setattr(module, "CHUNK_BYTES", 30)
    transform = fit(ENGLISH)
    assert len(list(module.text_chunks(pa.array(ENGLISH * 10)))) > 20
    assert ids(transform, ENGLISH * 10) == whole


def test_other_types_of_text_are_read_and_others_refused():
    transform = fit(ENGLISH, tokenizer="word")
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        assert ids(transform, ["film"]) == [
            transform.apply(pa.record_batch([pa.array(["film"]).cast(kind)], names=["note"]))["note"].values.tolist()
        ]
    assert transform.apply(column([None, None], pa.null()))["note"].values.tolist() == [2, 3, 2, 3]
    with pytest.raises(ColumnError, match="where texts are needed"):
        transform.apply(column([["a"]], pa.list_(pa.string())))
    with pytest.raises(InputError, match="not fitted"):
        _ = TextTransform([FIELD]).inputs


@pytest.mark.parametrize("tokenizer", ["word", "bpe", "characters"])
def test_training_is_the_same_in_every_process(tokenizer):
    code = f"""
import json, pyarrow as pa
from deepseek.data.transforms.text import TextTransform
from deepseek.fields import Field, Kind
made = TextTransform([Field("note", Kind.TEXT)], tokenizer={tokenizer!r}, min_count=1, vocabulary=280)
made.observe(pa.record_batch({{"note": {ENGLISH + CHINESE!r}}}))
made.finish()
print(json.dumps(made.to_json()))
"""
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    transform = fit(ENGLISH + CHINESE, tokenizer=tokenizer, vocabulary=280)
    assert json.loads(again) == transform.to_json()


def sampled(texts, sizes, limit):
    sample, start = TextSample(limit=limit), 0
    for size in sizes:
        sample.add(pa.array(texts[start : start + size], pa.string()))
        start += size
    return sample.texts().to_pylist()


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 60), cut=st.integers(0, 60), limit=st.integers(1, 300))
def test_a_sample_of_texts_does_not_depend_on_batches(rows, cut, limit):
    texts = [None if row % 7 == 3 else f"{row} " * (row % 11) for row in range(rows)]
    cut = min(cut, rows)
    whole = sampled(texts, [rows], limit)
    assert sampled(texts, [cut, rows - cut], limit) == whole == sampled(texts, [1] * rows, limit)
    known = [text for text in texts if text is not None]
    assert sum(map(len, whole)) <= limit or len(whole) == 1
    assert set(whole) <= set(known)
    if sum(map(len, known)) <= limit:
        assert sorted(whole) == sorted(known)

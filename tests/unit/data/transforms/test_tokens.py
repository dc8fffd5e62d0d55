"""Tokens of language models: nothing is changed, and what is written is the text again."""

import pyarrow as pa
import pytest

from deepseek.data.transforms.tokens import TokensTransform
from deepseek.fields import Field, Kind

TEXTS = ["To be, or not to be:\n  that is the question.", "ﬁne — ½ ①日本語 🦜", "TO BE", ""]


def fitted(**settings):
    transform = TokensTransform([Field("text", Kind.TEXT)], **settings)
    transform.observe(pa.record_batch({"text": TEXTS}))
    transform.finish()
    return transform


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_to_the_character(tokenizer, text):
    transform = fitted(tokenizer=tokenizer)
    assert transform.text_of(transform.ids_of(text)) == text


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
@pytest.mark.parametrize("text", TEXTS)
def test_lengths_add_up_to_the_characters(tokenizer, text):
    transform = fitted(tokenizer=tokenizer)
    lengths = transform.lengths()
    assert sum(lengths[number] for number in transform.ids_of(text)) == len(text)


def test_pieces_of_one_text_have_no_beginning_between_them():
    whole = fitted(documents=False)
    ids = whole.apply(pa.record_batch({"text": ["To be", ", or"]}))["text"].values
    assert whole.text_of(ids) == "To be, or"
    assert 2 not in ids.tolist()
    assert fitted().apply(pa.record_batch({"text": ["To be", ", or"]}))["text"].values.tolist().count(2) == 2


def test_characters_that_training_did_not_know_are_told_apart_and_counted():
    transform = fitted()
    assert transform.text_of(transform.ids_of("bé")) == "b�"
    assert transform.unknown(pa.record_batch({"text": ["ééé", "to be"]})) == {"text": (1, 2)}
    assert fitted(tokenizer="bpe").unknown(pa.record_batch({"text": ["ééé"]})) == {}

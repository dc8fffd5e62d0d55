"""Words and their pieces: which piece a word's label belongs to."""

import pyarrow as pa
import pytest
from tests.tiny_checkpoint import write_tokenizer

from deepseek.data.transforms.words import WordsTransform
from deepseek.errors import InputError
from deepseek.fields import Field, Kind

ROWS = [["Ada", "Lovelace", "wrote", "programs"], ["Adamantly"], []]


def fitted(rows=ROWS, **settings):
    transform = WordsTransform([Field("words", Kind.TAGS)], **{"min_count": 1, **settings})
    transform.observe(pa.record_batch({"words": rows}))
    transform.finish()
    return transform


@pytest.mark.parametrize("tokenizer", ["bpe", "word", "characters"])
def test_each_word_begins_at_its_first_piece(tokenizer):
    transform = fitted(tokenizer=tokenizer, vocabulary=270)
    made = transform.apply(pa.record_batch({"words": ROWS}))
    pieces, starts = made["words"], made["words_words"]
    for row, words in enumerate(ROWS):
        ids = pieces.values[pieces.offsets[row] : pieces.offsets[row + 1]]
        places = starts.values[starts.offsets[row] : starts.offsets[row + 1]].tolist()
        assert len(places) == len(words) + 1
        ends = [*places[2:], len(ids)][: len(words)]
        for word, start, end in zip(words, places[1:], ends, strict=True):
            assert "".join(transform.tokens(ids[start:end])).replace("Ġ", "") == word


def test_words_that_are_cut_off_point_to_the_start():
    transform = fitted(tokenizer="characters", max_tokens=6)
    starts = transform.apply(pa.record_batch({"words": [["ab", "cde", "fg"]]}))["words_words"]
    assert starts.values.tolist() == [0, 1, 3, 0]
    assert any("max_tokens" in warning for warning in fitted(tokenizer="characters", max_tokens=6).warnings)
    assert not transform.apply(pa.record_batch({"words": [[""]]}))["words_words"].values.any()


def test_texts_are_cut_into_words_and_marks():
    transform = WordsTransform([Field("text", Kind.TEXT)], tokenizer="word", min_count=1)
    batch = pa.record_batch({"text": ["Ada wrote, too."]})
    transform.observe(batch)
    transform.finish()
    assert transform.words(batch) == [["Ada", "wrote", ",", "too", "."]]
    assert transform.places(batch) == [[(0, 3), (4, 9), (9, 10), (11, 14), (14, 15)]]
    assert transform.apply(batch)["text_words"].values.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_checkpoint_puts_its_own_tokens_around(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "vocab_size": 40, "max_position_embeddings": 16}')
    transform = fitted(pretrained=str(tmp_path))
    made = transform.apply(pa.record_batch({"words": [["a", "good", "day"]]}))
    state = transform.to_json()
    ids = made["words"].values.tolist()
    assert ids[: len(state["before"])] == state["before"]
    assert ids[-len(state["after"]) :] == state["after"]
    assert made["words_words"].values[1] == len(state["before"])


def test_pieces_of_bytes_need_an_id_for_each_byte():
    with pytest.raises(InputError, match="vocabulary is 100") as caught:
        WordsTransform([Field("words", Kind.TAGS)], tokenizer="bpe", vocabulary=100)
    assert "at least 260" in str(caught.value.hint)


def test_a_text_without_spaces_is_cut_into_its_characters():
    batch = pa.record_batch({"text": ["昨天王小明在北京。"]})
    transform = WordsTransform([Field("text", Kind.TEXT)], tokenizer="characters", min_count=1)
    transform.observe(batch)
    transform.finish()
    assert transform.apply(batch)["text_words"].values.tolist() == list(range(10))

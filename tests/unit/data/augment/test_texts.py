from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.data.augment import Augment, Known, back_translate, easy_augment
from deepseek.data.augment.eda import Eda
from deepseek.data.augment.neighbours import nearest_words
from deepseek.data.augment.text_edits import OPERATIONS, read_thesaurus, swap_clauses
from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.text import TextTransform
from deepseek.errors import DataError, InputError, MissingExtraError
from deepseek.fields import Field, Kind

SYNONYMS = {"good": ["fine", "great"], "bad": ["poor"]}
WORDS = ["the", "good", "bad", "film", "was", "fine", "great", "poor", "long", "story"]


def sentences(rows=200, words=12, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=words)) for _ in range(rows)]


def known_of(texts, tokenizer="word", **settings):
    transform = TextTransform([Field("note", Kind.TEXT)], tokenizer=tokenizer, min_count=1, **settings)
    table = pa.record_batch({"note": texts})
    transform.observe(table)
    transform.finish()
    rows = PreparedDataset.from_arrays(transform.apply(table), specs={spec.name: spec for spec in transform.inputs})
    return Known(rows=rows, transforms={"note": transform})


def read(batch, known):
    """Return the texts of a batch."""
    transform = known.transforms["note"]
    joint = " " if transform.tokenizer == "word" else ""
    rows = zip(batch.inputs["note"], batch.inputs["note_mask"], strict=True)
    return [joint.join(transform.tokens(ids[mask].tolist()[1:])).strip() for ids, mask in rows]


def changed(texts, known, seed=0, **settings):
    eda = Augment([{"type": "eda", "synonyms": SYNONYMS, **settings}], known.rows.inputs, seed=seed, known=known)
    return read(eda.apply(known.rows.take(np.arange(len(texts))), 0), known)


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_does_what_the_paper_says(operation, tokenizer):
    texts = sentences(100)
    known = known_of(texts, tokenizer)
    made = changed(texts, known, operations=[operation], probability=1.0, share=0.25)
    meant = {(word, other) for word, others in SYNONYMS.items() for other in others}
    different = 0
    for text, new in zip(texts, made, strict=True):
        old_words, new_words = text.split(), new.split()
        different += text != new
        if operation == "replace":
            pairs = {pair for pair in zip(old_words, new_words, strict=True) if pair[0] != pair[1]}
            assert pairs <= meant
            candidates = sum(word in SYNONYMS for word in old_words)
            assert sum(a != b for a, b in zip(old_words, new_words, strict=True)) == min(3, candidates)
        elif operation == "swap":
            assert sorted(old_words) == sorted(new_words)
            assert sum(a != b for a, b in zip(old_words, new_words, strict=True)) <= 6
        elif operation == "delete":
            rest = iter(old_words)
            assert new_words
            assert all(word in rest for word in new_words)  # in order
        else:
            has = any(word in SYNONYMS for word in old_words)
            assert len(new_words) == len(old_words) + (3 if has else 0)
            rest = iter(new_words)
            assert all(word in rest for word in old_words)
            extra = list(new_words)
            for word in old_words:
                extra.remove(word)
            assert set(extra) <= {other for _, other in meant}
    assert different > 60


def test_deletion_takes_a_share_of_the_words():
    texts = sentences(200, words=40)
    made = changed(texts, known_of(texts), operations=["delete"], probability=1.0, share=0.2)
    assert 1 - np.mean([len(text.split()) for text in made]) / 40 == pytest.approx(0.2, abs=0.02)
    one = known_of(["film"] * 50)
    assert changed(["film"] * 50, one, operations=["delete"], probability=1.0, share=1.0) == ["film"] * 50


def test_texts_are_changed_as_often_as_asked_and_anew_each_step():
    texts = sentences()
    known = known_of(texts)
    assert changed(texts, known, probability=0.0) == texts
    made = changed(texts, known, probability=0.5, operations=["insert", "delete"], share=0.3)
    assert 60 < sum(a != b for a, b in zip(texts, made, strict=True)) < 130
    assert changed(texts, known, probability=0.5, operations=["insert", "delete"], share=0.3) == made
    assert changed(texts, known, seed=1, probability=0.5, operations=["insert", "delete"], share=0.3) != made


def test_a_row_does_not_depend_on_how_long_its_neighbours_are():
    texts = [*sentences(20, words=5), " ".join(WORDS * 6)]
    known = known_of(texts)
    eda = Augment([{"type": "eda", "synonyms": SYNONYMS, "probability": 1.0, "share": 0.3}], known.rows.inputs, known=known)
    whole = read(eda.apply(known.rows.take(np.arange(21)), 0), known)
    alone = read(eda.apply(known.rows.take(np.arange(20)), 0, start=0, total=21), known)
    assert alone == whole[:20]


def test_empty_and_missing_texts_stay_and_none_becomes_too_long():
    texts = ["", None, "good film", *["good bad good bad good"] * 5]
    known = known_of(texts, max_tokens=6)
    batch = known.rows.take(np.arange(8))
    made = Augment([{"type": "eda", "synonyms": SYNONYMS, "probability": 1.0, "share": 1.0}], batch_inputs(known), known=known).apply(
        batch, 0
    )
    assert made.inputs["note"][0][made.inputs["note_mask"][0]].tolist() == [2]
    assert made.inputs["note"][1][made.inputs["note_mask"][1]].tolist() == [2, 3]
    assert made.inputs["note_mask"].sum(1).max() <= 6
    assert not made.inputs["note"][~made.inputs["note_mask"]].any()


def batch_inputs(known):
    return known.rows.inputs


def test_neighbours_are_words_in_like_surroundings():
    random = np.random.default_rng(0)
    topics = [[f"{letter}word{'abcdefghij'[k]}" for k in range(10)] for letter in "uvwxyz"]
    texts = []
    for _ in range(800):
        topic = topics[random.integers(len(topics))]
        texts.append(" ".join(random.choice(topic, size=8)))
    texts += ["the and of it"] * 400
    known = known_of(texts)
    transform = known.transforms["note"]
    names = transform.tokens(range(transform.inputs[0].cardinalities[0]))
    words = np.array([token for token, name in enumerate(names) if name.isalpha()])
    import deepseek.data.augment.neighbours as module

    before, module.FUNCTION_WORDS = module.FUNCTION_WORDS, 4
    try:
        near = nearest_words(known.rows, "note", words=words, begins=np.arange(len(names)) >= 4, most=3, least=0.3)
    finally:
        module.FUNCTION_WORDS = before
    assert len(near) == 60
    assert all(names[other][0] == names[word][0] for word, others in near.items() for other in others)
    assert not any(names[word] in ("the", "and", "of", "it") for word in near)


def test_eda_learns_its_synonyms_from_the_rows_or_a_file(tmp_path):
    texts = sentences(400)
    known = known_of(texts)
    (tmp_path / "words.txt").write_text("good, fine, no such word\nbad\tpoor\n\n", encoding="utf-8")
    assert read_thesaurus(tmp_path / "words.txt") == {"good": ["fine", "no such word"], "bad": ["poor"]}
    made = changed(texts, known, synonyms=str(tmp_path / "words.txt"), operations=["replace"], probability=1.0)
    assert {b for a, b in zip(" ".join(texts).split(), " ".join(made).split(), strict=True) if a != b} == {"fine", "poor"}
    (tmp_path / "words.json").write_text(json.dumps(SYNONYMS), encoding="utf-8")
    assert read_thesaurus(tmp_path / "words.json") == SYNONYMS
    (tmp_path / "wrong.json").write_text('{"good": "fine"}', encoding="utf-8")
    for name in ("wrong.json", "none.txt"):
        with pytest.raises(DataError, match="thesaurus"):
            read_thesaurus(tmp_path / name)


def test_eda_needs_words_and_what_made_them():
    known = known_of(sentences(20), "characters")
    with pytest.raises(InputError, match="cut into characters"):
        Augment(["eda"], known.rows.inputs, known=known)
    with pytest.raises(InputError, match="how the texts of 'note' read is not known"):
        Augment(["eda"], known.rows.inputs)
    with pytest.raises(InputError, match="changes texts"):
        Eda({})


def test_easy_augment_makes_variants_of_plain_texts():
    text = "the good film was bad and long and slow"
    made = easy_augment([text] * 30, synonyms=SYNONYMS, variants=2)
    assert all(len(variants) == 2 for variants in made)
    assert len({variant for variants in made for variant in variants}) > 10
    assert made == easy_augment([text] * 30, synonyms=SYNONYMS, variants=2)
    only = {variant for [variant] in easy_augment([text] * 20, synonyms=SYNONYMS, operations=["replace"], variants=1)}
    assert only <= {text.replace("good", "fine"), text.replace("good", "great"), text.replace("bad", "poor")}
    assert easy_augment(["", "word"], operations=["delete"], share=1.0, variants=1) == [[""], ["word"]]
    assert all(sorted(v.split()) == sorted(text.split()) for [v] in easy_augment([text] * 5, operations=["swap"], variants=1))
    with pytest.raises(InputError, match="need synonyms"):
        easy_augment([text], operations=["insert"])
    with pytest.raises(InputError, match="allowed: replace"):
        easy_augment([text], operations=["shout"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Although it is long, the film never bores.", "The film never bores although it is long."),
        ("The film never bores although it is long.", "Although it is long, the film never bores."),
        ("because it has no plot , the film falls apart .", "the film falls apart because it has no plot ."),
        ("the film falls apart because it has no plot .", "because it has no plot , the film falls apart ."),
        ("If I had known it, I would have left.", "I would have left if I had known it."),
        ("When the rain stops, the people dance.", "The people dance when the rain stops."),
        ("She always asks if it is true.", None),
        ("a good film", None),
        ("if so, the film works well", None),
        ("If it rains, and it will, we stay at home.", None),
        ("He left because it rained. She stayed because it was fun.", None),
    ],
)
def test_clauses_are_swapped_where_nothing_is_in_doubt(text, wanted):
    assert swap_clauses(text) == wanted


def test_clause_swap_in_batches():
    texts = ["because it has no plot , the film falls apart .", "a good film ."] * 10
    known = known_of(texts, "bpe")
    swap = Augment([{"type": "clause_swap", "probability": 0.5}], known.rows.inputs, known=known)
    made = read(swap.apply(known.rows.take(np.arange(20)), 0), known)
    assert set(made) == {*texts, "the film falls apart because it has no plot ."}
    assert made[1::2] == texts[1::2]
    none = Augment([{"type": "clause_swap", "probability": 0.0}], known.rows.inputs, known=known)
    assert read(none.apply(known.rows.take(np.arange(20)), 0), known) == texts


def translation_model(folder, vocabulary):
    """Save a tiny encoder-decoder that has learned nothing: what is tested is how such models are loaded and used."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["<pad>", "</s>", "<unk>", *vocabulary]
    tokenizer = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        vocab_size=len(names),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=1,
        max_position_embeddings=32,
    )
    transformers.MarianMTModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [translation_model(folder / name, WORDS) for name in ("there", "back")]


def test_texts_are_translated_there_and_back_once(models, tmp_path, monkeypatch):
    texts = [*sentences(5, words=4), ""]
    made = back_translate(texts, to=models[0], back=models[1], batch_size=2, beams=2, max_tokens=12, cache=tmp_path)
    assert len(made) == 6
    assert made[-1] == ""
    assert made[:5] != texts[:5]
    assert set(" ".join(made).split()) <= {*WORDS, "<unk>"}
    loads = []
    module = __import__("deepseek.data.augment.back_translation", fromlist=["_load"])
    load = module._load
    monkeypatch.setattr(module, "_load", lambda name: loads.append(name) or load(name))
    assert back_translate(texts, to=models[0], back=models[1], batch_size=2, beams=2, max_tokens=12, cache=tmp_path) == made
    assert loads == []
    assert back_translate(texts, to=models[0], back=models[1], batch_size=5, beams=2, max_tokens=12) == made
    assert loads == models


def test_back_translation_in_batches(models, tmp_path):
    texts = sentences(10, words=4)
    known = known_of(texts, "bpe")
    spec = {"type": "back_translation", "to": models[0], "back": models[1], "beams": 1, "max_tokens": 12, "cache": str(tmp_path)}
    batch = known.rows.take(np.arange(10))
    always = Augment([{**spec, "probability": 1.0}], known.rows.inputs, known=known)
    wanted = back_translate(texts, to=models[0], back=models[1], beams=1, max_tokens=12)
    assert read(always.apply(batch, 0), known) == wanted
    never = Augment([{**spec, "probability": 0.0}], known.rows.inputs, known=known)
    assert read(never.apply(batch, 0), known) == texts
    some = Augment([{**spec, "probability": 0.5}], known.rows.inputs, known=known)
    mixed = read(some.apply(batch, 0), known)
    assert all(text in (old, new) for text, old, new in zip(mixed, texts, wanted, strict=True))
    assert mixed != texts
    assert mixed != wanted
    rowless = Batch(batch.inputs)
    assert read(always.apply(rowless, 0), known) == texts


def test_models_that_are_not_there_and_numbers_out_of_range(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="cannot be loaded"):
        back_translate(["text"], to=str(tmp_path / "none"), back=str(tmp_path / "none"))
    with pytest.raises(InputError, match="at least 1"):
        back_translate(["text"], to="a", back="b", batch_size=0)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="transformers"):
        back_translate(["text"], to="a", back="b")

"""Language models and labels of words, from files to answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import deepseek
from deepseek.cli.app import run_app
from deepseek.errors import InputError, RecipeError
from deepseek.serving.rows.answers import AnswerWriter
from deepseek.serving.rows.reader import RowReader

VERSE = "the king is dead, long live the king.\nthe queen is here, long live the queen.\n"
PEOPLE, PLACES = ["Ada", "Grace", "Alan", "Edsger", "Barbara"], ["London", "Ulm", "Oslo", "Rome"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    (folder / "verse.txt").write_text(VERSE * 60)
    recipe = {
        "name": "verse",
        "data": {"source": {"type": "corpus", "path": str(folder / "verse.txt"), "piece": 40}, "split": {"on_leak": "ignore"}},
        "task": {"type": "language_modelling", "length": 24},
        "model": {"type": "transformer_xl", "width": 32, "depth": 2, "heads": 2, "mem_len": 24, "dropout": 0.0},
        "train": {"epochs": 6, "batch_size": 8, "learning_rate": 0.01},
    }
    return deepseek.run(recipe, out=folder / "runs")


def test_a_language_model_learns_its_text_and_writes_on(written):
    assert written.metrics["test"]["bits_per_character"] < 1.0
    assert written.metrics["test"]["perplexity"] == pytest.approx(2 ** written.metrics["test"]["bits_per_character"], rel=1e-9)
    output = run_app(["generate", str(written.run), "--prompt", "the king is ", "--tokens", "20", "--temperature", "0"])
    assert output.text.startswith("the king is dead, long live")
    predictor = deepseek.load(written.run)
    several = predictor.generate(["the ", "long "], tokens=5, seed=3)
    assert several == predictor.generate(["the ", "long "], tokens=5, seed=3)
    assert [len(text) for text in several] == [5, 5]
    assert predictor.generate([], tokens=5) == []
    assert len(predictor.generate("the qu", tokens=8, beams=4)) == 8


def test_the_end_of_the_text_is_what_it_is_measured_on(written):
    chosen = json.loads((Path(written.run) / "decisions.json").read_text())["chosen"]
    assert chosen["data.split.time"]["value"] == "place"
    assert deepseek.evaluate(written.run, {"text": [VERSE]})["metrics"]["bits_per_character"] < 1.5


def test_a_text_file_is_measured_as_the_corpus_that_it_is(written, tmp_path, capsys):
    (tmp_path / "more.txt").write_text(VERSE * 3)
    from_corpus = deepseek.evaluate(written.run, {"type": "corpus", "path": str(tmp_path / "more.txt"), "piece": 40})
    output = run_app(["evaluate", str(written.run), str(tmp_path / "more.txt")])
    assert output.result["metrics"] == pytest.approx(from_corpus["metrics"], rel=1e-6)
    assert from_corpus["metrics"]["bits_per_character"] < 1.0
    deepseek.generate(written.run, "the 王", tokens=1)
    assert "1 characters to go on from were not met in training" in capsys.readouterr().err


def test_a_language_model_says_that_it_answers_no_rows(written):
    with pytest.raises(InputError, match="no answer to a row"):
        deepseek.load(written.run).predict({"text": ["the king"]})
    with pytest.raises(InputError, match="keyword of generate"):
        deepseek.load(written.run).generate("a", warmth=1)


def test_what_a_language_model_cannot_be_asked_says_so(written):
    with pytest.raises(InputError, match="is not exported"):
        deepseek.export(written.run)
    with pytest.raises(InputError, match="from row to row"):
        deepseek.preview(Path(written.run) / "recipe.yaml")
    with pytest.raises(RecipeError, match="not exported"):
        deepseek.run({"data": {"source": "a.csv"}, "task": "language_modelling", "export": ["onnx"]})


def test_a_target_of_a_language_model_is_refused(tmp_path):
    (tmp_path / "verse.txt").write_text(VERSE)
    recipe = {"data": {"source": {"type": "corpus", "path": str(tmp_path / "verse.txt")}, "target": "text"}, "task": "language_modelling"}
    with pytest.raises(RecipeError, match="leave the key out"):
        deepseek.run(recipe, out=tmp_path)


def sentences(rows, seed=0):
    """Who is where, in words and tags; a name is a person's or a place's by the words beside it alone."""
    draw = np.random.default_rng(seed)
    words, tags = [], []
    for _ in range(rows):
        person, place = str(draw.choice(PEOPLE)), str(draw.choice(PLACES))
        long = bool(draw.integers(2))
        words.append(["Now", person, *(["Smith"] if long else []), "lives", "in", place, "."])
        tags.append(["O", "B-PER", *(["I-PER"] if long else []), "O", "O", "B-LOC", "O"])
    return pa.table({"words": words, "tags": tags})


LABELLING = {
    "task": "sequence_labelling",
    "model": {"type": "text_sequence", "encoder": {"type": "text_rnn", "width": 32, "token_width": 16, "dropout": 0.0}},
    "train": {"epochs": 12, "batch_size": 8, "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelling")
    pa.parquet.write_table(sentences(160), folder / "a.parquet")
    data = {"source": str(folder / "a.parquet"), "target": "tags", "fields": {"words": "tags"}, "split": {"on_leak": "ignore"}}
    return deepseek.run({"name": "names", "data": data, **LABELLING}, out=folder / "runs")


def test_words_are_labelled_from_the_command_line(labelled, tmp_path):
    assert labelled.metrics["test"]["span_f1"] > 0.95
    assert labelled.metrics["test"]["span_f1_PER"] > 0.95
    rows = sentences(9, seed=1)
    pa.parquet.write_table(rows.select(["words"]), tmp_path / "new.parquet")
    run_app(["predict", str(labelled.run), str(tmp_path / "new.parquet"), "-o", str(tmp_path / "answers.jsonl")])
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["prediction"] for answer in answers] == rows["tags"].to_pylist()
    first = rows["tags"].to_pylist()[0]
    end = 3 if "I-PER" in first else 2
    assert answers[0]["spans"] == [{"start": 1, "end": end, "label": "PER"}, {"start": end + 2, "end": end + 3, "label": "LOC"}]


def test_a_row_alone_is_labelled_as_among_others(labelled):
    predictor, rows = deepseek.load(labelled.run), sentences(5, seed=2)
    together = predictor.predict(rows)
    alone = pa.concat_tables([predictor.predict(rows.slice(place, 1)) for place in range(5)])
    assert together.equals(alone)
    assert predictor.predict(pa.table({"words": pa.array([[], None], pa.list_(pa.string()))}))["prediction"].to_pylist() == [[], []]
    assert predictor.evaluate(sentences(30, seed=3))["metrics"]["span_f1"] > 0.95


def test_labels_of_words_are_read_and_written_over_http(labelled):
    predictor, rows = deepseek.load(labelled.run), sentences(2, seed=5)["words"].to_pylist()
    reader = RowReader(predictor.preparation)
    read = reader.read([*({"words": row} for row in rows), {"words": "Ada"}, {"words": [1]}])
    assert sorted(read.bad) == [2, 3]
    answers = predictor.answer(read.batch)
    writer = AnswerWriter(answers.schema)
    first, second = writer.write(answers)
    assert len(first["prediction"]["prediction"]) == len(rows[0])
    assert {span["label"] for span in second["prediction"]["spans"]} == {"PER", "LOC"}
    spans = writer.json_schema()["properties"]["prediction"]["properties"]["spans"]
    assert spans["items"]["properties"]["start"] == {"type": "integer"}


def test_spans_of_texts_as_people_mark_them_are_learned(tmp_path):
    rows = sentences(160)
    texts, spans = [], []
    for words, tags in zip(rows["words"].to_pylist(), rows["tags"].to_pylist(), strict=True):
        text, marked = " ".join(words), []
        begin = len("Now ")
        end = begin + len(" ".join(words[1:3] if "I-PER" in tags else words[1:2]))
        marked.append({"start": begin, "end": end, "label": "PER"})
        begin = end + len(" lives in ")
        marked.append({"start": begin, "end": begin + len(words[-2]), "label": "LOC"})
        texts.append(text)
        spans.append(marked)
    pa.parquet.write_table(pa.table({"text": texts, "marks": spans}), tmp_path / "a.parquet")
    data = {"source": str(tmp_path / "a.parquet"), "target": "marks", "fields": {"text": "text"}, "split": {"on_leak": "ignore"}}
    run = deepseek.run({"name": "marks", "data": data, **LABELLING}, out=tmp_path / "runs")
    assert run.metrics["test"]["span_f1"] > 0.95
    answer = deepseek.load(run.run).predict(pa.table({"text": ["Now Ada Smith lives in Oslo ."]}))
    assert (
        answer["spans"].to_pylist()
        if hasattr(answer["spans"], "to_pylist")
        else list(answer["spans"]) == [[{"start": 4, "end": 13, "label": "PER"}, {"start": 23, "end": 27, "label": "LOC"}]]
    )

"""Annotations as a table: columns and types, what several people said, what is set aside, and a model trained on them."""

import json

import pyarrow as pa
import pytest

import deepseek
from deepseek.data.labelling.preannotations import choices_result, shapes_result, spans_result
from deepseek.data.labelling.shapes import Box
from deepseek.data.labelling.spans import Span
from deepseek.data.sources import open_source
from deepseek.errors import DataError, InputError


def said(*names):
    return choices_result(names, control="mood", to="text")


def tasks(*given):
    return [
        {
            "id": number,
            "data": data,
            "annotations": [{"created_at": f"2025-01-0{at}", "result": result} for at, result in enumerate(results, start=1)],
        }
        for number, (data, results) in enumerate(given, start=10)
    ]


@pytest.fixture
def opened(tmp_path):
    def make(exported, **more):
        (tmp_path / "export.json").write_text(json.dumps(exported))
        return open_source({"type": "label_studio", "path": "export.json", **more}, folder=tmp_path)

    return make


def table_of(source):
    return pa.Table.from_batches(list(source.read()), source.schema())


GIVEN = tasks(
    ({"text": "fine", "stars": 5, "meta": {"a": 1}}, [said("good"), said("good"), said("bad")]),
    ({"text": "so", "stars": 3}, [said("good"), said("bad")]),
    ({"text": "new", "stars": 4}, []),
)


def test_fields_and_choices_are_columns_and_ties_are_set_aside(opened):
    source = opened(GIVEN, about=True)
    assert table_of(source).to_pydict() == {
        "task": [10, 12],
        "annotations": [3, 0],
        "text": ["fine", "new"],
        "stars": [5, 4],
        "meta": ['{"a": 1}', None],
        "mood": ["good", None],
    }
    (aside,) = source.rejects()
    assert aside["line"].to_pylist() == [2]
    assert "no choice has a majority" in aside["reason"][0].as_py()


def test_every_annotation_can_be_a_row(opened):
    assert table_of(opened(GIVEN, several="all"))["mood"].to_pylist() == ["good", "good", "bad", "good", "bad", None]
    assert table_of(opened(GIVEN, several="latest"))["mood"].to_pylist() == ["bad", "bad", None]
    assert table_of(opened(GIVEN, several="reject"))["mood"].to_pylist() == [None]


def test_several_choices_are_a_list(opened):
    source = opened(tasks(({"text": "x"}, [said("a", "b")]), ({"text": "y"}, [said("a")])))
    assert table_of(source)["mood"].to_pylist() == [["a", "b"], ["a"]]
    with pytest.raises(DataError, match="several choices"):
        opened(tasks(({"text": "x"}, [said("a", "b")])), multiple=False).schema()


def test_spans_and_boxes_are_lists(opened):
    marked = spans_result("Ada left", [Span(0, 3, "PER")], control="names", to="text")
    boxes = shapes_result([Box(1, 2, 3, 4, "car")], (10, 20), control="box", to="image")
    table = table_of(opened(tasks(({"text": "Ada left"}, [marked + boxes]), ({"text": "none"}, [[]]))))
    assert table["names"].to_pylist() == [[{"start": 0, "end": 3, "label": "PER"}], []]
    box = table["box"].to_pylist()[0][0]
    assert (box["x"], box["y"], box["width"], box["height"]) == pytest.approx((1, 2, 3, 4))


def test_pictures_of_the_server_are_found_in_the_folder_of_media(opened, tmp_path):
    given = tasks(
        ({"image": "/data/upload/3/abc-cat.png"}, [said("cat")]),
        ({"image": "/data/local-files/?d=pets/dog.png"}, [said("dog")]),
        ({"image": "https://example.org/x.png"}, [said("dog")]),
    )
    assert table_of(opened(given, media="media"))["image"].to_pylist() == [
        str(tmp_path / "media/abc-cat.png"),
        str(tmp_path / "media/pets/dog.png"),
        "https://example.org/x.png",
    ]


def test_its_fingerprint_follows_labels_and_not_moments(opened):
    first = opened(GIVEN).fingerprint()
    later = json.loads(json.dumps(GIVEN))
    for task in later:
        task["updated_at"] = "2026"
    assert opened(later).fingerprint() == first
    later[2]["annotations"] = [{"created_at": "2026", "result": said("bad")}]
    assert opened(later).fingerprint() != first
    assert opened(GIVEN, several="latest").fingerprint() != first


def test_what_makes_no_sense_is_refused(opened):
    with pytest.raises(InputError, match="path, or url"):
        open_source({"type": "label_studio"})
    with pytest.raises(InputError, match="which project"):
        open_source({"type": "label_studio", "url": "http://127.0.0.1:1"})
    with pytest.raises(DataError, match="nothing in the export is labelled"):
        opened(tasks(({"text": "x"}, []))).schema()
    with pytest.raises(DataError, match="called like a field"):
        opened(tasks(({"mood": "x"}, [said("a")]))).schema()


def test_a_model_learns_from_annotations(opened, tmp_path):
    given = tasks(*(({"text": f"{word} {number}"}, [said(word)]) for number in range(40) for word in ("good", "bad")))
    opened(given)
    source = {"type": "label_studio", "path": str(tmp_path / "export.json")}
    run = deepseek.train(
        source, target="mood", out=tmp_path / "runs", overrides=["train.epochs=1", "data.fields={text: text}"], progress=False
    )
    assert run.metrics["validation"]

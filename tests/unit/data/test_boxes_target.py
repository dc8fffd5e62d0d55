"""Boxes as a target: read in every form, moved with their picture, bad ones counted and named."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from deepseek.data.augment.base import Draw
from deepseek.data.augment.flip import Flip
from deepseek.data.batch import Batch
from deepseek.data.loader import Loader
from deepseek.data.materialize import prepare
from deepseek.data.preparation import Preparation
from deepseek.data.targets import build_target
from deepseek.data.targets.boxes import read_boxes
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Field, Kind, Schema, infer_schema, target_kind


def png(width, height, paint=()):
    picture = Image.new("L", (width, height), 0)
    for box in paint:
        picture.paste(255, box)
    out = io.BytesIO()
    picture.save(out, "png")
    return out.getvalue()


def struct(*edges, label="cat", crowd=False):
    return {**dict(zip(("left", "top", "right", "bottom"), map(float, edges), strict=True)), "label": label, "crowd": crowd}


def table(rows, sizes=(40, 20)):
    pictures = [png(*sizes) for _ in rows]
    kind = pa.list_(
        pa.struct([*((name, pa.float64()) for name in ("left", "top", "right", "bottom")), ("label", pa.string()), ("crowd", pa.bool_())])
    )
    return pa.table({"picture": pa.array(pictures, pa.binary()), "boxes": pa.array(rows, kind)})


SCHEMA = Schema((Field("picture", Kind.IMAGE), Field("boxes", Kind.BOXES)), ("boxes",))


def fitted(data, *, fit="letterbox", size=20):
    image = {"type": "image", "size": size, "fit": fit, "channels": 1}
    return Preparation(SCHEMA, target="boxes", transforms={"picture": image}).fit(lambda: iter(data.to_batches()))


def rows_of(ragged):
    return [ragged.values[start:stop].tolist() for start, stop in pairwise(ragged.offsets.tolist())]


FORMS = {
    "edges": pa.array([[{"x1": 1, "y1": 2, "x2": 5, "y2": 8, "class": "a"}], []]),
    "sides": pa.array([[{"x": 1.0, "y": 2.0, "width": 4.0, "height": 6.0, "label": "a", "rotation": 0.0}], []]),
    "voc": pa.array([[{"xmin": 1, "ymin": 2, "xmax": 5, "ymax": 8, "name": "a"}], []]),
}


@pytest.mark.parametrize("form", FORMS)
def test_structs_are_read_by_the_names_of_their_numbers(form):
    found = read_boxes(pa.record_batch({"boxes": FORMS[form]}), ["boxes"])
    assert found.edges.tolist() == [[1.0, 2.0, 5.0, 8.0]]
    assert (found.rows.tolist(), found.names, found.crowd.tolist()) == ([0], ["a"], [False])


def test_two_columns_hold_boxes_and_labels():
    batch = pa.record_batch({"boxes": pa.array([[[1, 2, 5, 8], [0, 0, 1, 1]], []]), "labels": pa.array([[7, 3], []], pa.list_(pa.int64()))})
    found = read_boxes(batch, ["boxes", "labels"])
    assert found.edges.tolist() == [[1, 2, 5, 8], [0, 0, 1, 1]]
    assert [found.names[place] for place in found.labels] == ["7", "3"]
    assert found.integers
    with pytest.raises(DataError, match="as many boxes as labels"):
        read_boxes(batch.set_column(1, "labels", pa.array([[7], [3]])), ["boxes", "labels"])


def test_a_turned_box_becomes_the_upright_one_around_it():
    turned = pa.array([[{"x": 10.0, "y": 10.0, "width": 4.0, "height": 2.0, "label": "a", "rotation": 90.0}]])
    assert read_boxes(pa.record_batch({"b": turned}), ["b"]).edges[0].tolist() == pytest.approx([8.0, 10.0, 10.0, 14.0])


@pytest.mark.parametrize(("values", "error"), [([[[1, 2, 3]]], "3 numbers"), (["no"], "holds string"), ([[["a"]]], "no boxes")])
def test_what_is_no_box_is_named(values, error):
    with pytest.raises((DataError, ColumnError), match=error):
        read_boxes(pa.record_batch({"b": pa.array(values)}), ["b"])


def test_a_box_without_label_is_one():
    with pytest.raises(DataError, match="no label"):
        read_boxes(pa.record_batch({"b": pa.array([[{"x1": 1, "y1": 2, "x2": 5, "y2": 8, "label": None}]])}), ["b"])
    bare = read_boxes(pa.record_batch({"b": pa.array([[[1.0, 2.0, 5.0, 8.0]]])}), ["b"])
    assert bare.names == ["object"]


@pytest.mark.parametrize("form", ["structs", "lists"])
def test_a_target_of_boxes_is_recognized(form):
    boxes = FORMS["edges"] if form == "structs" else pa.array([[[1.0, 2.0, 5.0, 8.0]], []])
    data = pa.table({"picture": pa.array([png(4, 4)] * 2), "boxes": boxes})
    schema, _ = infer_schema(data, ["boxes"])
    assert schema["boxes"].kind is Kind.BOXES
    assert target_kind(data["boxes"], schema["boxes"])[0] == "boxes"


@pytest.mark.parametrize(("fit", "wanted"), [("letterbox", [4, 7, 10, 11]), ("resize", [4, 4, 10, 12])])
def test_boxes_go_where_their_picture_goes(fit, wanted):
    """The painted pixels of the stored picture are those of the box: the two ways are reckoned apart from each other."""
    data = table([[struct(8, 4, 20, 12)]])
    data = data.set_column(0, "picture", pa.array([png(40, 20, [(8, 4, 20, 12)])], pa.binary()))
    preparation = fitted(data, fit=fit)
    (batch,) = data.to_batches()
    target = preparation.target.apply(batch)["target"]
    assert target.values.tolist() == [[*wanted, 0.0, 0.0]]
    pixels = preparation.arrays(batch)["picture"][0, ..., 0] > 200
    assert np.argwhere(pixels).min(axis=0).tolist() == [wanted[1], wanted[0]]
    assert (np.argwhere(pixels).max(axis=0) + 1).tolist() == [wanted[3], wanted[2]]


def test_answers_go_back_to_the_picture():
    data = table([[struct(8, 4, 20, 12)]])
    preparation = fitted(data)
    (batch,) = data.to_batches()
    (frame,) = preparation.target.beside_answers(batch)["frame"]
    stored = preparation.target.apply(batch)["target"].values[0, :4] / 20
    assert (np.tile(frame[:2], 2) + stored * np.tile(frame[2:4], 2)).tolist() == pytest.approx([8, 4, 20, 12], abs=1e-5)
    assert frame[4:].tolist() == [40.0, 20.0]


def test_bad_boxes_are_left_out_counted_and_named():
    bad = [struct(5, 5, 5, 9), struct(9, 5, 6, 9), struct(50, 5, 60, 9, label="dog"), struct(float("nan"), 1, 2, 3)]
    data = table([[struct(-10, -10, 10, 10), *bad], [], [struct(1, 1, 3, 3, label="dog", crowd=True)]])
    preparation = fitted(data, fit="resize")
    (batch,) = data.to_batches()
    assert rows_of(preparation.target.apply(batch)["target"]) == [[[0, 0, 5, 10, 0, 0]], [], [[0.5, 1, 1.5, 3, 1, 1]]]
    told = preparation.target.take_left_out()
    assert [line.split(";")[0] for line in told] == [
        "1 boxes were left out: not finite",
        "2 boxes were left out: without height or width",
        "1 boxes were left out: outside of its picture",
    ]
    assert "'dog' at [50.0, 5.0, 60.0, 9.0]" in told[2]
    assert preparation.target.take_left_out() == []


def test_a_row_without_a_list_is_missing_and_a_class_that_training_had_not_is_unseen():
    preparation = fitted(table([[struct(1, 1, 3, 3)], []]))
    (batch,) = table([None, [], [struct(1, 1, 3, 3, label="fox")]]).to_batches()
    assert preparation.target.missing(batch).tolist() == [True, False, False]
    assert preparation.target.unseen(batch).tolist() == [False, False, True]
    with pytest.raises(DataError, match="fox"):
        preparation.target.apply(batch.slice(2))


def test_boxes_without_a_picture_are_set_aside(tmp_path):
    data = table([[struct(1, 1, 3, 3)], [struct(2, 2, 9, 9)], []])
    preparation = fitted(data)
    data = data.set_column(0, "picture", pa.array([data["picture"][0].as_py(), None, b"no picture"], pa.binary()))
    dataset, aside = prepare(preparation, iter(data.to_batches()), tmp_path / "rows", rows=3, training=True)
    assert aside == {"picture cannot be read": 1, "target cannot be read": 1}
    assert len(dataset) == 1


def test_boxes_need_one_picture_and_training_rows_with_boxes():
    with pytest.raises(DataError, match="has a box"):
        fitted(table([[], []]))
    two = Schema((*SCHEMA.fields, Field("other", Kind.IMAGE)), ("boxes",))
    data = table([[struct(1, 1, 3, 3)]])
    data = data.append_column("other", data["picture"])
    with pytest.raises(InputError, match="2 columns of images"):
        Preparation(two, target="boxes").fit(lambda: iter(data.to_batches()))
    with pytest.raises(InputError, match="3 columns"):
        build_target("boxes", [Field(name, Kind.BOXES) for name in "abc"])


def test_what_was_fitted_is_read_again(tmp_path):
    data = table([[struct(1, 1, 3, 3), struct(2, 2, 9, 9, label="dog")], []])
    preparation = fitted(data)
    again = Preparation.from_json(preparation.to_json())
    (batch,) = data.to_batches()
    assert again.target.spec == preparation.target.spec
    assert again.target.spec.shape == (20, 20)
    assert rows_of(again.target.apply(batch)["target"]) == rows_of(preparation.target.apply(batch)["target"])


def test_boxes_come_in_batches_and_move_with_augmented_pictures(tmp_path):
    data = table([[struct(0, 0, 10, 10)], [], [struct(0, 0, 4, 4), struct(30, 0, 40, 20, label="dog")]])
    preparation = fitted(data, fit="resize", size=40)
    prepare(preparation, iter(data.to_batches()), tmp_path / "rows", rows=3, training=True)
    from deepseek.data.prepared import PreparedDataset

    (batch,) = Loader(PreparedDataset.open(tmp_path / "rows"), batch_size=3, shuffle=False).batches(0)
    assert batch.targets["target"].shape == (3, 2, 6)
    assert batch.targets["target_mask"].tolist() == [[True, False], [False, False], [True, True]]
    flipped = Flip(preparation.placed, probability=1.0).apply(batch, Draw(torch.Generator(), 0, 3)).targets["target"]
    assert flipped[2].tolist() == [[36, 0, 40, 8, 0, 0], [0, 0, 10, 40, 1, 0]]
    assert flipped[1].abs().sum() == 0


def test_a_box_that_moved_away_costs_no_other_its_place():
    mask = torch.tensor([[False, True], [False, False]])
    batch = Batch({"x": torch.zeros(2, 1)}, {"target": torch.ones(2, 2, 6), "target_mask": mask})
    assert batch.trimmed().targets["target"].shape == (2, 2, 6)

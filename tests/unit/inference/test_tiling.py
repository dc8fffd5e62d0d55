"""Tiles: an object on a seam is found once, and where it is in the whole picture."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deepseek.data.preparation import Preparation
from deepseek.data.sources import open_source
from deepseek.errors import InputError
from deepseek.fields import Field, Kind, Schema
from deepseek.inference.tiling import Tiles, merged, stream_tiled, tiles_of
from deepseek.tasks.box_answers import Found, Selection

SIDE = 64


class Brightest:
    """Finds what is bright in a tile: one object, as sure as it is large."""

    def __init__(self):
        self.rows = []

    def run(self, inputs):
        (pictures,) = inputs.values()
        self.rows.append(len(pictures))
        boxes, scores = np.zeros((len(pictures), 1, 4), np.float32), np.zeros((len(pictures), 1, 1), np.float32)
        for row, picture in enumerate(pictures[..., 0] > 127):
            if picture.any():
                down, across = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
                boxes[row, 0] = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1]) / SIDE
                scores[row, 0] = 0.5 + picture.sum() / SIDE**2 / 2
        return {"box": boxes, "score": scores}


@pytest.fixture(scope="module")
def preparation():
    out = io.BytesIO()
    Image.new("L", (SIDE, SIDE)).save(out, "png")
    box = {"left": 1.0, "top": 1.0, "right": 9.0, "bottom": 9.0, "label": "spot"}
    data = pa.table({"picture": pa.array([out.getvalue()], pa.binary()), "boxes": [[box]]})
    schema = Schema((Field("picture", Kind.IMAGE), Field("boxes", Kind.BOXES)), ("boxes",))
    return Preparation(schema, target="boxes").fit(lambda: iter(data.to_batches()))


def found(preparation, picture, tiles, backend=None):
    predictor = SimpleNamespace(
        preparation=preparation,
        backend=backend or Brightest(),
        target=preparation.target.spec,
        selection=Selection(),
        columns=("picture",),
        require_columns=lambda names: None,
    )
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "png")
    source = open_source(pa.table({"picture": pa.array([out.getvalue()], pa.binary())}))
    (answers,) = stream_tiled(predictor, source, tiles)
    return answers["prediction"].to_pylist()[0]


def painted(*boxes, size=(200, 200)):
    picture = np.zeros(size, np.uint8)
    for left, top, right, bottom in boxes:
        picture[top:bottom, left:right] = 255
    return picture


def edges(answers):
    return sorted([round(one[edge]) for edge in ("left", "top", "right", "bottom")] for one in answers)


@pytest.mark.parametrize("left", [46, 50, 56, 60])
@pytest.mark.parametrize("top", [30, 58])
def test_an_object_on_a_seam_is_found_once(preparation, left, top):
    box = (left, top, left + 12, top + 12)
    answers = found(preparation, painted(box), Tiles(SIDE, 0.25))
    assert edges(answers) == [list(box)]


def test_without_merging_it_would_be_found_several_times(preparation):
    parts = [
        Found(np.array([[50.0, 10, 64, 22]]), np.array([0.9]), np.array([0])),
        Found(np.array([[50.0, 10, 70, 22]]), np.array([0.8]), np.array([0])),
    ]
    cut = [np.array([True]), np.array([False])]
    once = merged(parts, cut, overlap=0.8, most=10)
    assert once.boxes.tolist() == [[50.0, 10, 70, 22]]  # the whole one, though the cut one is surer
    assert len(merged(parts, [np.array([False])] * 2, overlap=0.8, most=10).scores) == 2
    other = [parts[0], parts[1]._replace(classes=np.array([1]))]
    assert len(merged(other, cut, overlap=0.8, most=10).scores) == 2


def test_each_object_of_a_large_picture_is_found_where_it_is(preparation):
    boxes = [(5, 5, 15, 20), (100, 30, 112, 40), (180, 185, 198, 197)]
    assert edges(found(preparation, painted(*boxes), Tiles(SIDE, 0.25))) == [list(box) for box in sorted(boxes)]


def test_a_picture_smaller_than_a_tile_is_one(preparation):
    backend = Brightest()
    assert edges(found(preparation, painted((5, 5, 15, 20), size=(40, 60)), Tiles(SIDE, 0.25), backend)) == [[5, 5, 15, 20]]
    assert backend.rows == [1]


def test_few_tiles_go_through_the_network_at_once(preparation):
    backend = Brightest()
    found(preparation, painted((5, 5, 15, 20), size=(300, 300)), Tiles(SIDE, 0.25), backend)
    assert sum(backend.rows) == len(Tiles(SIDE, 0.25).starts(300)) ** 2
    assert max(backend.rows) <= 16


def test_tiles_end_with_the_picture_and_are_checked(preparation):
    assert Tiles(100, 0.2).starts(100) == [0]
    assert Tiles(100, 0.0).starts(200) == [0, 100]
    assert tiles_of(512) == Tiles(512, 0.2)
    assert tiles_of({"size": 512, "overlap": 0.5}) == Tiles(512, 0.5)
    with pytest.raises(InputError, match="a size from 1 on"):
        found(preparation, painted(), Tiles(64, 1.0))


def test_pictures_of_sixteen_bits_are_read_as_without_tiles(preparation):
    deep = np.zeros((SIDE, 2 * SIDE), np.uint16)
    deep[8:20, 70:90] = 65_535
    deep[40:50, 5:15] = 20_000  # dark, of sixteen bits; cut at 255 it would be as bright
    assert edges(found(preparation, deep, Tiles(SIDE, 0.0))) == [[70, 8, 90, 20]]


@pytest.mark.parametrize("wrong", ["large", {"size": 64, "overlp": 0.1}, {"size": "64"}, 64.5, None, True])
def test_what_is_no_tile_is_said(wrong):
    with pytest.raises(InputError, match="tiles are"):
        tiles_of(wrong)

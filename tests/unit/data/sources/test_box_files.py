from __future__ import annotations

import json

import pyarrow as pa
import pytest
from PIL import Image

from deepseek.data.sources import open_source
from deepseek.errors import DataError, InputError


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            Image.new("L", (40, 20)).save(folder / name)
        else:
            (folder / name).write_text(text)


def read(source):
    return pa.Table.from_batches(list(source.read())).to_pylist()


def edges(row):
    return [[box[name] for name in ("left", "top", "right", "bottom")] for box in row["boxes"]]


def test_parts_of_the_picture_become_pixels_and_numbers_names(tmp_path):
    write(tmp_path, {"images/a.png": None, "images/b.png": None, "labels/a.txt": "1 0.5 0.5 0.25 0.5\n", "labels/b.txt": ""})
    source = open_source({"type": "box_files", "path": "images", "labels": "labels", "classes": ["cat", "dog"]}, folder=tmp_path)
    a, b = read(source)
    assert edges(a) == [[15.0, 5.0, 25.0, 15.0]]
    assert a["boxes"][0]["label"] == "dog"
    assert b["boxes"] == []


def test_lines_in_pixels(tmp_path):
    write(tmp_path, {"a.png": None, "a.txt": "1 2 11 12 3\n5,6,7,8,1\n"})
    (row,) = read(
        open_source({"type": "box_files", "path": ".", "form": "pixels", "classes": ["x", "y", "z"], "first_class": 1}, folder=tmp_path)
    )
    assert edges(row) == [[1, 2, 11, 12], [5, 6, 7, 8]]
    assert [box["label"] for box in row["boxes"]] == ["z", "x"]


def test_pascal_voc(tmp_path):
    box = "<bndbox><xmin>3</xmin><ymin>1</ymin><xmax>10</xmax><ymax>9</ymax></bndbox>"
    write(tmp_path, {"a.jpg": None, "a.xml": f"<annotation><object><name>dog</name>{box}</object></annotation>"})
    (row,) = read(open_source({"type": "box_files", "path": "."}, folder=tmp_path))
    assert edges(row) == [[2, 0, 10, 9]]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("b.txt", "1 0.5 0.5\n", "is not class cx cy w h"),
        ("b.txt", "\n1 0.5 0.5 nan 1\n", "a number that is none"),
        ("b.txt", "9 0.5 0.5 0.1 0.1\n", "none of 0 to 1"),
        ("b.txt", "12 30 31 49 cat\n", "is not class cx cy w h; x1 y1 x2 y2 class are read with form: pixels"),
        ("b.txt", "12 30 31 49 0\n", "holds no parts of the picture, which are at most 1"),
        ("b.xml", "<annotation><object/></annotation>", "no name, or no box"),
        ("b.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', "entities"),
    ],
)
def test_a_picture_whose_boxes_cannot_be_read_is_set_aside(tmp_path, name, text, reason):
    write(tmp_path, {"a.png": None, "a.txt": "0 0.5 0.5 1 1", "b.png": None, name: text})
    source = open_source({"type": "box_files", "path": ".", "classes": ["cat", "dog"]}, folder=tmp_path)
    assert [row["image"] for row in read(source)] == ["a.png"]
    (bad,) = [row for batch in source.rejects() for row in batch.to_pylist()]
    assert bad["raw"] == "b.png"
    assert reason in bad["reason"]


def test_a_picture_without_a_file_was_not_looked_at_unless_said(tmp_path):
    write(tmp_path, {"a.png": None, "a.txt": "0 0.5 0.5 1 1", "b.png": None})
    spec = {"type": "box_files", "path": "."}
    assert read(open_source(spec, folder=tmp_path))[1]["boxes"] is None
    assert read(open_source({**spec, "unlabelled": "empty"}, folder=tmp_path))[1]["boxes"] == []


def test_folders_say_the_split(tmp_path):
    write(tmp_path, {"train/a.png": None, "train/a.txt": "", "val/b.png": None, "val/b.txt": ""})
    source = open_source({"type": "box_files", "path": "."}, folder=tmp_path)
    assert source.given_split() == "split"
    assert [row["split"] for row in read(source)] == ["train", "validation"]


def test_a_folder_without_pictures_says_so(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        open_source({"type": "box_files", "path": "."}, folder=tmp_path).schema()


COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}, {"id": 9, "file_name": "b.png"}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 5], "iscrowd": 1}],
}


def coco(folder, document):
    (folder / "set.json").write_text(json.dumps(document))
    return open_source({"type": "coco", "path": "set.json", "images": "pictures"}, folder=folder)


def test_coco(tmp_path):
    source = coco(tmp_path, COCO)
    a, b = read(source)
    assert edges(a) == [[1, 2, 11, 7]]
    assert (a["boxes"][0]["label"], a["boxes"][0]["crowd"], b["boxes"]) == ("cat", True, [])
    assert source.schema().field("image").metadata == {b"deepseek.root": str(tmp_path / "pictures").encode()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"image_id": 1}, "image_id is 1"), ({"category_id": 9}, "category_id is 9"), ({"bbox": [1, 2]}, "not four numbers")],
)
def test_annotations_of_nothing_are_set_aside(tmp_path, change, reason):
    source = coco(tmp_path, {**COCO, "annotations": [{**COCO["annotations"][0], **change}]})
    assert [row["boxes"] for row in read(source)] == [[], []]
    (bad,) = [row for batch in source.rejects() for row in batch.to_pylist()]
    assert reason in bad["reason"]


def test_another_json_is_refused(tmp_path):
    with pytest.raises(DataError, match="no file of COCO"):
        read(coco(tmp_path, {"images": []}))


def reasons(source):
    return {row["raw"]: row["reason"] for batch in source.rejects() for row in batch.to_pylist()}


def test_a_file_of_boxes_without_a_picture_is_named(tmp_path):
    files = {"a.png": None, "a.txt": "0 0.5 0.5 1 1", "b.txt": "0 0.5 0.5 1 1", "classes.txt": "cat\ndog\n", "c.xml": "<annotation/>"}
    write(tmp_path, files)
    source = open_source({"type": "box_files", "path": "."}, folder=tmp_path)
    assert [row["image"] for row in read(source)] == ["a.png"]
    assert reasons(source) == dict.fromkeys(("b.txt", "c.xml"), "there is no picture of this name")


def test_a_folder_of_boxes_that_is_not_there_is_said(tmp_path):
    write(tmp_path, {"images/a.png": None})
    with pytest.raises(DataError, match=r"there is no folder .*lables"):
        read(open_source({"type": "box_files", "path": "images", "labels": "lables"}, folder=tmp_path))


def turned(folder, name):
    """A picture whose file lies on its side: stored 40×20, shown 20×40."""
    folder.mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(folder / name, exif=exif)


def test_boxes_made_for_another_size_are_set_aside(tmp_path):
    size = "<size><width>40</width><height>20</height></size>"
    box = "<bndbox><xmin>3</xmin><ymin>1</ymin><xmax>10</xmax><ymax>9</ymax></bndbox>"
    xml = f"<annotation>{size}<object><name>dog</name>{box}</object></annotation>"
    write(tmp_path, {"a.jpg": None, "a.xml": xml, "b.xml": xml.replace("<width>40", "<width>80"), "b.jpg": None, "c.xml": xml})
    turned(tmp_path, "c.jpg")
    source = open_source({"type": "box_files", "path": "."}, folder=tmp_path)
    assert [row["image"] for row in read(source)] == ["a.jpg"]
    found = reasons(source)
    assert found["b.jpg"] == "the file says 80×20 pixels, and the picture has 40×20"
    assert found["c.jpg"].endswith("the picture has 20×40; it is shown turned, by its EXIF orientation")


def test_a_picture_of_another_size_than_coco_says_is_set_aside(tmp_path):
    turned(tmp_path / "pictures", "a.png")
    source = coco(tmp_path, COCO)
    assert [row["image"] for row in read(source)] == ["b.png"]
    assert "shown turned" in next(iter(reasons(source).values()))
    before = source.fingerprint()
    Image.new("L", (40, 20)).save(tmp_path / "pictures" / "a.png")
    assert coco(tmp_path, COCO).fingerprint() != before, "what was read before the picture was mended is not used again"
    assert [row["image"] for row in read(coco(tmp_path, COCO))] == ["a.png", "b.png"]


@pytest.mark.parametrize("part", ["images", "categories"])
def test_two_entries_of_one_id_are_refused(tmp_path, part):
    with pytest.raises(DataError, match="two entries of the id"):
        read(coco(tmp_path, {**COCO, part: [*COCO[part], {**COCO[part][0], "file_name": "c.png", "name": "dog"}]}))


def test_names_say_whose_a_picture_is(tmp_path):
    write(tmp_path, {f"{name}.png": None for name in ("film1_a", "film1_b", "film2_a")})
    spec = {"type": "box_files", "path": ".", "unlabelled": "empty", "group": "(film[0-9]+)_"}
    assert [row["group"] for row in read(open_source(spec, folder=tmp_path))] == ["film1", "film1", "film2"]
    with pytest.raises(DataError, match=r"'film1_a.png' does not say its group"):
        read(open_source({**spec, "group": "patient"}, folder=tmp_path))
    with pytest.raises(InputError, match="no regular expression"):
        open_source({**spec, "group": "(film"}, folder=tmp_path)
    document = {**COCO, "images": [{"id": 7, "file_name": "film1_a.png"}], "annotations": []}
    (tmp_path / "set.json").write_text(json.dumps(document))
    (row,) = read(open_source({"type": "coco", "path": "set.json", "group": "film[0-9]"}, folder=tmp_path))
    assert row["group"] == "film1"


def test_a_folder_of_boxes_that_is_taken_for_classes_is_pointed_out(tmp_path):
    write(tmp_path, {"train/a.png": None, "train/a.txt": "1 2 3 4 x", "test/b.png": None, "test/b.txt": ""})
    with pytest.raises(DataError) as told:
        open_source(tmp_path).schema()
    assert "type: box_files" in told.value.hint


def test_a_file_of_coco_that_is_taken_for_a_table_is_pointed_out(tmp_path):
    (tmp_path / "set.json").write_text(json.dumps(COCO))
    with pytest.raises(DataError) as told:
        read(open_source(tmp_path / "set.json"))
    assert "type: coco" in told.value.hint

"""Boxes as COCO writes them: one JSON file with pictures, annotations and categories."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.artifacts.files import sha256_json
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.sources.box_files import BOXES
from deepseek.data.sources.files import RAW_CHARACTERS, FileSource, reject_batch
from deepseek.data.sources.groups import GROUP, NamedGroups
from deepseek.data.sources.text import utf8_blocks
from deepseek.data.transforms.image import picture_size
from deepseek.errors import DataError

_BATCH_ROWS = 4_096


class CocoSource(FileSource):
    """Read pictures and their boxes from a file in COCO's form, https://cocodataset.org/#format-data.

    The columns are `image` (the picture's `file_name`) and `boxes`: edges in pixels, the category's name, and `crowd`, from `iscrowd`. A
    picture without annotations has an empty list: the file says of every picture what is in it. Annotations of no known picture or
    category, or whose `bbox` is not four numbers, are set aside (`rejects`) with their reason, and so are pictures of another size than the
    file says, whose boxes would lie elsewhere. The file is held in memory.

    Args:
        folder: What relative paths are relative to.
        path: The file.
        images: The folder that the files' names are relative to; that of the file where not given.
        group: A regular expression that says from a file's name whose it is, such as `(patient[0-9]+)_`: what its first group finds is
            the column `group`, which `split.group` keeps together.
    """

    def __init__(self, folder: Path = Path(), /, *, path: str | Path, images: str | Path | None = None, group: str | None = None) -> None:
        super().__init__(folder, path=path)
        self.images, self.group = images, group
        self._groups = None if group is None else NamedGroups(group)
        self._read: tuple[object, _Table] | None = None

    @property
    def root(self) -> Path:
        """The folder of the pictures."""
        return super().root if self.images is None else Path(os.path.normpath((self.folder / self.images).expanduser().absolute()))

    def schema(self) -> pa.Schema:
        """Return `image` and `boxes`."""
        fields = [pa.field("image", pa.string(), metadata={ROOT_KEY: os.fsencode(self.root)}), pa.field("boxes", BOXES)]
        return pa.schema(fields if self._groups is None else [*fields, pa.field(GROUP, pa.string())])

    def fingerprint(self) -> str:
        """Return a hash of the file, and of what is set aside: that hangs on the pictures, which may be mended where they lie."""
        found, bad = super().fingerprint(), self._table()[2]
        return sha256_json([found, bad]) if bad else found

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the annotations that belong to nothing or are no boxes."""
        if bad := self._table()[2]:
            yield reject_batch([None] * len(bad), [reason for reason, _ in bad], [raw for _, raw in bad])

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        target = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        names, boxes, _ = self._table()
        for start in range(0, len(names), _BATCH_ROWS):
            part = slice(start, start + _BATCH_ROWS)
            values = {"image": pa.array(names[part], pa.string()), "boxes": pa.array(boxes[part], BOXES)}
            if self._groups is not None:
                values[GROUP] = pa.array(self._groups.of(names[part]), pa.string())
            yield pa.record_batch([values[name] for name in target.names], schema=target)

    def _table(self) -> _Table:
        stamp = self.stamp()
        if self._read is None or self._read[0] != stamp:
            self._read = (stamp, _table_of(self.root, [_document(file) for file in self.files()]))
        return self._read[1]


_Table = tuple[list[str], list[list[dict[str, Any]]], list[tuple[str, str]]]


def _document(file: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(b"".join(utf8_blocks(file)))
        pictures = _by_id(document["images"])
        names = {number: str(picture["file_name"]) for number, picture in pictures.items()}
        sizes = {number: (picture.get("height"), picture.get("width")) for number, picture in pictures.items()}
        categories = {number: str(category["name"]) for number, category in _by_id(document["categories"]).items()}
        annotations = list(document["annotations"])
    except _TwiceError as error:
        raise DataError(
            f"{str(file)!r} has two entries of the id {error.args[0]!r}", hint="each picture and category has its own"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{str(file)!r} is no file of COCO: {error!r}", hint="it is an object with images, annotations and categories"
        ) from None
    return {"images": names, "categories": categories, "annotations": annotations, "sizes": sizes}


class _TwiceError(Exception):
    """Two entries have the same id."""


def _by_id(entries: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for entry in entries:
        if entry["id"] in found:
            raise _TwiceError(entry["id"])
        found[entry["id"]] = entry
    return found


def _misfit(name: str, told: tuple[Any, Any], root: Path) -> str | None:
    """Return why a picture's boxes cannot lie where the file says: it is of another size than the file was made for."""
    if not all(type(side) is int and side > 0 for side in told):
        return None
    size = picture_size(name, root)
    if size is None or size == told:  # one that cannot be read is set aside, and named, when it is to be prepared
        return None
    turned = "; it is shown turned, by its EXIF orientation" if size == told[::-1] else ""
    return f"the file says {told[1]}×{told[0]} pixels of {name!r}, and the picture has {size[1]}×{size[0]}{turned}"


def _table_of(root: Path, documents: Sequence[Mapping[str, Any]]) -> _Table:
    names: list[str] = []
    boxes: list[list[dict[str, Any]]] = []
    bad: list[tuple[str, str]] = []
    for document in documents:
        found: dict[Any, list[dict[str, Any]]] = {number: [] for number in document["images"]}
        for annotation in document["annotations"]:
            reason = _problem(annotation, found, document["categories"])
            if reason:
                bad.append((reason, json.dumps(annotation)[:RAW_CHARACTERS]))
                continue
            left, top, width, height = annotation["bbox"]
            edges = {"left": left, "top": top, "right": left + width, "bottom": top + height}
            label = document["categories"][annotation["category_id"]]
            found[annotation["image_id"]].append({**edges, "label": label, "crowd": bool(annotation.get("iscrowd", 0))})
        for number, name in document["images"].items():
            if reason := _misfit(name, document["sizes"][number], root):
                bad.append((reason, name))
                continue
            names.append(name)
            boxes.append(found[number])
    if not names:
        raise DataError(f"the file of COCO names no picture that can be used{f': {bad[0][0]}' if bad else ''}")
    return names, boxes, bad


def _problem(annotation: Any, pictures: Mapping[Any, Any], categories: Mapping[Any, str]) -> str | None:
    if not isinstance(annotation, Mapping):
        return "an annotation is no object"
    for key, known in (("image_id", pictures), ("category_id", categories)):
        value = annotation.get(key)
        if not isinstance(value, int | str) or value not in known:
            return f"an annotation's {key} is {value!r}, which the file does not know"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) and math.isfinite(side) for side in box):
        return f"an annotation's bbox is {box!r}, not four numbers"
    return None

"""Pictures with a file of boxes each: text with a box a line, or Pascal VOC's XML."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import pyarrow as pa

from deepseek.data.sources.base import HASHED_KEY, ROOT_KEY, SPLITS
from deepseek.data.sources.files import FileSource, hash_files, reject_batch
from deepseek.data.sources.folder import SUFFIXES
from deepseek.data.sources.folder_files import walk
from deepseek.data.sources.groups import GROUP, NamedGroups
from deepseek.data.sources.text import check_encoding, utf8_blocks
from deepseek.data.transforms.image import picture_size
from deepseek.errors import DataError

BOXES = pa.list_(
    pa.struct([*((name, pa.float64()) for name in ("left", "top", "right", "bottom")), ("label", pa.string()), ("crowd", pa.bool_())])
)
"""A column of boxes: edges in pixels of the picture, the class, and whether it is around many objects."""
_BATCH_ROWS = 4_096
_PARTS = 5
_LARGEST_PART = 2.0
"""Boxes may reach beyond their picture a little; centres and sides of more than this many pictures are pixels."""


class BoxFilesSource(FileSource):
    """Read a folder of pictures, each with a file of boxes of the same name: `a.jpg` and `a.txt` or `a.xml`.

    The columns are `image` (the path in the folder), `boxes` and, where the folders at the top are called `train`, `validation` or `test`,
    `split`. A line of text is `class cx cy w h`, centre and sides as parts of the picture (`relative`, as YOLO's tools write it), or
    `x1 y1 x2 y2 class` in pixels (`pixels`); commas may stand for spaces. XML is Pascal VOC's. An empty file says that there is nothing to
    see. A picture whose file cannot be read, or says another size than the picture has, is set aside with the reason (`rejects`), and so
    is a file of boxes without a picture; a picture without a file has no boxes, and is set aside in training, unless `unlabelled` says
    that this means nothing to see.

    Args:
        folder: What relative paths are relative to.
        path: The folder of pictures.
        labels: The folder of the files of boxes, laid out as that of the pictures; the same where not given.
        form: How a line of text is to be read.
        classes: The names of classes that are given as numbers, from 0 (or from `first_class`).
        first_class: The number of the first class.
        unlabelled: What a picture without a file of boxes is: `missing`, or `empty`.
        encoding: How text files are encoded.
        group: A regular expression that says from a file's name whose it is, such as `(patient[0-9]+)_`: what its first group finds is
            the column `group`, which `split.group` keeps together.

    Raises:
        InputError: There is no such encoding, or the pattern is none.
    """

    def __init__(  # noqa: PLR0913 - its arguments are its schema
        self,
        folder: Path = Path(),
        /,
        *,
        path: str | Path,
        labels: str | Path | None = None,
        form: Literal["relative", "pixels"] = "relative",
        classes: list[str] | None = None,
        first_class: int = 0,
        unlabelled: Literal["missing", "empty"] = "missing",
        encoding: str = "utf-8",
        group: str | None = None,
    ) -> None:
        super().__init__(folder, path=path)
        self.labels, self.form, self.classes, self.first_class = labels, form, classes, first_class
        self.unlabelled, self.encoding = unlabelled, check_encoding(encoding)
        self.group, self._groups = group, None if group is None else NamedGroups(group)
        self._read: tuple[object, _Table] | None = None

    @property
    def root(self) -> Path:
        """The folder of the pictures."""
        assert not isinstance(self.path, list)
        return Path(os.path.normpath((self.folder / self.path).expanduser().absolute()))

    @property
    def _labels(self) -> Path:
        return self.root if self.labels is None else Path(os.path.normpath((self.folder / self.labels).expanduser().absolute()))

    def files(self) -> list[Path]:
        """Return the pictures and their files of boxes."""
        return sorted({file for picture, boxes in self._pairs() for file in (picture, boxes) if file is not None})

    def schema(self) -> pa.Schema:
        """Return `image`, `boxes`, and `split` where the folders say it."""
        metadata = {ROOT_KEY: os.fsencode(self.root), HASHED_KEY: b"1"}
        fields = [pa.field("image", pa.string(), metadata=metadata), pa.field("boxes", BOXES)]
        fields += [] if self._groups is None else [pa.field(GROUP, pa.string())]
        return pa.schema([*fields, pa.field("split", pa.string())] if self._by_split() else fields)

    def given_split(self) -> str | None:
        """Return `split` where there is a folder for each."""
        return "split" if self._by_split() else None

    def fingerprint(self) -> str:
        """Return the SHA-256 of every file's name and whole content."""
        files, digests = self.files(), self.digests()
        return hash_files(files, Path(os.path.commonpath([file.parent for file in files])), digests=digests)

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the pictures whose boxes cannot be read, and why."""
        if bad := self._table().bad:
            yield reject_batch([line for line, _, _ in bad], [reason for _, reason, _ in bad], [name for _, _, name in bad])

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema, table = self.schema(), self._table()
        names = schema.names if columns is None else columns
        for start in range(0, len(table.names), _BATCH_ROWS):
            part = slice(start, start + _BATCH_ROWS)
            values = {"image": pa.array(table.names[part], pa.string()), "boxes": pa.array(table.boxes[part], BOXES)}
            if self._groups is not None and GROUP in names:
                values[GROUP] = pa.array(self._groups.of(table.names[part]), pa.string())
            if "split" in names:
                values["split"] = pa.array([SPLITS[name.split("/")[0].lower()] for name in table.names[part]], pa.string())
            yield pa.record_batch([values[name] for name in names], schema=pa.schema([schema.field(name) for name in names]))

    def _pairs(self) -> list[tuple[Path, Path | None]]:
        root, labels = self.root, self._labels
        pictures = [root / name for name in walk(root) if Path(name).suffix.lower() in SUFFIXES["image"]]
        if not pictures:
            raise DataError(f"the folder {str(root)!r} holds no pictures", hint=f"known suffixes: {' '.join(sorted(SUFFIXES['image']))}")
        places = [(labels / picture.relative_to(root)) for picture in pictures]
        found = [next((file for suffix in (".txt", ".xml") if (file := place.with_suffix(suffix)).is_file()), None) for place in places]
        return list(zip(pictures, found, strict=True))

    def _orphans(self) -> list[str]:
        """Return the files of boxes without a picture; text that holds no boxes, such as a list of classes, is none."""
        labels = self._labels
        used = {file for _, file in self._pairs()}
        found = []
        for name in walk(labels):
            file = labels / name
            if file in used or file.suffix.lower() not in (".txt", ".xml"):
                continue
            if _looks_like_boxes(file, self.encoding):
                found.append(name)
        return found

    def _by_split(self) -> bool:
        tops = {picture.relative_to(self.root).parts[0].lower() for picture, _ in self._pairs()}
        return tops <= set(SPLITS)

    def _table(self) -> _Table:
        stamp = self.stamp()
        if self._read is None or self._read[0] != stamp:
            self._read = (stamp, self._made())
        return self._read[1]

    def _made(self) -> _Table:
        table = _Table()
        for picture, file in self._pairs():
            name = picture.relative_to(self.root).as_posix()
            try:
                boxes = self._boxes(picture, file)
            except _BoxError as error:
                table.bad.append((error.line, error.reason, name))
                continue
            table.names.append(name)
            table.boxes.append(boxes)
        table.bad += [(None, "there is no picture of this name", name) for name in self._orphans()]
        if not table.names:
            raise DataError(f"no picture in {str(self.root)!r} has boxes that can be read: {table.bad[0][1]}")
        return table

    def _boxes(self, picture: Path, file: Path | None) -> list[dict[str, Any]] | None:
        if file is None:
            return [] if self.unlabelled == "empty" else None
        text = b"".join(utf8_blocks(file, encoding=self.encoding)).decode()
        if file.suffix == ".xml":
            return _voc(text, picture_size(picture.name, picture.parent))
        size = (1, 1) if self.form == "pixels" else picture_size(picture.name, picture.parent)
        if size is None:
            raise _BoxError(None, "the picture cannot be read, and its boxes are given as parts of it")
        return [self._line(number, line, size) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]

    def _line(self, number: int, line: str, size: tuple[int, int]) -> dict[str, Any]:
        parts = line.replace(",", " ").split()
        label, numbers = (parts[0], parts[1:]) if self.form == "relative" else (parts[-1], parts[:-1])
        try:
            one, two, three, four = map(float, numbers)
        except ValueError:
            what = "class cx cy w h" if self.form == "relative" else "x1 y1 x2 y2 class"
            pixels = self.form == "relative" and len(parts) == _PARTS and all(map(_is_number, parts[:-1]))
            other = "; x1 y1 x2 y2 class are read with form: pixels" if pixels else ""
            raise _BoxError(number, f"{line.strip()[:80]!r} is not {what}{other}") from None
        if not all(map(math.isfinite, (one, two, three, four))):
            raise _BoxError(number, f"{line.strip()[:80]!r} has a number that is none")
        if self.form == "relative" and max(map(abs, (one, two, three, four))) > _LARGEST_PART:
            what = f"{line.strip()[:80]!r} holds no parts of the picture, which are at most 1; pixels are read with form: pixels"
            raise _BoxError(number, what)
        if self.form == "relative":
            height, width = size
            one, two, three, four = (
                (one - three / 2) * width,
                (two - four / 2) * height,
                (one + three / 2) * width,
                (two + four / 2) * height,
            )
        return _box((one, two, three, four), self._name(number, label))

    def _name(self, number: int, label: str) -> str:
        if self.classes is None:
            return label
        place = int(label) - self.first_class if label.isdigit() else -1
        if not 0 <= place < len(self.classes):
            last = self.first_class + len(self.classes) - 1
            raise _BoxError(number, f"the class {label!r} is none of {self.first_class} to {last}")
        return self.classes[place]


@dataclass
class _Table:
    names: list[str] = field(default_factory=list)
    boxes: list[list[dict[str, Any]] | None] = field(default_factory=list)
    bad: list[tuple[int | None, str, str]] = field(default_factory=list)


class _BoxError(Exception):
    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


def _box(edges: tuple[float, float, float, float], label: str, *, crowd: bool = False) -> dict[str, Any]:
    return {**dict(zip(("left", "top", "right", "bottom"), edges, strict=True)), "label": label, "crowd": crowd}


def _looks_like_boxes(file: Path, encoding: str) -> bool:
    """Whether a file holds boxes: lines of five parts of which four are numbers, or an annotation in XML."""
    try:
        text = b"".join(utf8_blocks(file, encoding=encoding)).decode()
    except DataError:
        return False
    if file.suffix.lower() == ".xml":
        return "<annotation" in text
    lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    return bool(lines) and all(len(parts) == _PARTS and sum(map(_is_number, parts)) >= _PARTS - 1 for parts in lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _voc(text: str, size: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Return the objects of a file of Pascal VOC, whose pixels are counted from 1 and whose last one is inside.

    Args:
        text: The file.
        size: Height and width of the picture, where it can be read.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _BoxError(None, "the XML declares entities, which no file of boxes needs")
    try:
        root = ET.fromstring(text)  # noqa: S314 - without entities there is nothing to blow up
        told = tuple(int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
        if size is not None and all(told) and told != size:
            turned = "; it is shown turned, by its EXIF orientation" if told == size[::-1] else ""
            what = f"the file says {told[1]}×{told[0]} pixels, and the picture has {size[1]}×{size[0]}{turned}"
            raise _BoxError(None, what)
        return [_voc_object(item) for item in root.iter("object")]
    except (ET.ParseError, ValueError) as error:
        raise _BoxError(None, f"it is no file of Pascal VOC: {error}") from None


def _voc_object(item: ET.Element) -> dict[str, Any]:
    texts = {name: item.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")}
    label = item.findtext("name")
    if label is None or any(text is None for text in texts.values()):
        raise ValueError("an object has no name, or no box")
    left, top, right, bottom = (float(text or "") for text in texts.values())
    return _box((left - 1, top - 1, right, bottom), label)

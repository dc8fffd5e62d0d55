"""Boxes around objects as the target of a picture: read in the forms that people have, moved with the picture, bad ones counted and named.

Legend of shapes: `rows` pictures · `n` boxes, of all rows one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import get_column, is_number, spell
from deepseek.data.placement import frames, placements
from deepseek.data.targets.base import TargetTransform
from deepseek.data.targets.classes import sort_classes
from deepseek.data.targets.spec import TargetSpec
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.data.transforms.image import ImageTransform
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind

if TYPE_CHECKING:
    from deepseek.data.transforms.base import Array, Transform

CORNERS = (("left", "top", "right", "bottom"), ("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))
"""What the numbers of a box are called that are places of its edges."""
SIDES = (("x", "y", "width", "height"), ("left", "top", "width", "height"), ("x", "y", "w", "h"))
"""What they are called where the second two are how wide and high it is."""
LABELS = ("label", "class", "category", "name")
CROWDS = ("crowd", "iscrowd")
NUMBERS = ("left", "top", "right", "bottom", "class", "crowd")
"""What a box is in a batch: its edges in pixels of the stored picture, the place of its class, and 1 for a crowd of objects, else 0."""
ONLY = "object"
"""The class of boxes that have none."""
_NOT_FINITE, _FLAT, _OUTSIDE = "not finite", "without height or width", "outside of its picture"


class BoxesTarget(TargetTransform):
    """Any number of boxes a picture, each with a class; none is an answer too.

    A column holds a list of structs a row: edges (`left, top, right, bottom`, `x1, y1, x2, y2` or `xmin, ymin, xmax, ymax`) or a corner and
    sides (`x, y, width, height`, as COCO and Label Studio have them), in pixels of the picture; with a `label` (or `class`, `category`,
    `name`), and where it is known a `crowd`, a box around many objects that no detection is right or wrong for. Boxes with a `rotation` (in
    degrees, clockwise around their first corner) become the smallest upright ones around them. Or two columns: lists of four edges each,
    and lists of as many labels. A row whose list is missing has not been looked at, and is set aside.

    Boxes are cut at the border of their picture. Those that are not finite, have no height or width, or lie outside are left out, counted
    and named. The picture is the only image among the inputs; its boxes go where it goes when it is brought to one size.

    Args:
        fields: The column of boxes, or the columns of boxes and labels.
    """

    kind = "boxes"

    def __init__(self, fields: Sequence[Field], /) -> None:
        super().__init__(fields)
        if not 1 <= len(fields) <= 2:
            raise InputError(f"boxes are given as {len(fields)} columns", hint="one with boxes and labels, or one of each")
        self._counts: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._integers = True
        self._rows = 0
        self._image: ImageTransform | None = None
        self._left_out: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    @property
    def described(self) -> dict[str, InputSpec]:
        """What augmentations have to know: boxes that move with their picture."""
        return {"target": InputSpec("target", Kind.BOXES, NUMBERS, (len(NUMBERS),), "float32", ragged=True)}

    def missing(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where there is no list of boxes; an empty list is not missing."""
        mask = np.zeros(batch.num_rows, dtype=bool)
        for name in self.columns:
            mask |= get_column(batch, name).is_null().to_numpy(zero_copy_only=False)
        return mask

    def unseen(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a box is of a class that no training row has."""
        mask = np.zeros(batch.num_rows, dtype=bool)
        try:
            boxes = read_boxes(batch, self.columns)
        except DataError:  # `bad` names the rows
            return mask
        unknown = np.array([name is not None and name not in self._known for name in boxes.names], dtype=bool)
        mask[boxes.rows[unknown[boxes.labels]]] = True
        return mask

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a box has no four numbers or no label, or the picture cannot be read."""
        mask = np.zeros(batch.num_rows, dtype=bool)
        if _is_bad(batch, self.columns):
            mask |= [_is_bad(batch.slice(row, 1), self.columns) for row in range(batch.num_rows)]
        return mask if self._image is None else mask | (_sizes(self._image, batch) == 0).any(axis=1)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Count the classes of the boxes of training rows."""
        bad = self.bad(batch)
        boxes = read_boxes(batch.filter(pa.array(~bad)) if bad.any() else batch, self.columns)
        self._rows += batch.num_rows
        self._integers = self._integers and boxes.integers
        for name, count in zip(boxes.names, np.bincount(boxes.labels, minlength=len(boxes.names)), strict=True):
            if count:
                self._counts[name] = self._counts.get(name, 0) + int(count)

    def finish(self) -> None:
        """Settle the classes.

        Raises:
            DataError: No training row has a box.
        """
        if not self._counts:
            raise DataError(f"none of {self._rows} training rows of {', '.join(map(repr, self.columns))} has a box")
        classes = tuple(sort_classes(self._counts))
        counts = tuple(self._counts[name] for name in classes)
        self._set(TargetSpec("boxes", self.columns, classes, counts, self._rows, integer_classes=self._integers))

    def follow(self, transforms: Sequence[Transform]) -> None:
        """Take over the size that pictures are brought to.

        Raises:
            InputError: There is not exactly one image among the inputs, or it is cut.
        """
        images = [transform for transform in transforms if isinstance(transform, ImageTransform)]
        if len(images) != 1:
            raise InputError(f"boxes belong to a picture, and there are {len(images)} columns of images", hint="leave all but one out")
        if images[0].fit == "pad":
            raise InputError("boxes beside an image with fit: pad", hint="take resize or letterbox, which boxes can follow")
        self._image = images[0]
        self._set(replace(self.spec, shape=images[0].inputs[0].shape[:2]))

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return `target`, ragged float32 `[n, 6]`: edges in pixels of the stored picture, class, and 1 for a crowd.

        Raises:
            DataError: A box has no four numbers, no label, or a class that was not among the training rows, or there is no picture.
        """
        image, boxes = self._picture, read_boxes(batch, self.columns)
        unknown = [name for name in boxes.names if name not in self._known]
        if unknown:
            raise DataError(f"boxes are of the class {unknown[0]!r}", hint=f"training knew {', '.join(self.spec.classes[:10])}")
        sizes = _sizes(image, batch)
        if not sizes.all():
            raise RowError(np.argmin(sizes.min(axis=1, initial=1)), " has boxes, and no picture that can be read")
        limit = np.tile(sizes[:, ::-1], (1, 2))[boxes.rows].astype(np.float64)
        with np.errstate(invalid="ignore"):
            edges = np.minimum(np.maximum(boxes.edges, 0.0), limit)
            flat = ~((boxes.edges[:, 2:] > boxes.edges[:, :2]).all(axis=1))
            outside = ~((edges[:, 2:] > edges[:, :2]).all(axis=1))
        broken = ~np.isfinite(boxes.edges).all(axis=1)
        for reason, mask in ((_NOT_FINITE, broken), (_FLAT, flat & ~broken), (_OUTSIDE, outside & ~flat & ~broken)):
            self._leave_out(reason, mask, boxes)
        keep = ~(broken | flat | outside)
        moved = placements(sizes, self._stored, image.fit)[boxes.rows]
        edges = edges * np.tile(moved[:, :2], 2) + np.tile(moved[:, 2:], 2)
        codes = np.array([self._known[name] for name in boxes.names], dtype=np.float64)[boxes.labels]
        values = np.column_stack([edges, codes, boxes.crowd])[keep].astype(np.float32)
        lengths = np.bincount(boxes.rows[keep], minlength=batch.num_rows)
        return {"target": Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))}

    def beside_answers(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Return `frame`, float64 `[rows, 6]`: where the stored picture lies in each row's own, as `data.placement.frames` says."""
        return {"frame": frames(_sizes(self._picture, batch), self._stored, self._picture.fit)}

    def take_left_out(self) -> list[str]:
        """Return what `apply` has left out since this was last asked, in words."""
        with self._lock:
            found, self._left_out = self._left_out, {}
        return [f"{count} boxes were left out: {reason}; the first is {first}" for reason, (count, first) in found.items()]

    @property
    def _picture(self) -> ImageTransform:
        if self._image is None:
            raise InputError("the target does not know its pictures", hint="call follow with the fitted transforms first")
        return self._image

    @property
    def _stored(self) -> tuple[int, int]:
        height, width = self.spec.shape
        return height, width

    @property
    def _known(self) -> dict[str, int]:
        if len(self._codes) != len(self.spec.classes):
            self._codes = {name: code for code, name in enumerate(self.spec.classes)}
        return self._codes

    def _leave_out(self, reason: str, mask: np.ndarray, boxes: Boxes) -> None:
        if not mask.any():
            return
        place = int(np.flatnonzero(mask)[0])
        first = f"{boxes.names[boxes.labels[place]]!r} at {np.round(boxes.edges[place], 1).tolist()}"
        with self._lock:
            count, known = self._left_out.get(reason, (0, first))
            self._left_out[reason] = (count + int(mask.sum()), known)


class Boxes(NamedTuple):
    """The boxes of some rows.

    Attributes:
        edges: Left, top, right and bottom in pixels of the picture, float64 `[n, 4]`.
        rows: Whose they are, int64 `[n]`, ascending.
        names: The different labels, as text.
        labels: Each box's place among them, int64 `[n]`.
        crowd: Whether it is around many objects, bool `[n]`.
        integers: Whether the labels are whole numbers.
    """

    edges: np.ndarray
    rows: np.ndarray
    names: list[str]
    labels: np.ndarray
    crowd: np.ndarray
    integers: bool


def box_form(kind: pa.DataType) -> tuple[tuple[str, ...], bool] | None:
    """Return how the structs of a column call a box's numbers, and whether they are corner and sides; nothing where they hold none."""
    if not (_is_list(kind) and pa.types.is_struct(kind.value_type)):
        return None
    held = {field.name for field in kind.value_type}
    return next(((names, form is SIDES) for form in (CORNERS, SIDES) for names in form if held >= set(names)), None)


def read_boxes(batch: pa.RecordBatch, columns: Sequence[str]) -> Boxes:
    """Return the boxes of a batch; rows without a list have none.

    Args:
        batch: The rows.
        columns: The column of structs, or the columns of boxes and of labels.

    Raises:
        ColumnError: The columns hold no boxes.
        DataError: A box has no four numbers, or no label.
    """
    column = get_column(batch, columns[0])
    form = box_form(column.type)
    rows = _rows_of(column)
    if form is None:
        edges = _corner_lists(column, columns[0])
        given, crowd = None, np.zeros(len(edges), dtype=bool)
    else:
        structs = column.flatten()
        edges = np.column_stack([_numbers(structs, name) for name in form[0]]).reshape(-1, 4)
        if form[1]:
            edges = np.hstack([edges[:, :2], edges[:, :2] + edges[:, 2:]])
        held = [field.name for field in structs.type]
        if "rotation" in held:
            edges = _upright(edges, np.nan_to_num(_numbers(structs, "rotation")))
        given = next((pc.struct_field(structs, name) for name in LABELS if name in held), None)
        crowds = [np.nan_to_num(_numbers(structs, name)) > 0 for name in CROWDS if name in held]
        crowd = crowds[0] if crowds else np.zeros(len(edges), dtype=bool)
    if len(columns) > 1:
        labels = get_column(batch, columns[1])
        if not _is_list(labels.type) or not np.array_equal(_rows_of(labels), rows):
            raise DataError(f"{columns[0]!r} and {columns[1]!r} have not as many boxes as labels in each row")
        given = labels.flatten()
    if given is None:
        return Boxes(edges, rows, [ONLY], np.zeros(len(edges), dtype=np.int64), crowd, integers=False)
    texts, places = spell(given, columns[-1])
    if (places < 0).any() or any(text is None for text in texts):
        raise DataError(f"a box in {columns[0]!r} has no label", hint="give each box its class")
    return Boxes(edges, rows, [str(text) for text in texts], places, crowd, pa.types.is_integer(given.type))


def _sizes(image: ImageTransform, batch: pa.RecordBatch) -> np.ndarray:
    """Return the pictures' heights and widths, int64 `[rows, 2]`; zeros where there is none."""
    return np.array([size or (0, 0) for size in image.sizes(batch)], dtype=np.int64).reshape(-1, 2)


def _is_bad(batch: pa.RecordBatch, columns: Sequence[str]) -> bool:
    try:
        read_boxes(batch, columns)
    except ColumnError:
        raise
    except DataError:
        return True
    return False


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _rows_of(column: pa.Array) -> np.ndarray:
    if not _is_list(column.type):
        raise ColumnError(f"a column of boxes holds {column.type}", hint="a row is a list of boxes: structs, or four numbers each")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(column)), lengths)


def _numbers(structs: pa.Array, name: str) -> np.ndarray:
    values = pc.struct_field(structs, name)
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _corner_lists(column: pa.Array, name: str) -> np.ndarray:
    lists = column.flatten()
    if pa.types.is_null(lists.type) or (len(lists) == 0 and not _is_list(lists.type)):
        return np.empty((0, 4))
    if not _is_list(lists.type) or not (is_number(lists.type.value_type) or pa.types.is_null(lists.type.value_type)):
        what = f"the column {name!r} holds {column.type}, which are no boxes"
        raise ColumnError(what, hint="a box is left, top, right and bottom, or a struct with numbers under such names")
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    if (lengths != 4).any():
        raise DataError(f"a box in {name!r} has {int(lengths[lengths != 4][0])} numbers", hint="left, top, right and bottom")
    return np.asarray(lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, 4)


def _upright(edges: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return the smallest upright boxes around boxes that are turned clockwise around their first corner."""
    if not degrees.any():
        return edges
    angle = np.deg2rad(degrees)[:, None]
    x, y = edges[:, [0, 2, 0, 2]] - edges[:, :1], edges[:, [1, 1, 3, 3]] - edges[:, 1:2]
    turned_x = edges[:, :1] + x * np.cos(angle) - y * np.sin(angle)
    turned_y = edges[:, 1:2] + x * np.sin(angle) + y * np.cos(angle)
    made = np.column_stack([turned_x.min(axis=1), turned_y.min(axis=1), turned_x.max(axis=1), turned_y.max(axis=1)])
    return np.where(degrees[:, None] == 0, edges, made)

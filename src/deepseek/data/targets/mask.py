"""Masks: a class for each pixel of an image, or each voxel of a volume.

Legend of shapes: `*space` height and width, or depth, height and width.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge
from PIL import Image, UnidentifiedImageError

from deepseek.data.columns import get_column
from deepseek.data.targets.base import TargetTransform
from deepseek.data.targets.spec import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.pictured import PicturedTransform
from deepseek.data.transforms.volume import root_of
from deepseek.data.volumes import is_volume, read_volume, same_axes
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.transforms.base import Array, Transform

IGNORED = 255
"""The code of places whose class is not known, or that lie outside of the picture: they are neither trained nor measured on."""
_READ_ERRORS = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
_Mask = tuple[np.ndarray, np.ndarray | None]


class MaskTarget(TargetTransform):
    """One column of masks, each of the size of its row's picture.

    A mask is a picture of whole numbers: a PNG (or BMP, TIFF, GIF) in shades of grey, also where these are written as equal red, green and
    blue, or with a palette, whose numbers are the classes; a NIfTI file or a folder of DICOM; or an array. Classes are the numbers that
    training masks hold, whatever they are: of 0 and 255 the first class is 0 and the second 255, and answers are 0 and 255 again. The
    smallest one is taken for the background.

    A batch holds codes from 0, uint8 `[rows, *space]` of the network's size, brought to it as the picture is; 255 where the class is not
    known or the picture ends.

    Args:
        fields: The column.
        ignore: The number that stands for "not known" in the masks; nothing where every place has a class.

    Raises:
        InputError: There are several columns.
    """

    kind = "mask"

    def __init__(self, fields: Sequence[Field], /, *, ignore: Annotated[int, Ge(0)] | None = None) -> None:
        super().__init__(fields)
        if len(fields) != 1:
            raise InputError(f"a target of kind 'mask' is given {len(fields)} columns", hint="it takes exactly one, with all classes in it")
        self.ignore = ignore
        self._column = self.columns[0]
        self._counts: dict[int, int] = {}
        self._rows = 0
        self._unread: str | None = None
        self._picture: PicturedTransform | None = None
        self._turned: tuple[int, str] = (0, "")
        self._lock = threading.Lock()

    @property
    def picture(self) -> PicturedTransform:
        """The fitted transform of the pictures that the masks belong to; known after `follow`."""
        if self._picture is None:
            raise InputError("the masks have no pictures yet", hint="call follow with the fitted transforms of the inputs first")
        return self._picture

    @property
    def described(self) -> dict[str, InputSpec]:
        """The masks of a batch: they move with their pictures."""
        return {"target": InputSpec("target", Kind.MASK, self.columns, self.picture.space, "uint8")}

    def missing(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for rows without a mask."""
        mask: np.ndarray = get_column(batch, self._column).is_null().to_numpy(zero_copy_only=False)
        return mask

    def unseen(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for rows with a number in the mask that no training mask has; masks that cannot be read are not among them."""
        known = [*map(int, self.spec.classes), *([] if self.ignore is None else [self.ignore])]
        return np.array([not isinstance(one, str) and bool(set(_numbers(one[0])) - set(known)) for one in self._masks(batch)], dtype=bool)

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for rows whose mask cannot be read, or is not of the picture's size."""
        sizes = self.picture.sizes(batch)
        return np.array([isinstance(_checked(one, size), str) for one, size in zip(self._masks(batch), sizes, strict=True)], dtype=bool)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at training masks; those that cannot be read are passed over here and named by `bad`."""
        self._rows += batch.num_rows
        for mask in self._masks(batch):
            if isinstance(mask, str):
                self._unread = self._unread or mask
                continue
            for number in _numbers(mask[0]):
                self._counts[number] = self._counts.get(number, 0) + 1

    def finish(self) -> None:
        """Settle the classes."""
        counts = {number: count for number, count in sorted(self._counts.items()) if number != self.ignore}
        if not counts:
            first = f"; the first: {self._unread}" if self._unread else ""
            raise DataError(
                f"no training row has a readable mask in {self._column!r}{first}", hint=None if first else "are the paths right?"
            )
        if len(counts) < 2:
            raise DataError(f"all places of all training masks are {next(iter(counts))}", hint="there is nothing to tell apart")
        if len(counts) >= IGNORED:
            what = f"the training masks hold {len(counts)} different numbers"
            raise DataError(what, hint="a mask has a class for each place, at most 254; is this the picture itself?")
        names = tuple(map(str, counts))
        self._set(TargetSpec("mask", self.columns, names, tuple(counts.values()), self._rows, integer_classes=True))

    def follow(self, transforms: Sequence[Transform]) -> None:
        """Take over the size of the only picture among the inputs."""
        pictures = [transform for transform in transforms if isinstance(transform, PicturedTransform)]
        if len(pictures) != 1:
            what = f"masks belong to one picture, and {len(pictures)} of the inputs are pictures or volumes"
            raise InputError(what, hint="leave others out with data.drop, or say which column is which under data.fields")
        self._picture = pictures[0]
        self._set(replace(self.spec, shape=self._picture.space))

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return `target`, uint8 `[rows, *space]`."""
        out = np.empty((batch.num_rows, *self.picture.space), dtype=np.uint8)
        turned = []
        for row, (codes, lies_alike) in enumerate(self._laid(batch)):
            out[row] = self.picture.lay(codes, outside=IGNORED)
            turned += [] if lies_alike else [row]
        self._count_turned(batch, turned)  # once all is read: a batch with a broken mask comes again without it
        return {"target": out}

    def wholes(self, batch: pa.RecordBatch) -> Iterator[np.ndarray]:
        """Yield each row's codes, uint8 `[*space]`, in the size that its picture has before it is brought to the network's.

        Raises:
            DataError: A mask is missing, cannot be read, is not of its picture's size, or holds a class that training did not know.
        """
        return (codes for codes, _ in self._laid(batch))

    def _laid(self, batch: pa.RecordBatch) -> Iterator[tuple[np.ndarray, bool]]:
        """Yield each row's codes, and whether mask and volume say that they lie alike in the body."""
        for row, (given, head) in enumerate(zip(self._masks(batch), self.picture.heads(batch), strict=True)):
            mask = _checked(given, None if head is None else head.size)
            if isinstance(mask, str):
                raise RowError(row, f": {mask}", hint="replace the file; preparing data sets such rows aside")
            values, lies = mask
            own = None if head is None else head.own
            yield self.picture.scaled(self._codes(values, row), own), head is None or same_axes(head.affine, lies)

    def take_left_out(self) -> list[str]:
        """Return how many masks lie otherwise in the body than their volumes since this was last asked, in words."""
        with self._lock:
            (count, first), self._turned = self._turned, (0, "")
        if not count:
            return []
        return [
            f"{count} masks say that they lie otherwise in the body than their volume does, the first in {first}: they are taken voxel by "
            "voxel, as they are stored; look whether they fit, and bring both to one orientation where they do not"
        ]

    def _count_turned(self, batch: pa.RecordBatch, rows: Sequence[int]) -> None:
        if not rows:
            return
        name = get_column(batch, self._column)[rows[0]].as_py()
        with self._lock:
            count, first = self._turned
            self._turned = (count + len(rows), first or (repr(name) if isinstance(name, str) else f"row {rows[0]} of a batch"))

    def _codes(self, values: np.ndarray, row: int) -> np.ndarray:
        numbers = np.array([int(name) for name in self.spec.classes])
        places = np.searchsorted(numbers, values).clip(max=len(numbers) - 1)
        unknown = (values != self.ignore) & (numbers[places] != values)
        if unknown.any():
            known = f"known: {', '.join(self.spec.classes[:20])}"
            what = f": the mask holds {int(values[unknown][0])}, which no training mask of {self._column!r} does"
            raise RowError(row, what, hint=f"{known}; or name the number for unknown places as task.ignore")
        codes = places.astype(np.uint8)
        if self.ignore is not None:
            codes[values == self.ignore] = IGNORED
        return codes

    def _masks(self, batch: pa.RecordBatch) -> Iterator[_Mask | str]:
        """Yield each row's mask, whole numbers `[*space]`, with its place in the body where known; or why it cannot be read."""
        import pyarrow as pa

        column, root = get_column(batch, self._column), root_of(batch, self._column)
        if isinstance(column.type, pa.FixedShapeTensorType):
            for array in column.to_numpy_ndarray():
                yield _whole_numbers(array, f"the array in column {self._column!r}", None)
            return
        for row in range(len(column)):
            yield _read_mask(column[row].as_py(), root, self._column)


def _read_mask(item: Any, root: Path, column: str) -> _Mask | str:
    if item is None:
        return f"the mask in column {column!r} is missing"
    if not isinstance(item, bytes | str):
        raise ColumnError(f"the column {column!r} holds {item!r}, which is no mask", hint="masks are files, paths, bytes or arrays")
    where = f"{len(item)} bytes" if isinstance(item, bytes) else str(root / item)
    try:
        if isinstance(item, str) and (is_volume(item) or (root / item).is_dir()):
            volume = read_volume(root / item)
            return _whole_numbers(volume.values, f"the mask {where}", volume.affine)
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else root / item) as image:
            if image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
                grey = _one_channel(np.asarray(image))
                if image.mode in ("CMYK", "YCbCr") or grey is None:
                    return f"the mask {where} is in colours: a mask has one number a pixel, in shades of grey or with a palette"
                return _whole_numbers(grey, f"the mask {where}", None)
            return _whole_numbers(np.asarray(image), f"the mask {where}", None)
    except DataError as error:
        return error.message
    except _READ_ERRORS as error:
        return f"the mask {where} in column {column!r} cannot be read: {error}"


def _one_channel(values: np.ndarray) -> np.ndarray | None:
    """Return the one number that red, green and blue share at every pixel of `[h, w, 3 or 4]`, or nothing where they differ."""
    same = (values[..., :1] == values[..., 1:3]).all()
    return values[..., 0] if same else None


def _whole_numbers(values: np.ndarray, what: str, affine: np.ndarray | None) -> _Mask | str:
    if values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.integer):
        rounded = np.rint(values)
        if not np.array_equal(rounded, values):
            return f"{what} holds numbers with fractions; a mask holds the numbers of classes"
        values = rounded.astype(np.int64)
    if values.size and values.min() < 0:
        return f"{what} holds {int(values.min())}; classes are numbered from 0 on"
    return values, affine


def _numbers(values: np.ndarray) -> list[int]:
    found: list[int] = np.unique(values).tolist()
    return found


def _checked(mask: _Mask | str, size: tuple[int, ...] | None) -> _Mask | str:
    """Return a mask, or why it is none for a picture of this size."""
    if isinstance(mask, str) or size is None or mask[0].shape == tuple(size):
        return mask
    there, wanted = ("×".join(map(str, one)) for one in (mask[0].shape, size))
    return f"the mask is of {there} places and its picture of {wanted}"

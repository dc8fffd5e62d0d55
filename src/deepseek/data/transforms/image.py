"""Images: decoded and brought to one size on the host, normalised inside the model."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt
from PIL import Image, ImageOps, UnidentifiedImageError

from deepseek.data.columns import get_column
from deepseek.data.deep_pictures import WHITES, deep_values, shades, white_over
from deepseek.data.placement import Fit, placed_size
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.transforms.base import Array, InputSpec
from deepseek.data.transforms.pictured import PicturedTransform, Whole
from deepseek.data.volumes import centred, resampled
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind

if TYPE_CHECKING:
    from deepseek.data.transforms.modules import ImageModule

LARGEST_AUTO_SIZE = 224
CHUNK = 256
_ORIENTATION = 0x0112
THREADS = min(8, os.cpu_count() or 1)
Size = Annotated[int, Ge(1)]


class _Wanted(NamedTuple):
    """What an image is brought to: its shape, and the colour of the border around one whose aspect is kept."""

    height: int
    width: int
    channels: int
    border: tuple[int, ...] | None = None


_Turn = Callable[[Image.Image], np.ndarray]
"""What becomes of an image that was opened and stands upright."""


class ImageTransform(PicturedTransform):
    """Turns a column of images into one uint8 input `[height, width, channels]`.

    The column holds pixels (an Arrow `fixed_shape_tensor` of uint8, taken without copying), encoded files as bytes, or paths, relative to
    the folder that the Arrow field's metadata names under `deepseek.root`. Normalisation by the training images' mean and spread is part of
    the model.

    Files of more than 8 bits are brought to 8 by one factor for all of them: full brightness is the least of 255, 1023, 4095, 16383 and
    65535 that no training image exceeds, so that a dark image stays dark beside the others, and 12 bits in a file of 16 keep 256 shades.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        size: Height and width, or one number for both; where not given, the size that all training images share, else their median size, at
            most 224.
        channels: 1 (grey) or 3 (RGB); where not given, 1 if every training image is grey.
        missing: What a row without an image gets: `mean`, the training images' mean colour, which the network meets as zeros, or `fail`:
            such rows are set aside in training and refused in production. Not given, it is `mean` where there are other inputs, and `fail`
            where the image is all there is. An image that is named and cannot be read is always a bad one.
        mean: What is taken from each channel, as a part of full brightness, where a pre-trained network has its own; the training images'
            mean where not given.
        std: What each channel is then divided by, as a part of full brightness; the training images' spread where not given.
        fit: How an image of another size comes to `size`: `resize` shrinks or stretches it; `letterbox` makes it as large as fits with its
            aspect kept, with a border in the training images' mean colour, which the network meets as zeros, for boxes; `pad` keeps its
            scale, cuts off what is too much around the centre and fills up with black, for masks and patches; a larger one is then
            segmented window by window, and a row without an image is a bad one.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        size: tuple[Size, Size] | Size | None = None,
        channels: Literal[1, 3] | None = None,
        missing: Literal["mean", "fail"] = "mean",
        mean: list[float] | None = None,
        std: list[Annotated[float, Gt(0)]] | None = None,
        fit: Fit = "resize",
    ) -> None:
        if len(fields) != 1:
            raise InputError(f"an image transform is given {len(fields)} columns", hint="each column of images has a transform of its own")
        super().__init__(fields, name or fields[0].name)
        self.size, self.channels, self.missing, self.mean, self.std, self.fit = size, channels, missing, mean, std, fit
        if fit == "pad":
            self.missing = "fail"  # a picture without size has no places
        self.resizes = fit == "resize"
        self._column = self.fields[0].name
        self._sizes: dict[tuple[int, int], int] = {}
        self._sums: dict[tuple[int, int], np.ndarray] = {}
        self._deep: dict[tuple[int, int], tuple[int, int]] = {}
        self._brightest = 0
        self._grey = True
        self._rows = self._absent = 0
        self._state: dict[str, Any] = {}

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows; images that cannot be read are passed over here and named by `bad`."""
        tensor = _pixels(get_column(batch, self._column))
        if tensor is not None:
            for start in range(0, len(tensor), CHUNK):
                self._observe_images(tensor[start : start + CHUNK])
            return
        self._rows += batch.num_rows
        for images in self._chunks(batch, turn=_as_stored):
            for image in images:
                if isinstance(image, np.ndarray):
                    (self._observe_images if image.dtype == np.uint8 else self._observe_deep)(image[None])
                self._absent += image is None

    def _observe_images(self, images: np.ndarray) -> None:
        """Add up the pixels of images of one size, `[n, h, w, c]`: in integers, so that batches make no difference."""
        size = (images.shape[1], images.shape[2])
        flat = images.reshape(-1, images.shape[3])
        # a histogram of 256 levels is exact, and faster than summing squares
        counts = np.array([np.bincount(flat[:, channel], minlength=256) for channel in range(images.shape[3])])
        levels = np.arange(256)
        sums = np.stack([counts @ levels, counts @ levels**2])
        self._sizes[size] = self._sizes.get(size, 0) + len(images)
        self._sums[size] = self._sums.get(size, np.zeros((2, 3), dtype=np.int64)) + sums
        self._grey = self._grey and images.shape[3] == 1

    def _observe_deep(self, images: np.ndarray) -> None:
        """Add up the pixels of grey images of more than 8 bits, uint16 `[n, h, w, 1]`, whose full brightness is not known yet."""
        size, values = (images.shape[1], images.shape[2]), images.astype(np.int64)
        self._sizes[size] = self._sizes.get(size, 0) + len(images)
        total, square = self._deep.get(size, (0, 0))  # of Python, which has no largest whole number
        self._deep[size] = total + int(values.sum()), square + int((values**2).sum())
        self._brightest = max(self._brightest, int(values.max(initial=0)))

    def finish(self) -> None:
        """Settle size, channels, full brightness, mean and spread; every image counts alike, whatever its size."""
        if not self._sizes:
            raise DataError(f"no readable image was seen in the training rows of {self._column!r}", hint="are the paths right?")
        channels = self.channels or (1 if self._grey else 3)
        weighed = [sums / (height * width) for (height, width), sums in sorted(self._sums.items())]
        white = white_over(self._brightest)
        part = np.array([255 / white, (255 / white) ** 2])
        for (height, width), sums in sorted(self._deep.items()):
            weighed.append(np.repeat(np.array(sums, dtype=np.float64) * part / (height * width), 3).reshape(2, 3))
        mean, square = np.sum(weighed, axis=0) / sum(self._sizes.values())
        if channels == 1:
            mean, square = mean.mean(keepdims=True), square.mean(keepdims=True)
        std = np.sqrt(np.maximum(square - mean**2, 0))
        size = (self.size, self.size) if isinstance(self.size, int) else self.size or self._common_size()
        warnings = [self._told_of_cut(size)] if self.fit == "pad" else []
        std = np.where(std > 0.5, std, 1.0)
        measured = {"mean": mean.tolist(), "std": std.tolist()}
        given = {"mean": self.mean, "std": self.std}
        own = {name: [255.0 * part for part in values] for name, values in given.items() if values is not None}
        for name, values in own.items():
            if len(values) != channels:
                raise InputError(f"{name} has {len(values)} numbers, and the images {channels} channels", hint="one number a channel")
        self._state = {"size": list(size), "channels": channels, **measured, **own, **({"white": white} if self._deep else {})}
        if self._absent and self.missing == "mean":
            share = self._absent / self._rows
            warnings.append(f"{share:.1%} of the training rows have no image in {self._column!r} and get the mean colour of the others")
        self.warnings = tuple(filter(None, warnings))
        self._sizes, self._sums, self._deep, self._brightest, self._grey = {}, {}, {}, 0, True
        self._rows = self._absent = 0

    def _told_of_cut(self, size: tuple[int, int]) -> str:
        """Return what is to be said of training images that lose pixels to the size, or nothing."""
        cut = sum(count for one, count in self._sizes.items() if one[0] > size[0] or one[1] > size[1])
        if not cut:
            return ""
        return (
            f"{cut} of {sum(self._sizes.values())} training images of {self._column!r} are larger than {size[0]}×{size[1]} pixels: what is "
            "cut off around the centre is not trained on; answers are for the whole image"
        )

    def _common_size(self) -> tuple[int, int]:
        sizes = np.array(list(self._sizes), dtype=np.int64)
        if len(sizes) == 1:
            return int(sizes[0, 0]), int(sizes[0, 1])
        repeated = np.repeat(sizes, list(self._sizes.values()), axis=0)
        height, width = np.minimum(np.median(repeated, axis=0), LARGEST_AUTO_SIZE).astype(int)
        return int(height), int(width)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input."""
        return (InputSpec(str(self.name), Kind.IMAGE, (self._column,), self._shape, "uint8"),)

    @property
    def space(self) -> tuple[int, ...]:
        """The network's height and width."""
        return self._shape[:2]

    @property
    def _shape(self) -> tuple[int, int, int]:
        if not self._state:
            raise InputError("the transform of images is not fitted", hint="call observe and finish, or load_json, first")
        height, width = self._state["size"]
        return height, width, self._state["channels"]

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return uint8 `[rows, height, width, channels]`."""
        shape = self._shape
        border = tuple(np.rint(self._state["mean"]).astype(int).tolist()) if self.fit == "letterbox" else None
        tensor = _pixels(get_column(batch, self._column))
        if tensor is not None and tensor.shape[1:] == shape:
            return {str(self.name): tensor}
        out = np.empty((batch.num_rows, *shape), dtype=np.uint8)
        if self.fit == "pad":
            for row, whole in enumerate(self.wholes(batch)):
                out[row] = centred(whole.values, self.space, fill=0)
            return {str(self.name): out}
        row = 0
        for images in self._chunks(batch, fit=_Wanted(*shape, border)):
            for image in images:
                if isinstance(image, np.ndarray):
                    out[row] = image
                elif image is None and self.missing == "mean":
                    out[row] = np.rint(self._state["mean"])
                else:
                    raise RowError(
                        row,
                        f": {image or f'the image in column {self._column!r} is missing'}",
                        hint="replace or remove the file; preparing data sets such rows aside",
                    )
                row += 1
        return {str(self.name): out}

    def wholes(self, batch: pa.RecordBatch) -> Iterator[Whole]:
        """Yield each row's image in its own size, with the network's channels."""
        channels = self._shape[2]
        row = 0
        for images in self._chunks(batch):
            for image in images:
                if not isinstance(image, np.ndarray):
                    raise RowError(
                        row,
                        f": {image or f'the image in column {self._column!r} is missing'}",
                        hint="replace or remove the file; preparing data sets such rows aside",
                    )
                yield Whole(_with_channels(image, channels), image.shape[:2], 0.0)
                row += 1

    def sizes(self, batch: pa.RecordBatch) -> list[tuple[int, ...] | None]:
        """Return each row's original height and width, as it stands upright; pixels are not decoded."""
        column = get_column(batch, self._column)
        tensor = _pixels(column)
        if tensor is not None:
            return [tensor.shape[1:3] for _ in range(len(tensor))]
        root = self._root(batch)
        return [picture_size(item, root) for item in column.to_pylist()]

    def lay(self, mask: np.ndarray, *, outside: int) -> np.ndarray:
        """Return a mask shrunk or stretched to the nearest pixel, or cut and filled up, as its image is."""
        if self.fit == "letterbox":
            raise InputError("a mask beside an image with fit: letterbox", hint="take resize or pad, which masks can follow")
        return resampled(mask, self.space, nearest=True) if self.resizes else centred(mask, self.space, fill=outside)

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for rows whose image cannot be decoded, or is missing where it must not be."""
        return np.array([self._is_bad(image) for images in self._chunks(batch) for image in images], dtype=bool)

    def _is_bad(self, image: np.ndarray | str | None) -> bool:
        return self.missing == "fail" if image is None else isinstance(image, str)

    def module(self) -> ImageModule:
        """Return the normalisation: uint8 `[b, h, w, c]` to float32 `[b, c, h, w]`."""
        from deepseek.data.transforms.modules import ImageModule

        return ImageModule(self._state["mean"], self._state["std"])

    def to_json(self) -> dict[str, Any]:
        """Return size, channels, mean and spread, and full brightness where training images had more than 8 bits."""
        self._shape  # noqa: B018  raises where nothing is fitted
        return dict(self._state)

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._state = dict(state)
        return self

    def read_pixels(self, item: bytes | str, root: Path) -> np.ndarray | str:
        """Return an image in its own size, uint8 `[h, w, 1 or 3]`, as it is shown, or why it cannot be read.

        Args:
            item: The file's bytes, or its path.
            root: The folder that the path is relative to.
        """
        return _read(item, root, self._column, self._turn())

    def _turn(self, fit: _Wanted | None = None) -> _Turn:
        return partial(_fit, fit=fit, white=self._state.get("white"))

    def _chunks(
        self, batch: pa.RecordBatch, fit: _Wanted | None = None, turn: _Turn | None = None
    ) -> Iterator[list[np.ndarray | str | None]]:
        turned = turn or self._turn(fit)
        column = get_column(batch, self._column)
        tensor = _pixels(column)
        root = self._root(batch)

        def read(item: np.ndarray | str | bytes | None) -> np.ndarray | str | None:
            return None if item is None else _read(item, root, self._column, turned, fit)

        # few decoded images at a time: a batch of 65 536 photographs would not fit into memory
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, batch.num_rows, CHUNK):
                stop = min(start + CHUNK, batch.num_rows)
                items = list(tensor[start:stop]) if tensor is not None else column.slice(start, stop - start).to_pylist()
                yield list(pool.map(read, items)) if tensor is None or fit is not None else items

    def _root(self, batch: pa.RecordBatch) -> Path:
        return Path((batch.schema.field(self._column).metadata or {}).get(ROOT_KEY, b"").decode())


def _pixels(column: pa.Array) -> np.ndarray | None:
    """Return a tensor column as uint8 `[rows, h, w, c]` without copying, or nothing where it holds no tensors."""
    if not isinstance(column.type, pa.FixedShapeTensorType):
        return None
    if column.type.value_type != pa.uint8() or len(column.type.shape) not in (2, 3):
        raise ColumnError(
            f"an image column holds {column.type}", hint="images are uint8 of shape (height, width) or (height, width, channels)"
        )
    if column.null_count:
        raise ColumnError("an image column of pixels has missing rows", hint="remove these rows, or store the images as files")
    pixels: np.ndarray = column.to_numpy_ndarray()
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    if pixels.shape[3] not in (1, 3):
        raise ColumnError(f"an image column has {pixels.shape[3]} channels", hint="1 (grey) or 3 (RGB) are allowed")
    return pixels


def _read(item: np.ndarray | str | bytes, root: Path, column: str, turn: _Turn, fit: _Wanted | None = None) -> np.ndarray | str:
    """Return what becomes of an image `[h, w, c]`, or why it cannot be read."""
    if isinstance(item, np.ndarray):
        return turn(Image.fromarray(item[..., 0] if item.shape[2] == 1 else item))
    if not isinstance(item, bytes | str):
        raise ColumnError(
            f"the column {column!r} holds {item!r}, which is no image", hint="images are files, paths, bytes or arrays of bytes"
        )
    where = f"{len(item)} bytes" if isinstance(item, bytes) else str(root / item)
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else root / item) as image:
            if fit is not None and fit.border is None:  # a letterboxed picture's place is reckoned from its own size
                image.draft(None, (fit[1], fit[0]))  # lets the JPEG decoder skip detail that resizing would throw away
            return turn(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        return f"the image {where} in column {column!r} cannot be read: {error}"


def picture_size(item: Any, root: Path) -> tuple[int, int] | None:
    """Return an image's height and width as it is shown, from the head of its file; nothing where that cannot be read.

    Args:
        item: The file's bytes, or its path.
        root: The folder that the path is relative to.
    """
    if not isinstance(item, bytes | str):
        return None
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else root / item) as image:
            turned = image.getexif().get(_ORIENTATION, 1) >= 5  # it lies on its side
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return an image `[h, w, 1 or 3]` with so many channels."""
    if image.shape[2] == channels:
        return image
    plain = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(plain)
    return pixels[..., None] if channels == 1 else pixels


def _as_stored(image: Image.Image) -> np.ndarray:
    """Return an image as uint8 `[h, w, 1 or 3]`, one that may have more than 8 bits as uint16 `[h, w, 1]`."""
    deep = deep_values(image)
    return _fit(image, fit=None, white=None) if deep is None else deep.clip(0, WHITES[-1]).round().astype(np.uint16)[..., None]


def _fit(image: Image.Image, *, fit: _Wanted | None, white: int | None) -> np.ndarray:
    """Return an image as uint8 `[h, w, c]`; one of more than 8 bits, where training met none, has 16 if any of its values exceeds 255."""
    deep = deep_values(image)
    if deep is not None:
        image = Image.fromarray(shades(deep, white or (WHITES[-1] if deep.max(initial=0) > WHITES[0] else WHITES[0])))
    grey = image.mode in ("1", "L", "LA") if fit is None else fit.channels == 1
    image = image.convert("L" if grey else "RGB")
    if fit is not None and image.size != (fit.width, fit.height):
        image = _resized(image, fit)
    pixels = np.asarray(image)
    return pixels[..., None] if grey else pixels


def _resized(image: Image.Image, fit: _Wanted) -> Image.Image:
    if fit.border is None:
        return image.resize((fit.width, fit.height), Image.Resampling.BILINEAR)
    high, wide, top, left = placed_size((image.size[1], image.size[0]), (fit.height, fit.width), "letterbox")
    made = Image.new(image.mode, (fit.width, fit.height), fit.border if len(fit.border) > 1 else fit.border[0])
    made.paste(image.resize((wide, high), Image.Resampling.BILINEAR), (left, top))
    return made

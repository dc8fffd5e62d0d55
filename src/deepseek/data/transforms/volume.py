"""Volumes: read from NIfTI, DICOM or arrays, brought to one size on the host; channels are put first inside the model.

Legend of shapes: `d`, `h`, `w` depth, height and width · `c` channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt, Le

from deepseek.data.columns import get_column
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.transforms.base import Array, InputSpec
from deepseek.data.transforms.pictured import Head, PicturedTransform, Whole
from deepseek.data.volumes import Volume, VolumeHead, centred, read_head, read_volume, read_volume_bytes, resampled
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind

if TYPE_CHECKING:
    from deepseek.data.transforms.modules import VolumeModule

SAMPLED_VOXELS = 2_048
"""So many voxels of each training volume, evenly spaced, say where its brightness lies."""
Size = Annotated[int, Ge(1)]
Millimetres = Annotated[float, Gt(0)]
Percent = Annotated[float, Ge(0), Le(100)]


class VolumeTransform(PicturedTransform):
    """Turns a column of volumes into one float32 input `[depth, height, width, channels]`.

    The column holds paths of NIfTI files or of folders of DICOM series, relative to the folder that the Arrow field's metadata names under
    `deepseek.root`; the content of NIfTI files as bytes; or arrays of three or four dimensions. Volumes of unequal size are filled up and
    cut about their centre to one size. A volume that is larger than that is answered window by window.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        size: Depth, height and width in voxels, or one number for all; where not given, the largest of the training volumes along each
            axis.
        spacing: The distance from voxel to voxel along depth, height and width, in millimetres, that every volume is brought to first, by
            linear interpolation; as the files have it where not given. Arrays have no spacing.
        normalize: `volume`: each volume less its own mean, divided by its own spread, as magnetic resonance needs, whose units mean
            nothing; `training`: by mean and spread of the training volumes, inside the model, as computed tomography needs; `none`: the
            numbers as they are.
        clip: Percentiles that brightness is cut at before: of the volume itself for `volume`, of the training volumes for `training`.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        size: tuple[Size, Size, Size] | Size | None = None,
        spacing: tuple[Millimetres, Millimetres, Millimetres] | None = None,
        normalize: Literal["volume", "training", "none"] = "volume",
        clip: tuple[Percent, Percent] | None = (0.5, 99.5),
    ) -> None:
        if len(fields) != 1:
            raise InputError(f"a volume transform is given {len(fields)} columns", hint="each column of volumes has a transform of its own")
        if clip is not None and not clip[0] < clip[1]:
            raise InputError(f"clip is {clip}", hint="the lower percentile stands first: [0.5, 99.5]")
        super().__init__(fields, name or fields[0].name)
        self.size, self.spacing, self.normalize, self.clip = size, spacing, normalize, clip
        self._column = self.fields[0].name
        self._sizes: list[tuple[int, ...]] = []
        self._unread: str | None = None
        self._channels: set[int] = set()
        self._samples: list[np.ndarray] = []
        self._state: dict[str, Any] = {}

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows; volumes that cannot be read are passed over here and named by `bad`."""
        for item in self._read(batch):
            if isinstance(item, str):
                self._unread = self._unread or item
                continue
            values = self._spaced(item)
            self._sizes.append(values.shape[:3])
            self._channels.add(values.shape[3])
            if self.normalize == "training":
                flat = values.reshape(-1)
                self._samples.append(flat[np.linspace(0, len(flat) - 1, min(SAMPLED_VOXELS, len(flat))).astype(np.int64)])

    def finish(self) -> None:
        """Settle size, channels, and where brightness lies; every volume counts alike, whatever its size."""
        if not self._sizes:
            first = f"; the first: {self._unread}" if self._unread else ""
            raise DataError(
                f"no readable volume was seen in the training rows of {self._column!r}{first}",
                hint=None if first else "are the paths right?",
            )
        if len(self._channels) > 1:
            raise DataError(f"the volumes of {self._column!r} have {sorted(self._channels)} channels", hint="all must have equally many")
        largest = tuple(int(side) for side in np.max(self._sizes, axis=0))
        size: tuple[int, ...] = (self.size,) * 3 if isinstance(self.size, int) else self.size or largest
        cut = sum(any(there > wanted for there, wanted in zip(one, size, strict=True)) for one in self._sizes)
        if cut:
            self.warnings = (
                f"{cut} of {len(self._sizes)} training volumes of {self._column!r} are larger than {'×'.join(map(str, size))} voxels: "
                "what is cut off around the centre is not trained on; answers are for the whole volume",
            )
        self._state = {"size": list(size), "channels": self._channels.pop(), **self._brightness()}
        self._sizes, self._channels, self._samples = [], set(), []

    def _brightness(self) -> dict[str, float | None]:
        if self.normalize != "training":
            return {}
        voxels = np.concatenate(self._samples).astype(np.float64)
        bounds: dict[str, float | None] = {"low": None, "high": None}
        if self.clip is not None:
            low, high = np.percentile(voxels, self.clip).tolist()
            bounds, voxels = {"low": low, "high": high}, voxels.clip(low, high)
        return {**bounds, "mean": float(voxels.mean()), "std": float(voxels.std()) or 1.0}

    @property
    def space(self) -> tuple[int, ...]:
        """The network's depth, height and width."""
        if not self._state:
            raise InputError("the transform of volumes is not fitted", hint="call observe and finish, or load_json, first")
        return tuple(self._state["size"])

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input."""
        shape = (*self.space, self._state["channels"])
        return (InputSpec(str(self.name), Kind.VOLUME, (self._column,), shape, "float32"),)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return float32 `[rows, depth, height, width, channels]`."""
        out = np.empty((batch.num_rows, *self.inputs[0].shape), dtype=np.float32)
        for row, whole in enumerate(self.wholes(batch)):
            out[row] = centred(whole.values, self.space, fill=whole.fill)
        return {str(self.name): out}

    def wholes(self, batch: pa.RecordBatch) -> Iterator[Whole]:
        """Yield each row's volume, normalised, in its own size."""
        channels = self.inputs[0].shape[3]
        for row, item in enumerate(self._read(batch)):
            if isinstance(item, str):
                raise RowError(row, f": {item}", hint="replace or remove the file; preparing data sets such rows aside")
            values = self._normalized(self._spaced(item))
            if values.shape[3] != channels:
                raise RowError(row, f": the volume has {values.shape[3]} channels, not {channels}")
            yield Whole(values, item.values.shape[:3], float(values.min()))

    def sizes(self, batch: pa.RecordBatch) -> list[tuple[int, ...] | None]:
        """Return each row's original depth, height and width."""
        return [None if head is None else head.size for head in self.heads(batch)]

    def heads(self, batch: pa.RecordBatch) -> list[Head | None]:
        """Return each row's size, its size once voxels lie at the wanted distance, and where it lies; of NIfTI files from their heads."""
        column, root = get_column(batch, self._column), root_of(batch, self._column)
        found: list[Head | None] = []
        for item in _items(column):
            try:
                head = read_head(root / item) if isinstance(item, str) else VolumeHead.of(_as_volume(item, root, self._column))
            except DataError:
                found.append(None)
                continue
            own = head.size if self.spacing is None else spaced_size(head.size, head.spacing, self.spacing)
            found.append(Head(head.size, own, head.affine))
        return found

    def lay(self, mask: np.ndarray, *, outside: int) -> np.ndarray:
        """Return a mask cut and filled up about its centre as its volume is."""
        return centred(mask, self.space, fill=outside)

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for rows whose volume is missing or cannot be read."""
        return np.array([isinstance(item, str) for item in self._read(batch)], dtype=bool)

    def module(self) -> VolumeModule:
        """Return what puts channels first, and brings brightness to the training volumes' scale: `[b, d, h, w, c]` to `[b, c, d, h, w]`."""
        from deepseek.data.transforms.modules import VolumeModule

        known = self._state
        return VolumeModule(known.get("low"), known.get("high"), mean=known.get("mean", 0.0), std=known.get("std", 1.0))

    def to_json(self) -> dict[str, Any]:
        """Return size, channels, and where brightness lies."""
        self.space  # noqa: B018  raises where nothing is fitted
        return dict(self._state)

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._state = dict(state)
        return self

    def _read(self, batch: pa.RecordBatch) -> Iterator[Volume | str]:
        """Yield each row's volume `[d, h, w, c]`, or why it cannot be read."""
        column, root = get_column(batch, self._column), root_of(batch, self._column)
        for item in _items(column):
            try:
                made = _as_volume(item, root, self._column)
            except DataError as error:
                yield error.message
            else:
                yield made

    def _spaced(self, volume: Volume) -> np.ndarray:
        """Return a volume's voxels at the wanted distance from each other, float32 `[d, h, w, c]`."""
        values = volume.values.astype(np.float32, copy=False)
        return values if self.spacing is None else resampled(values, spaced_size(values.shape[:3], volume.spacing, self.spacing))

    def _normalized(self, values: np.ndarray) -> np.ndarray:
        if self.normalize != "volume":
            return values
        if self.clip is not None:
            values = values.clip(*np.percentile(values, self.clip).astype(np.float32))
        # float64 sums: float32 loses digits over millions of voxels
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        return np.asarray((values - mean) / (std if std > 0 else 1.0), dtype=np.float32)


def spaced_size(size: Sequence[int], have: Sequence[float], wanted: Sequence[float]) -> tuple[int, ...]:
    """Return how many voxels a volume has along each axis once they lie at another distance.

    Args:
        size: How many it has.
        have: Their distance, in millimetres.
        wanted: The other distance.
    """
    return tuple(max(1, round(count * here / there)) for count, here, there in zip(size, have, wanted, strict=True))


def root_of(batch: pa.RecordBatch, column: str) -> Path:
    """Return the folder that the paths of a column are relative to."""
    metadata = batch.schema.field(column).metadata or {}
    return Path(metadata.get(ROOT_KEY, b"").decode())


def _items(column: pa.Array) -> Iterator[Any]:
    """Yield paths, bytes or arrays, row by row."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        yield from column.to_numpy_ndarray()
    else:
        for start in range(len(column)):
            yield column[start].as_py()


def _as_volume(item: Any, root: Path, column: str) -> Volume:
    if item is None:
        raise DataError(f"the volume in column {column!r} is missing")
    if isinstance(item, np.ndarray):
        found = Volume(item)
    elif isinstance(item, bytes):
        found = read_volume_bytes(item)
    elif isinstance(item, str):
        found = read_volume(root / item)
    else:
        raise ColumnError(f"the column {column!r} holds {item!r}, which is no volume", hint="volumes are files, paths, bytes or arrays")
    values = found.values if found.values.ndim == 4 else found.values[..., None]
    if values.ndim != 4:
        raise ColumnError(f"the column {column!r} holds arrays of {values.ndim} dimensions", hint="a volume has 3, or 4 with channels last")
    if not np.issubdtype(values.dtype, np.integer) and not np.isfinite(values).all():
        where = str(root / item) if isinstance(item, str) else f"in column {column!r}"
        raise DataError(
            f"the volume {where} holds numbers that are none (NaN or infinite)", hint="write a number there, such as that of the background"
        )
    return Volume(values, found.spacing, found.affine)

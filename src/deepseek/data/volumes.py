"""Volumes on disk: NIfTI files and series of DICOM files, read as arrays with the distance between their voxels, and written again.

Axes are in the order of NumPy pictures: depth (slices), height, width. A volume lies as its file has it; nothing is turned to a common
orientation, so that a mask fits its volume voxel by voxel.

Legend of shapes: `d`, `h`, `w` depth, height and width · `c` channels.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from deepseek.errors import DataError, InputError, MissingExtraError

NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom")
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, AttributeError, IndexError, TypeError, zlib.error)
_EXTRA = "volumes"
_SIDES = 3
_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 352
_LEAST_GAP = 1e-3
"""Millimetres: slices that lie closer together lie at one place."""


@dataclass(frozen=True)
class Volume:
    """A volume as it lies on disk.

    Attributes:
        values: `[d, h, w]`, or `[d, h, w, c]` where a file holds several volumes of one body.
        spacing: The distance from voxel to voxel along depth, height and width, in millimetres; 1 where the file does not say it.
        affine: The 4×4 matrix from voxels (width, height, depth) to the body's millimetres, where the file has one.
    """

    values: np.ndarray
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: np.ndarray | None = None


@dataclass(frozen=True)
class VolumeHead:
    """What is known of a volume before its voxels are read.

    Attributes:
        size: Depth, height and width.
        spacing: The distance from voxel to voxel along these, in millimetres.
        affine: As of `Volume`.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: np.ndarray | None = None

    @classmethod
    def of(cls, volume: Volume) -> VolumeHead:
        """Return that of a volume that was read."""
        depth, height, width = volume.values.shape[:3]
        return cls((depth, height, width), volume.spacing, volume.affine)


def is_volume(name: str) -> bool:
    """Whether a file's name is that of a volume.

    Example:
        >>> is_volume("scans/hippocampus_001.nii.gz"), is_volume("photo.png")
        (True, False)
    """
    return name.lower().endswith((*NIFTI, *DICOM))


def with_series(names: Iterable[str]) -> list[str]:
    """Return the names of files with those of a series of DICOM, the files of one folder, as the folder that they lie in, sorted.

    Example:
        >>> with_series(["a/1.dcm", "a/2.dcm", "a/notes.txt", "b.nii.gz"])
        ['a', 'b.nii.gz']
    """
    listed = list(names)
    folders = {Path(name).parent.as_posix() for name in listed if name.lower().endswith(DICOM)}
    return sorted(folders | {name for name in listed if Path(name).parent.as_posix() not in folders})


def stem_of(name: str) -> str:
    """Return a file's name without folders and without all of its suffix: `hippocampus_001` of `a/hippocampus_001.nii.gz`."""
    plain = Path(name).name
    suffix = next((one for one in (".nii.gz", *NIFTI) if plain.lower().endswith(one)), Path(plain).suffix)
    return plain[: len(plain) - len(suffix)] if suffix else plain


def read_volume(path: Path | str) -> Volume:
    """Read a volume: a NIfTI file (`.nii`, `.nii.gz`), a DICOM file, or a folder that holds one series of DICOM files.

    Slices of a series are sorted by their place along the normal of their plane, and brightness is what slope and intercept make of the
    stored numbers (Hounsfield units, in computed tomography).

    Args:
        path: The file or folder.

    Raises:
        DataError: It is not there, is none of these, or cannot be read.
        MissingExtraError: The library for the format is not installed.
    """
    place = Path(path)
    try:
        if place.is_dir():
            return _read_series(_slices_in(place), place)
        if place.name.lower().endswith(DICOM):
            return _read_series([place], place)
        return _of_nifti(_nibabel().load(place))
    except _foreign() as error:
        raise DataError(
            f"the volume {str(place)!r} cannot be read: {error}", hint="a volume is .nii, .nii.gz, or a folder of DICOM"
        ) from error


def read_volume_bytes(content: bytes) -> Volume:
    """Read a NIfTI file that is held in memory, packed by gzip or not; raises as `read_volume` does.

    No more is unpacked than the head announces: what a stranger sent may be zeros for gigabytes.
    """
    try:
        with _opened(content) as file:
            start = file.read(_HEAD_BYTES)
            head = _nibabel().Nifti1Header.from_fileobj(io.BytesIO(start))
            size = int(head.get_data_offset()) + math.prod(head.get_data_shape()) * head.get_data_dtype().itemsize
            return _of_nifti(_nibabel().Nifti1Image.from_bytes(start + file.read(max(size - len(start), 0))))
    except _foreign() as error:
        raise DataError(
            f"{len(content)} bytes cannot be read as a volume: {error}", hint="give the content of a .nii or .nii.gz"
        ) from error


def read_head_bytes(content: bytes) -> VolumeHead:
    """Return what the first bytes of a NIfTI file say of it, unpacking no more than these; raises as `read_volume` does."""
    try:
        with _opened(content) as file:
            head = _nibabel().Nifti1Header.from_fileobj(io.BytesIO(file.read(_HEAD_BYTES)))
        width, height, depth = (float(one) or 1.0 for one in head.get_zooms()[:_SIDES])
        return VolumeHead(_size_of(head.get_data_shape()), (depth, height, width), head.get_best_affine())
    except _foreign() as error:
        raise DataError(
            f"{len(content)} bytes cannot be read as a volume: {error}", hint="give the content of a .nii or .nii.gz"
        ) from error


def _opened(content: bytes) -> IO[bytes]:
    plain = io.BytesIO(content)
    return gzip.GzipFile(fileobj=plain) if content[:2] == _GZIP else plain  # type: ignore[return-value]


def _size_of(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) < _SIDES:
        raise ValueError(f"it has {len(shape)} dimensions, a volume has 3, or 4 with channels")
    return int(shape[2]), int(shape[1]), int(shape[0])


def read_head(path: Path | str) -> VolumeHead:
    """Return a volume's size and the distance of its voxels; of a NIfTI file its header alone is read. Raises as `read_volume` does."""
    place = Path(path)
    if place.is_dir() or place.name.lower().endswith(DICOM):
        return VolumeHead.of(read_volume(place))
    try:
        image = _nibabel().load(place)
        return VolumeHead(_size_of(image.shape), _spacing_of(image), np.asarray(image.affine, dtype=np.float64))
    except _foreign() as error:
        raise DataError(
            f"the volume {str(place)!r} cannot be read: {error}", hint="a volume is .nii, .nii.gz, or a folder of DICOM"
        ) from error


def same_axes(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two volumes lie alike in the body: the same axes of the body along their sides, in the same directions.

    Args:
        one: The 4×4 matrix of the one, as of `Volume`; one that is not known is taken to lie as the other does.
        other: That of the other.
    """
    if one is None or other is None:
        return True
    first, second = (_axes_of(affine) for affine in (one, other))
    return bool(np.array_equal(first, second))


def _axes_of(affine: np.ndarray) -> np.ndarray:
    """Return along which axis of the body, and in which direction, each side of a volume runs: 1 to 3, or less than 0 against it."""
    sides = affine[:3, :3]
    axes = np.abs(sides).argmax(axis=0)
    return np.asarray((axes + 1) * np.where(sides[axes, np.arange(3)] < 0, -1, 1))


def write_volume(path: Path | str, values: np.ndarray, *, like: Volume | None = None) -> None:
    """Write a volume as NIfTI.

    Args:
        path: The file: `.nii`, or `.nii.gz`, which is packed.
        values: `[d, h, w]` of any type that NIfTI has: bytes, whole numbers of 16 or 32 bits, floats.
        like: The volume whose place in the body it has, such as the one that a mask belongs to.

    Raises:
        MissingExtraError: The library for the format is not installed.
    """
    affine = None if like is None else like.affine
    if affine is None:
        depth, height, width = (1.0, 1.0, 1.0) if like is None else like.spacing
        affine = np.diag([width, height, depth, 1.0])
    library = _nibabel()
    library.save(library.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), affine), path)


def blank_volume(channels: int) -> bytes:
    """Return the content of a NIfTI file of 8×8×8 zeros.

    Args:
        channels: How many numbers each voxel has.
    """
    shape = (8, 8, 8) if channels == 1 else (8, 8, 8, channels)
    content: bytes = _nibabel().Nifti1Image(np.zeros(shape, dtype=np.int16), np.eye(4)).to_bytes()
    return content


def _of_nifti(image: Any) -> Volume:
    values = np.asanyarray(image.dataobj)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (3, 4):
        raise ValueError(f"it has {values.ndim} dimensions, a volume has 3, or 4 with channels")
    turned = values.transpose(2, 1, 0, *range(3, values.ndim))
    return Volume(turned, _spacing_of(image), np.asarray(image.affine, dtype=np.float64))


def _spacing_of(image: Any) -> tuple[float, float, float]:
    width, height, depth = (float(one) or 1.0 for one in image.header.get_zooms()[:3])
    return depth, height, width


def _slices_in(folder: Path) -> list[Path]:
    """Return the files of a series: where any is called as DICOM is, not what has another suffix, such as a description."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not any(file.name.lower().endswith(DICOM) for file in files):
        return files
    return [file for file in files if file.suffix.lower() in (*DICOM, "") or file.suffix[1:].isdigit()]


def _read_slice(library: Any, file: Path) -> Any:
    try:
        return library.dcmread(file)
    except library.errors.InvalidDicomError as error:
        raise ValueError(f"{file.name} is no DICOM: {error}") from error


def _read_series(files: list[Path], place: Path) -> Volume:
    library = _pydicom()
    slices = [_read_slice(library, file) for file in files]
    slices = [one for one in slices if "PixelData" in one]
    if not slices:
        raise DataError(f"{str(place)!r} holds no picture of DICOM", hint="give the folder of one series")
    series = {str(one.get("SeriesInstanceUID", "")) for one in slices}
    if len(series) > 1:
        raise DataError(f"{str(place)!r} holds {len(series)} series of DICOM", hint="put each series into a folder of its own")
    if len(slices) > 1 and any(int(one.get("NumberOfFrames", 1) or 1) > 1 for one in slices):
        what = f"{str(place)!r} holds {len(slices)} files of DICOM, and one of them is a volume of several frames"
        raise DataError(what, hint="put each volume into a folder of its own")
    if any(int(one.get("SamplesPerPixel", 1) or 1) > 1 for one in slices):
        raise DataError(f"the slices of {str(place)!r} are in colours", hint="a volume has one number a voxel; give pictures as images")
    slices.sort(key=_position)
    planes = [
        one.pixel_array.astype(np.float32) * float(one.get("RescaleSlope", 1)) + float(one.get("RescaleIntercept", 0)) for one in slices
    ]
    if len({plane.shape for plane in planes}) > 1:
        raise DataError(f"the slices of {str(place)!r} are of unequal size", hint="give the folder of one series")
    gaps = np.diff([_position(one) for one in slices])
    if len(gaps) and "ImagePositionPatient" in slices[0] and gaps.min() < _LEAST_GAP:
        what = f"two slices of {str(place)!r} lie at the same place"
        raise DataError(what, hint="a series holds each place once: put echoes, phases and repeats into folders of their own")
    values = planes[0] if planes[0].ndim == _SIDES else np.stack(planes)
    height, width = (float(one) for one in slices[0].get("PixelSpacing", (1, 1)))
    depth = float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else float(slices[0].get("SliceThickness", 1) or 1)
    spacing = (depth, height, width)
    return Volume(values, spacing, _affine_of(slices[0], spacing))


def _affine_of(first: Any, spacing: tuple[float, float, float]) -> np.ndarray | None:
    """Return the matrix from voxels to the body's millimetres, as NIfTI has it; nothing where the first slice does not say where it lies.

    DICOM counts towards the left and the back, NIfTI towards the right and the front.
    """
    position, turned = first.get("ImagePositionPatient"), first.get("ImageOrientationPatient")
    if position is None or turned is None:
        return None
    depth, height, width = spacing
    across, down = np.asarray(turned[:3], dtype=np.float64), np.asarray(turned[3:], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * width, down * height, np.cross(across, down) * depth], axis=1)
    affine[:3, 3] = np.asarray(position, dtype=np.float64)
    affine[:2] *= -1
    return affine


def _position(one: Any) -> float:
    """Return a slice's place along the normal of its plane, in millimetres; its number where the file does not say where it lies."""
    position, turned = one.get("ImagePositionPatient"), one.get("ImageOrientationPatient")
    if position is None or turned is None:
        return float(one.get("InstanceNumber", 0) or 0)
    axes = np.asarray(turned, dtype=np.float64)
    return float(np.cross(axes[:3], axes[3:]) @ np.asarray(position, dtype=np.float64))


def _foreign() -> tuple[type[BaseException], ...]:
    """Return what the libraries raise for files that they cannot read."""
    found: list[type[BaseException]] = list(_UNREADABLE)
    try:
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError
        from nibabel.wrapstruct import WrapStructError

        found += [ImageFileError, HeaderDataError, WrapStructError]
    except ImportError:
        pass
    return tuple(found)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError("nibabel", _EXTRA, "reading volumes of NIfTI") from None
    return nibabel


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise MissingExtraError("pydicom", _EXTRA, "reading series of DICOM") from None
    return pydicom


def centred(values: np.ndarray, size: Iterable[int], *, fill: float) -> np.ndarray:
    """Return an array brought to a size about its centre: too much is cut off, too little is filled up.

    Args:
        values: `[*space, …]`.
        size: The size of the first dimensions.
        fill: What stands where there was nothing.

    Example:
        >>> centred(np.array([[1, 2, 3]]), (3, 2), fill=0).tolist()
        [[0, 0], [1, 2], [0, 0]]
    """
    wanted = tuple(size)
    if len(wanted) > values.ndim:
        raise InputError(f"an array of {values.ndim} dimensions is to have the size {wanted}", hint="give one number a dimension")
    for axis, target in enumerate(wanted):
        there = values.shape[axis]
        if there > target:
            start = (there - target) // 2
            values = np.take(values, range(start, start + target), axis=axis)
        elif there < target:
            before = (target - there) // 2
            widths = [(before, target - there - before) if place == axis else (0, 0) for place in range(values.ndim)]
            values = np.pad(values, widths, constant_values=np.asarray(fill, dtype=values.dtype))
    return values


def resampled(values: np.ndarray, size: Iterable[int], *, nearest: bool = False) -> np.ndarray:
    """Return an array of another size of the same thing, axis by axis: by linear interpolation between voxels' centres, or the nearest one.

    Args:
        values: `[*space, …]`.
        size: The new size of the first dimensions.
        nearest: Whether the nearest voxel is taken as it is, as masks of classes need.
    """
    out = values if nearest else values.astype(np.float32, copy=False)
    for axis, target in enumerate(size):
        there = out.shape[axis]
        if there == target:
            continue
        place = (np.arange(target) + 0.5) * (there / target) - 0.5
        if nearest:
            out = np.take(out, np.clip(np.rint(place), 0, there - 1).astype(np.int64), axis=axis)
            continue
        place = place.clip(0, there - 1)
        low = np.floor(place).astype(np.int64)
        share = (place - low).astype(np.float32).reshape([-1 if one == axis else 1 for one in range(out.ndim)])
        first, second = np.take(out, low, axis=axis), np.take(out, np.minimum(low + 1, there - 1), axis=axis)
        out = first + (second - first) * share
    return out

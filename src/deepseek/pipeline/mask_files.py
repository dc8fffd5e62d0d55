"""Masks that a model answers with, written as files: a picture for each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from deepseek.artifacts import plain_disk_errors
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.volumes import NIFTI, Volume, read_volume, stem_of, write_volume
from deepseek.errors import DataError, InputError

_PICTURE_SIDES = 2
_LARGEST_PNG = 65_535


class MaskWriter:
    """Writes masks into a folder: PNG in shades of grey for images, `.nii.gz` for volumes, in the place of the body that its volume has.

    A file is called as its picture is; where a row's picture is no file, by the row's number, from 0.

    Args:
        folder: Where the files go; made if it is not there.

    Attributes:
        written: How many files there are.

    Raises:
        InputError: It is a file, or holds files already.
    """

    def __init__(self, folder: Path) -> None:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise InputError(f"the folder for the masks, {str(folder)!r}, is a file or holds something", hint="name a folder that is empty")
        self.folder, self.written = folder, 0
        self._names: set[str] = set()

    def write(self, masks: Sequence[np.ndarray], rows: pa.RecordBatch, column: str) -> None:
        """Write the masks of some rows.

        Args:
            masks: A mask for each row, `[h, w]` or `[d, h, w]`.
            rows: The rows.
            column: The column of their pictures.

        Raises:
            DataError: Two pictures have the same name.
            RunError: The disk is full or the folder cannot be written to.
        """
        root = Path((rows.schema.field(column).metadata or {}).get(ROOT_KEY, b"").decode())
        values = rows.column(rows.schema.get_field_index(column))
        paths = values.to_pylist() if pa.types.is_string(values.type) or pa.types.is_large_string(values.type) else [None] * len(values)
        with plain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for mask, path in zip(masks, paths, strict=True):
                name = str(self.written) if path is None else Path(path).name if (root / path).is_dir() else stem_of(path)
                if name in self._names:
                    raise DataError(f"two pictures are called {name!r}: their masks would be one file", hint="write .parquet instead")
                self._names.add(name)
                self._write(name, mask, None if path is None else root / path)
                self.written += 1

    def _write(self, name: str, mask: np.ndarray, picture: Path | None) -> None:
        if mask.ndim == _PICTURE_SIDES:
            if mask.max(initial=0) > _LARGEST_PNG:
                what = f"the mask {name!r} holds {int(mask.max())}, and a PNG numbers up to {_LARGEST_PNG:,}"
                raise DataError(what, hint="write .parquet instead")
            Image.fromarray(mask if mask.dtype == np.uint8 else mask.astype(np.uint16)).save(self.folder / f"{name}.png")
            return
        like: Volume | None = None
        if picture is not None and (picture.is_dir() or str(picture).lower().endswith(NIFTI)):
            like = read_volume(picture)
        # NIfTI's readers know no whole numbers of 64 bits
        write_volume(self.folder / f"{name}.nii.gz", mask.astype(np.int32) if mask.dtype == np.int64 else mask, like=like)

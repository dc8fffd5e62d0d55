"""Rows whose picture is larger than the network's size: found, and kept whole beside those that a network of one size is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from deepseek.data.prepared.wholes import WholeRow, write_wholes
from deepseek.data.targets.mask import IGNORED, MaskTarget
from deepseek.data.transforms.base import InputSpec
from deepseek.data.volumes import centred

if TYPE_CHECKING:
    from deepseek.data.preparation import Preparation


def cut_rows(preparation: Preparation, batch: pa.RecordBatch) -> np.ndarray:
    """Return which rows are segmented and larger than the network's size, bool `[rows]`.

    Args:
        preparation: The fitted preparation.
        batch: Rows that the cleaners have been through.
    """
    target = preparation.target
    if not isinstance(target, MaskTarget) or target.picture.resizes:
        return np.zeros(batch.num_rows, dtype=bool)
    return target.picture.is_cut(target.picture.heads(batch))


def whole_rows(preparation: Preparation, batch: pa.RecordBatch, rows: np.ndarray) -> Iterator[WholeRow]:
    """Yield pictures and masks as large as they are, filled up where a side is shorter than the network's, one at a time.

    Args:
        preparation: The fitted preparation of a segmentation.
        batch: Rows that the cleaners have been through, whose pictures and masks can be read.
        rows: What each is called, int64 `[rows]`.

    Raises:
        DataError: A picture or a mask cannot be read.
    """
    target = preparation.target
    assert isinstance(target, MaskTarget)
    for row, whole, mask in zip(rows.tolist(), target.picture.wholes(batch), target.wholes(batch), strict=True):
        enough = tuple(max(side, wanted) for side, wanted in zip(mask.shape, target.picture.space, strict=True))
        yield WholeRow(row, centred(whole.values, enough, fill=whole.fill), centred(mask, enough, fill=IGNORED))


def keep_wholes(preparation: Preparation, batches: Iterable[pa.RecordBatch], folder: Path) -> int:
    """Write the rows of a split that are larger than the network's size beside the prepared ones, and return how many they are.

    Args:
        preparation: The fitted preparation.
        batches: The rows that were prepared, in their order.
        folder: The folder of the prepared rows.

    Raises:
        DataError: A file changed since the rows were prepared.
    """
    target = preparation.target
    if not isinstance(target, MaskTarget) or target.picture.resizes:
        return 0
    picture: InputSpec = target.picture.inputs[0]
    return write_wholes(folder, _kept(preparation, batches), name=picture.name, space=target.picture.space, dtype=picture.dtype)


def _kept(preparation: Preparation, batches: Iterable[pa.RecordBatch]) -> Iterator[WholeRow]:
    passed = 0
    for batch in batches:
        cleaned = preparation.cleaned(batch)
        cut = cut_rows(preparation, cleaned)
        if cut.any():
            yield from whole_rows(preparation, cleaned.filter(pa.array(cut)), passed + np.flatnonzero(cut))
        passed += batch.num_rows

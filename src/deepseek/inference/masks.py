"""Answers of segmentations: a mask of each picture's own size.

Legend of shapes: `*space` height and width, or depth, height and width · `k` classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from deepseek.data.targets.mask import MaskTarget
from deepseek.data.transforms.pictured import PicturedTransform
from deepseek.data.volumes import resampled
from deepseek.errors import OF_BATCH, InputError, rows_counted
from deepseek.inference.windows import in_windows
from deepseek.tasks.answers import mask_table

if TYPE_CHECKING:
    from deepseek.data.preparation import Preparation
    from deepseek.inference.backends.base import Backend

ROWS_AT_ONCE = 4


def answer_masks(backend: Backend, preparation: Preparation, batch: pa.RecordBatch) -> pa.Table:
    """Return the masks of rows, as `masks_in` reads them.

    A picture that is resized for the network is answered as a whole, and its probabilities are brought back to its own size by linear
    interpolation; another is answered in its own size, window by window.

    Args:
        backend: What runs the network.
        preparation: The fitted preparation, with its target.
        batch: Rows, as a table has them.

    Raises:
        DataError: A picture cannot be read.
    """
    target = preparation.target
    if not isinstance(target, MaskTarget):
        raise InputError("the model answers with no masks", hint="masks come from a model whose task is segmentation")
    return mask_table(target.spec, list(_codes(backend, target.picture, preparation.cleaned(batch))))


def _codes(backend: Backend, picture: PicturedTransform, batch: pa.RecordBatch) -> Iterator[np.ndarray]:
    name = picture.inputs[0].name

    def run(values: np.ndarray) -> np.ndarray:
        return backend.run({name: np.ascontiguousarray(values)})["probability"]

    if not picture.resizes:
        for whole in picture.wholes(batch):
            probability = in_windows(run, whole.values, picture.space, fill=whole.fill, rows=ROWS_AT_ONCE)
            yield _likeliest(probability, whole.size)
        return
    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
        part = batch.slice(start, ROWS_AT_ONCE)
        with rows_counted(start, of=OF_BATCH):
            answers = run(np.asarray(picture.apply(part)[name]))
        for answer, size in zip(answers, picture.sizes(part), strict=True):
            assert size is not None, "the picture has just been read"
            yield _likeliest(answer, size)


def _likeliest(probability: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the likeliest class at each place of the original size, int64 `[*space]`, for probabilities `[k, *space]` in another one."""
    if probability.shape[1:] != tuple(size):
        probability = np.moveaxis(resampled(np.moveaxis(probability, 0, -1), size), -1, 0)
    codes: np.ndarray = probability.argmax(axis=0)
    return codes

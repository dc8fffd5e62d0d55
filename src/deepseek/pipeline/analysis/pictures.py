"""Pictures of a split with masks or boxes drawn over them: what is there, and what the model answers.

Legend of shapes: `k` classes · `n` objects · `*space` height and width, or depth, height and width · `c` channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from deepseek import progress
from deepseek.data.loader import rows_within
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.targets.mask import IGNORED
from deepseek.pipeline.analysis.predictions import sample_of
from deepseek.reporting.facts import PictureFact, PicturesFacts
from deepseek.reporting.pictures import COLOURS, marked
from deepseek.tasks.base import TARGET
from deepseek.tasks.box_answers import Selection, overlaps, select
from deepseek.tasks.detection import DetectionTask
from deepseek.tasks.model import TaskModel

DRAWN_KINDS = ("mask", "boxes")
"""The kinds of target that are drawn over pictures."""
MOST_PICTURES = 8
LOOKED_AT = 200
"""So many rows are answered; the pictures are chosen from among these."""
_AT_ONCE = 8
_SAME = 0.5
_VOLUME_DIMENSIONS = 4
_BRIGHTNESS = (1.0, 99.0)

_Boxes = list[tuple[list[float], int]]


class _Answered(NamedTuple):
    """A row with its answer: how right it is, from 0 to 1, and in words; masks as codes, or boxes with their classes."""

    place: int
    right: float
    measure: str
    truth: np.ndarray | _Boxes
    answer: np.ndarray | _Boxes


def picture_facts(model: TaskModel, data: PreparedDataset, split: str, *, seed: int) -> PicturesFacts:
    """Return some pictures of a split, of a model that answers with masks or boxes.

    Args:
        model: The trained model.
        data: The split's prepared rows.
        split: Its name.
        seed: Says which rows are looked at where there are many.
    """
    spec = model.task.target
    places = sample_of(len(data), LOOKED_AT, seed)
    answered = sorted(_answers(model, data, places), key=lambda one: (one.right, one.place))
    chosen = [answered[at] for at in np.unique(np.linspace(0, len(answered) - 1, min(MOST_PICTURES, len(answered))).round().astype(int))]
    shown = [_drawn(data, one) for one in chosen]
    classes = list(spec.classes)[1 if spec.kind == "mask" else 0 :]
    colours = [(name, _colour(code)) for code, name in enumerate(classes, start=1 if spec.kind == "mask" else 0)]
    how = (
        "the mean Dice of their classes"
        if spec.kind == "mask"
        else f"how many boxes are right, of those there and those answered (overlap {_SAME})"
    )
    return PicturesFacts(split, len(places), len(data), how, colours, shown)


@torch.inference_mode()
def _answers(model: TaskModel, data: PreparedDataset, places: np.ndarray) -> list[_Answered]:
    found: list[_Answered] = []
    size = min(_AT_ONCE, rows_within(data, _AT_ONCE))
    with progress.task("looking at pictures", len(places)) as advance:
        for start in range(0, len(places), size):
            rows = places[start : start + size]
            batch = data.take(rows)
            decoded = {name: tensor.numpy() for name, tensor in model.predict(batch.inputs).items()}
            target = batch.targets[TARGET].numpy()
            for index, place in enumerate(rows.tolist()):
                row = {name: values[index] for name, values in decoded.items()}
                if isinstance(model.task, DetectionTask):
                    found.append(_boxes(model.task.target, model.task.selection, place, row, target[index]))
                else:
                    found.append(_mask(place, row["probability"], target[index]))
            advance(len(rows))
    return found


def _mask(place: int, probability: np.ndarray, truth: np.ndarray) -> _Answered:
    answer = probability.argmax(axis=0)
    known = truth != IGNORED
    scores = []
    for code in range(1, len(probability)):
        said, true = (answer == code) & known, truth == code
        if said.any() or true.any():
            scores.append(2 * float((said & true).sum()) / float(said.sum() + true.sum()))
    right = float(np.mean(scores)) if scores else 1.0
    return _Answered(place, right, f"Dice {right:.3f}" if scores else "nothing there, nothing answered", truth, answer)


def _boxes(spec: TargetSpec, selection: Selection, place: int, decoded: dict[str, np.ndarray], truth: np.ndarray) -> _Answered:
    height, width = spec.shape[:2]
    found = select(decoded["box"] * np.array([width, height, width, height]), decoded["score"], selection)
    there = truth[((truth[:, 2:4] - truth[:, :2]) > 0).all(axis=1) & (truth[:, 5] == 0)]
    free = np.ones(len(there), dtype=bool)
    for box, label in zip(found.boxes, found.classes, strict=True):
        fit = np.where(free & (there[:, 4] == label), overlaps(box, there[:, :4]), 0.0)
        if len(fit) and fit.max() >= _SAME:
            free[int(fit.argmax())] = False
    right, said = int((~free).sum()), len(found.scores)
    share = 2 * right / (len(there) + said) if len(there) + said else 1.0
    objects = [(row[:4].tolist(), int(row[4])) for row in there]
    answers = [(box.tolist(), int(label)) for box, label in zip(found.boxes, found.classes, strict=True)]
    return _Answered(place, share, f"{right} of {len(there)} found, {said - right} wrong", objects, answers)


def _drawn(data: PreparedDataset, one: _Answered) -> PictureFact:
    (values,) = data.take([one.place]).inputs.values()
    pixels = values[0].numpy()
    number = int(data.source_numbers(np.array([one.place]))[0])
    truth, answer = one.truth, one.answer
    if isinstance(truth, list) or isinstance(answer, list):
        assert isinstance(truth, list)
        assert isinstance(answer, list)
        pictures = [marked(pixels, boxes=[(edges, _colour(label)) for edges, label in boxes]) for boxes in (truth, answer)]
        return PictureFact(number, one.measure, *pictures)
    if pixels.ndim == _VOLUME_DIMENSIONS:
        slice_ = _fullest(truth, answer)
        pixels, truth, answer = _as_bytes(pixels[slice_]), truth[slice_], answer[slice_]
    pictures = [marked(pixels, tints=_tints(mask)) for mask in (truth, answer)]
    return PictureFact(number, one.measure, *pictures)


def _fullest(truth: np.ndarray, answer: np.ndarray) -> int:
    """Return the slice with the most places that are of a class other than the first, in truth or else in the answer."""
    counts = ((truth != 0) & (truth != IGNORED)).sum(axis=(1, 2))
    if not counts.any():
        counts = (answer != 0).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def _as_bytes(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, _BRIGHTNESS)
    return np.asarray(((values - low) / max(high - low, 1e-6) * 255).clip(0, 255).round().astype(np.uint8))


def _tints(mask: np.ndarray) -> Sequence[tuple[np.ndarray, str]]:
    return [(mask == code, _colour(code)) for code in np.unique(mask).tolist() if code not in (0, IGNORED)]


def _colour(code: int) -> str:
    return COLOURS[code % len(COLOURS)]

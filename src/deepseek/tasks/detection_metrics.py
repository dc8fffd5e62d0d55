"""How good a detector's boxes are: mean average precision as COCO defines it, recall, and what is missed at so many false alarms a picture.

Answers are matched to objects picture by picture; what is kept of each answer is its class, its score and with what overlaps it was right.
The numbers are then those of the whole split, on any number of ranks.

Source: the protocol of Lin et al., "Microsoft COCO", ECCV 2014, https://arxiv.org/abs/1405.0312, as `pycocotools` computes it.

Legend of shapes: `b` pictures · `n` objects of a picture · `k` answers of a picture · `t` thresholds of overlap · `c` classes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Gt, Le
from torch import Tensor

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.tasks.base import TARGET
from deepseek.tasks.box_answers import intersections
from deepseek.tasks.boxes import Detections, suppress
from deepseek.tasks.metrics import Metric

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The overlaps from which COCO calls an answer right."""
LEAST_SCORE = 0.001
"""Answers below this score are not measured: they are what a detector says of nothing."""
_RECALLS = np.linspace(0.0, 1.0, 101)
_EDGE = 1e-10
_EPS = float(np.spacing(1))

Overlap = Annotated[float, Gt(0.0), Le(1.0)]


class Matcher:
    """Finds the answers of a batch and remembers the last batch's, as several metrics ask for the same.

    Args:
        target: What is predicted.
        overlap: From which overlap two answers of a class are the same object.
        most: How many a picture may have.
    """

    def __init__(self, target: TargetSpec, *, overlap: float = 0.6, most: int = 100) -> None:
        self.target, self.overlap, self.most = target, overlap, most
        self._last: tuple[Tensor, list[_Picture]] | None = None
        self._matched: dict[tuple[float, ...], list[tuple[np.ndarray, np.ndarray]]] = {}

    def pictures(self, decoded: Mapping[str, Tensor], truth: Tensor) -> list[_Picture]:
        """Return what was found in each picture and what is there.

        Args:
            decoded: What the task decoded.
            truth: `[b, n, 6]`.
        """
        if self._last is None or self._last[0] is not decoded["score"]:
            height, width = self.target.shape[:2]
            size = torch.tensor([width, height, width, height], device=truth.device)
            kept = suppress(decoded["box"] * size, decoded["score"], least=LEAST_SCORE, overlap=self.overlap, most=self.most)
            self._last, self._matched = (decoded["score"], _pictures(kept, truth)), {}
        return self._last[1]

    def matched(self, decoded: Mapping[str, Tensor], truth: Tensor, thresholds: tuple[float, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each picture which answers are right, and which count for nothing, bool `[t, k]` each."""
        pictures = self.pictures(decoded, truth)
        if thresholds not in self._matched:
            self._matched[thresholds] = [match(picture, thresholds) for picture in pictures]
        return self._matched[thresholds]


class _Picture(NamedTuple):
    """One picture: answers, the surest first, and objects, as float64 and int64."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    objects: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


class DetectionMetric(Metric):
    """A number over all answers of a split. Weights of rows do not count: a picture is a picture.

    Args:
        target: What is predicted.
        thresholds: The overlaps from which an answer is right.
    """

    kinds = ("boxes",)
    listed = frozenset({"answers"})

    def __init__(self, target: TargetSpec, /, *, thresholds: Sequence[float] = THRESHOLDS) -> None:
        super().__init__(target)
        self.thresholds = tuple(thresholds)
        self.matcher = Matcher(target)
        self._begin(objects=(len(target.classes),), pictures=(), broken=())
        self.state["answers"] = torch.zeros(0, 4, dtype=torch.float64)
        self._seen = 0

    @torch.no_grad()
    def update(self, decoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Add a batch."""
        truth = batch.targets[TARGET]
        matched = self.matcher.matched(decoded, truth, self.thresholds)
        rows = np.arange(self._seen, self._seen + len(truth)) if batch.row is None else batch.row.numpy()
        self._seen += len(truth)
        bits = 2.0 ** np.arange(len(self.thresholds))
        answers, objects = [], self.state["objects"].cpu().numpy().copy()
        for row, picture, (right, ignored) in zip(rows, self.matcher.pictures(decoded, truth), matched, strict=True):
            np.add.at(objects, picture.labels[~picture.crowd], 1.0)
            code = bits @ right + (2.0 ** len(bits)) * (bits @ ignored)
            answers.append(np.column_stack([np.full(len(code), row), picture.classes, picture.scores, code]))
        broken = decoded["score"].isnan().any() | decoded["box"].isnan().any()
        self.state = {
            "objects": torch.from_numpy(objects),
            "pictures": self.state["pictures"].cpu() + len(truth),
            "broken": self.state["broken"].cpu() + broken.double().cpu(),
            "answers": torch.cat([self.state["answers"].cpu(), *(torch.from_numpy(part) for part in answers)]),
        }

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Do nothing: `update` takes whole batches."""

    def compute(self) -> float:
        """Return the number; NaN where there is no object, or an answer is NaN."""
        if float(self.state["broken"]) or not float(self.state["objects"].sum()):
            return math.nan
        return self.number(self._ranked())

    @abstractmethod
    def number(self, answers: Ranked) -> float:
        """Return the number of all answers."""

    def _ranked(self) -> Ranked:
        """Return the answers of all rows, the surest first; of equal ones those of earlier pictures, whichever rank had them."""
        values = self.state["answers"].cpu().numpy()
        values = values[np.argsort(values[:, 0], kind="stable")]
        values = values[np.argsort(-values[:, 2], kind="stable")]
        codes = values[:, 3].astype(np.int64)
        count = len(self.thresholds)
        bits = (codes[None] >> np.arange(2 * count)[:, None]) & 1 == 1
        return Ranked(values[:, 1].astype(np.int64), bits[:count], bits[count:])


class Ranked(NamedTuple):
    """All answers, the surest first: `classes` int64 `[k]`; `right` and `ignored`, bool `[t, k]`."""

    classes: np.ndarray
    right: np.ndarray
    ignored: np.ndarray


class MeanAveragePrecision(DetectionMetric):
    """Mean average precision over overlaps from .50 to .95 and over classes (COCO's AP); `map_50` and `map_75` beside it.

    Precision at 101 recalls, each the best at that recall or a higher one. Classes without objects are left out.
    """

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)

    def number(self, answers: Ranked) -> float:
        """Return the mean."""
        return float(self._precisions(answers).mean())

    def by_column(self) -> dict[str, float]:
        """Return the means at the overlaps .50 and .75."""
        if math.isnan(self.compute()):
            return {"50": math.nan, "75": math.nan}
        found = self._precisions(self._ranked())
        return {"50": float(found[THRESHOLDS.index(0.5)].mean()), "75": float(found[THRESHOLDS.index(0.75)].mean())}

    def _precisions(self, answers: Ranked) -> np.ndarray:
        return average_precisions(answers, self.state["objects"].cpu().numpy())


class AveragePrecision(DetectionMetric):
    """Mean average precision over the classes at one overlap.

    Args:
        target: What is predicted.
        overlap: From which overlap an answer is right, in (0, 1].
    """

    def __init__(self, target: TargetSpec, /, *, overlap: Overlap = 0.5) -> None:
        super().__init__(target, thresholds=(overlap,))

    def number(self, answers: Ranked) -> float:
        """Return the mean."""
        return float(average_precisions(answers, self.state["objects"].cpu().numpy()).mean())


class BoxRecall(DetectionMetric):
    """The share of objects that are found at all, over overlaps from .50 to .95 and classes (COCO's AR)."""

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)

    def number(self, answers: Ranked) -> float:
        """Return the mean."""
        objects = self.state["objects"].cpu().numpy()
        found = [answers.right[:, answers.classes == code].sum(axis=1) / objects[code] for code in np.flatnonzero(objects)]
        return float(np.mean(found))


class MissRate(DetectionMetric):
    """The share of objects that are missed where the lowest score is such that there are so many false alarms a picture.

    All classes together; an object that is found under another name is missed, and its answer a false alarm.

    Args:
        target: What is predicted.
        false_alarms: How many wrong answers a picture may have on average, above 0.
        overlap: From which overlap an answer is right, in (0, 1].
    """

    higher_is_better = False

    def __init__(self, target: TargetSpec, /, *, false_alarms: Annotated[float, Gt(0.0)] = 1.0, overlap: Overlap = 0.5) -> None:
        super().__init__(target, thresholds=(overlap,))
        self.false_alarms = false_alarms

    def number(self, answers: Ranked) -> float:
        """Return the share."""
        counted = ~answers.ignored[0]
        right = answers.right[0][counted]
        allowed = np.cumsum(~right) <= self.false_alarms * float(self.state["pictures"])
        return 1.0 - float(right[allowed].sum()) / float(self.state["objects"].sum())


def average_precisions(answers: Ranked, objects: np.ndarray) -> np.ndarray:
    """Return the average precision at each threshold of each class that has objects, float64 `[t, classes]`.

    Args:
        answers: All answers, the surest first.
        objects: How many objects of each class there are, `[c]`.
    """
    columns = []
    for code in np.flatnonzero(objects):
        mine = answers.classes == code
        right, wrong = answers.right[:, mine], ~answers.right[:, mine] & ~answers.ignored[:, mine]
        hits, alarms = right.cumsum(axis=1, dtype=np.float64), wrong.cumsum(axis=1, dtype=np.float64)
        recall, precision = hits / objects[code], hits / (hits + alarms + _EPS)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.hstack([precision, np.zeros((len(precision), 1))])
        places = np.stack([np.searchsorted(row, _RECALLS, side="left") for row in recall])
        columns.append(np.take_along_axis(padded, places, axis=1).mean(axis=1))
    return np.stack(columns, axis=1)


def match(picture: _Picture, thresholds: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return which answers are right at each threshold, and which count for nothing as they lie in a crowd, bool `[t, k]` each.

    The surest answer chooses first, the free object of its class that it overlaps most; a crowd is taken by any number of answers, and only
    where nothing else is.

    Args:
        picture: Answers and objects.
        thresholds: Of overlap, `t`.
    """
    least = np.minimum(np.asarray(thresholds, dtype=np.float64), 1 - _EDGE)
    right = np.zeros((len(least), len(picture.scores)), dtype=bool)
    ignored = np.zeros_like(right)
    for code in np.unique(picture.classes):
        mine, objects = np.flatnonzero(picture.classes == code), np.flatnonzero(picture.labels == code)
        objects = objects[np.argsort(picture.crowd[objects], kind="stable")]
        if not len(objects):
            continue
        found = _overlaps(picture.boxes[mine], picture.objects[objects], picture.crowd[objects])
        single = ~picture.crowd[objects]
        free = np.ones((len(least), len(objects)), dtype=bool)
        for answer, overlap in zip(mine, found, strict=True):
            chosen, taken = _best(np.where(free & single & (overlap >= least[:, None]), overlap, -1.0))
            _, in_crowd = _best(np.where(~single & (overlap >= least[:, None]), overlap, -1.0))
            right[:, answer], ignored[:, answer] = taken, in_crowd & ~taken
            free[np.flatnonzero(taken), chosen[taken]] = False
    return right, ignored


def _best(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the last of the places with the largest value, and whether there is one at all."""
    places = values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)
    return places, values[np.arange(len(values)), places] >= 0


def _overlaps(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return intersections over unions, `[k, n]`; with a crowd over the answer's own area."""
    shared = intersections(boxes[:, None], objects)
    own, other = ((sides[:, 2:] - sides[:, :2]).prod(axis=1) for sides in (boxes, objects))
    union = np.where(crowd, own[:, None], own[:, None] + other - shared)
    return np.asarray(shared / np.maximum(union, _EPS))


def _pictures(found: Detections, truth: Tensor) -> list[_Picture]:
    boxes, scores = found.boxes.double().cpu().numpy(), found.scores.double().cpu().numpy()
    classes, kept = found.classes.cpu().numpy(), found.kept.cpu().numpy()
    objects = truth.double().cpu().numpy()
    there = ((objects[..., 2:4] - objects[..., :2]) > 0).all(axis=-1)
    return [
        _Picture(
            boxes[row][kept[row]],
            scores[row][kept[row]],
            classes[row][kept[row]],
            objects[row][there[row], :4],
            objects[row][there[row], 4].astype(np.int64),
            objects[row][there[row], 5] > 0,
        )
        for row in range(len(objects))
    ]

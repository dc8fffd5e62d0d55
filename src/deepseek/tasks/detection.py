"""Objects in pictures: a box and a class each.

Legend of shapes: `b` pictures · `p` places · `c` classes · `n` objects of a picture, padding included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.tasks.answers import answer_table
from deepseek.tasks.base import TARGET, MetricSpec, Task
from deepseek.tasks.box_answers import Selection
from deepseek.tasks.boxes import assign, complete_overlaps
from deepseek.tasks.detection_metrics import DetectionMetric, Matcher

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.tasks.answers import Decoded
    from deepseek.tasks.metrics import Metric

PLACE = 3
"""The last numbers of a place's features say where it is: `(x, y, stride)` in pixels of the picture."""
_PRIOR = 0.01
"""How likely a class is at a place before anything is learned (Lin et al. 2017): most places are empty."""
_LARGEST = 6.0
"""The logarithm of the largest box, in strides: what is drawn before anything is learned must not be infinite."""


class DetectionTask(Task):
    """Finds objects in pictures: at each place of a detector's grids a score for each class and a box.

    Training puts places to objects by how well they do (`tasks.boxes.assign`, TOOD). A score learns to be the overlap that its box has with
    its object, and 0 elsewhere, by binary cross-entropy that counts by how wrong it is (quality focal loss, Li et al. 2020,
    https://arxiv.org/abs/2006.04388); a box learns by its complete overlap (Zheng et al. 2020). A picture's losses are divided by how much
    its places answer for, and each picture counts by that, at least 1: pictures without objects teach too.

    The network's answers for all places are decoded in the graph; which of them are kept is decided behind it, by `least_score`,
    suppression of doubles and `most`, in the same way on every backend.

    Args:
        least_score: Answers below this score are not given, in [0, 1); metrics look at all from 0.001.
        overlap: Intersection over union, in (0, 1], from which two answers of one class are the same object.
        most: How many objects a picture may have.
        candidates: How many places may answer for an object in training.
        radius: Places within so many strides of an object's centre can answer for it too.
        score_power: How much a place's score counts in choosing those that answer for an object.
        overlap_power: How much its overlap counts.
        box_weight: How much boxes count beside scores.
        focus: How much less a score counts that is nearly right; 0 for plain cross-entropy.
        metrics: The metrics beside the loss and `map50`; the usual ones where not given.
    """

    kind = "boxes"
    takes = "places"
    monitor = "map50"
    usual_metrics = ("map50", "map", "box_recall")

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        target: TargetSpec,
        /,
        *,
        least_score: Annotated[float, Ge(0.0), Lt(1.0)] = 0.25,
        overlap: Annotated[float, Gt(0.0), Le(1.0)] = 0.6,
        most: Annotated[int, Ge(1), Le(1000)] = 100,
        candidates: Annotated[int, Ge(1)] = 13,
        radius: Annotated[float, Ge(0.0)] = 1.5,
        score_power: Annotated[float, Ge(0.0)] = 1.0,
        overlap_power: Annotated[float, Gt(0.0)] = 6.0,
        box_weight: Annotated[float, Gt(0.0)] = 2.5,
        focus: Annotated[float, Ge(0.0)] = 2.0,
        metrics: list[MetricSpec] | None = None,
    ) -> None:
        super().__init__(target)
        self.selection = Selection(least_score, overlap, most)
        self.candidates, self.radius, self.powers = candidates, radius, (score_power, overlap_power)
        self.box_weight, self.focus = box_weight, focus
        self._metrics = self.usual_metrics if metrics is None else metrics

    @property
    def outputs(self) -> int:
        """Four numbers of the box, a score for each class, and where the place is."""
        return 4 + len(self.target.classes) + PLACE

    def head(self, width: int, members: int = 1) -> nn.Module:
        """Return the decision layer: `[b, p, width]` to `[b, p, o]`."""
        return BoxHead(width, len(self.target.classes))

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a picture, `[b]`, for objects `[b, n, 6]`."""
        sums, counts = self._sums(out, target)
        return sums / counts

    def loss(self, out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the pictures' losses, each counting by what its places answer for, and the sum of these weights."""
        sums, counts = self._sums(out, batch.targets[TARGET])
        weight = torch.ones_like(counts) if batch.weight is None else batch.weight
        return (sums * weight).sum(), (counts * weight).sum()

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `box`, float32 `[b, p, 4]`, edges as parts of the picture's width and height, and `score`, `[b, p, c]`.

        Boxes are cut at the picture's border.
        """
        out = out.float()
        height, width = self.target.shape[:2]
        size = torch.tensor([width, height], dtype=out.dtype, device=out.device)
        box = placed_boxes(out, most=size) / size.repeat(2)
        return {"box": box.clamp(0.0, 1.0), "score": out[..., 4:-PLACE].sigmoid()}

    def answer(self, decoded: Mapping[str, Decoded]) -> pa.Table:
        """Return `prediction`: a list of structs `left, top, right, bottom, label, score` a picture, the surest first."""
        return answer_table(self.target, decoded, selection=self.selection)

    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics, which share the work of matching answers to objects."""
        made = super().metrics()
        matcher = Matcher(self.target, overlap=self.selection.overlap, most=self.selection.most)
        for metric in made.values():
            if isinstance(metric, DetectionMetric):
                metric.matcher = matcher
        return made

    def _sums(self, out: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return each picture's summed loss and what its places answer for, at least 1, `[b]` each."""
        out = out.float()
        boxes, logits, places = placed_boxes(out), out[..., 4:-PLACE], out[..., -PLACE:].detach()
        with torch.no_grad():
            scores = logits.sigmoid()
            found = assign(boxes, scores, places, truth=truth, most=self.candidates, radius=self.radius, powers=self.powers)
            label = truth[..., 4].long().gather(1, found.which)
            wanted = functional.one_hot(label, logits.shape[-1]) * found.quality[..., None]
            asked = 1.0 - (found.ignored & (found.quality == 0)).to(out.dtype)[..., None]
        wrong = (wanted - logits.sigmoid()).abs().pow(self.focus) if self.focus else torch.ones_like(logits)
        scored = (functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * wrong * asked).sum(dim=(1, 2))
        objects = truth[..., :4].gather(1, found.which[..., None].expand(-1, -1, 4))
        placed = ((1.0 - complete_overlaps(boxes, objects)) * found.quality).sum(dim=1)
        return scored + self.box_weight * placed, found.quality.sum(dim=1).clamp(min=1.0)


class BoxHead(nn.Module):
    """The decision layer of a detector: scores from one half of a place's features, the box from the other, its place as it is.

    Args:
        width: The features of a place, the last three being where it is.
        classes: `c`.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cut = (width - PLACE + 1) // 2
        self.scores = nn.Linear(self.cut, classes)
        self.boxes = nn.Linear(width - PLACE - self.cut, 4)
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.constant_(self.scores.bias, -math.log((1 - _PRIOR) / _PRIOR))
        nn.init.normal_(self.boxes.weight, std=0.01)
        nn.init.zeros_(self.boxes.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, p, width]` to `[b, p, 4 + c + 3]`."""
        scores, boxes = self.scores(x[..., : self.cut]), self.boxes(x[..., self.cut : -PLACE])
        return torch.cat([boxes, scores, x[..., -PLACE:]], dim=-1)


def placed_boxes(out: Tensor, *, most: Tensor | None = None) -> Tensor:
    """Return the boxes that places say, in pixels, `[b, p, 4]`: a centre so many strides from the place, sides as powers of e in strides.

    Args:
        out: `[b, p, o]`, float32.
        most: Half of a box is at most so wide and high, `[2]`: what nobody has taught anything may be of any size, and beyond the picture
            another runtime's rounding would be told of.
    """
    stride, centre = out[..., -1:].detach(), out[..., -PLACE:-1].detach()
    middle = centre + out[..., :2] * stride
    half = out[..., 2:4].clamp(max=_LARGEST).exp() * stride / 2
    if most is not None:
        half = half.minimum(most)
    return torch.cat([middle - half, middle + half], dim=-1)

"""Boxes in PyTorch: how far they overlap, how a detector's places are put to objects, and which of many answers is kept.

Legend of shapes: `b` pictures · `n` objects of a picture, padding included · `p` places · `c` classes · `k` candidates. A box is left, top,
right and bottom.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_TINY = 1e-9
CANDIDATES = 1000
"""So many of a picture's answers, the surest, are looked at for doubles."""


class Assigned(NamedTuple):
    """Which place answers for which object.

    Attributes:
        which: The object's place among those of its picture, int64 `[b, p]`; 0 where there is none.
        quality: How well the place does for it, between 0 and 1, `[b, p]`; 0 where it answers for none.
        ignored: Places in a crowd, of which nothing is asked, bool `[b, p]`.
    """

    which: Tensor
    quality: Tensor
    ignored: Tensor


class Detections(NamedTuple):
    """What is kept of a batch's answers, the surest first.

    Attributes:
        boxes: `[b, k, 4]`.
        scores: `[b, k]`.
        classes: int64 `[b, k]`.
        kept: Which of them there are, bool `[b, k]`.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    kept: Tensor


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Return the intersection of boxes over their union, in [0, 1], of shapes that broadcast: `[…, 4]` and `[…, 4]` to `[…]`.

    Example:
        >>> overlaps(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 3.0, 2.0]))
        tensor(0.3333)
    """
    shared, union = _shared(one, other)
    return shared / union.clamp(min=_TINY)


def complete_overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Return the complete overlap (CIoU) of boxes, in (-1.5, 1]: that over the union, less for centres apart and other proportions.

    Source: Zheng et al., "Distance-IoU loss", AAAI 2020, https://arxiv.org/abs/1911.08287; it falls where boxes do not touch, as the
    generalised overlap of Rezatofighi et al., CVPR 2019, https://arxiv.org/abs/1902.09630, does, and by their distance.

    Args:
        one: The boxes that learn, `[…, 4]`.
        other: Those they are to become, `[…, 4]`.
    """
    plain = overlaps(one, other)
    hull = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    apart = (one[..., :2] + one[..., 2:] - other[..., :2] - other[..., 2:]) / 2
    distance = (apart**2).sum(dim=-1) / (hull**2).sum(dim=-1).clamp(min=_TINY)
    size, wanted = (one[..., 2:] - one[..., :2]).clamp(min=_TINY), (other[..., 2:] - other[..., :2]).clamp(min=_TINY)
    shape = (4 / math.pi**2) * (torch.atan(wanted[..., 0] / wanted[..., 1]) - torch.atan(size[..., 0] / size[..., 1])) ** 2
    weight = (shape / (1 - plain + shape).clamp(min=_TINY)).detach()
    return plain - distance - weight * shape


def assign(
    boxes: Tensor, scores: Tensor, places: Tensor, *, truth: Tensor, most: int, radius: float, powers: tuple[float, float]
) -> Assigned:
    """Put places to objects by how well they already do for them, for all pictures of a batch at once.

    A place can answer for an object if its centre is in the object's box, or within `radius` strides of the box's centre, so that objects
    smaller than a stride have some. Of these the `most` that do best by `score^a · overlap^b` answer for it; one that is chosen by several
    objects stays with the one it overlaps most. Each answers for as good as it is: the best place of an object is asked for its overlap,
    the others in proportion.

    Source: Feng et al., "TOOD: Task-aligned one-stage object detection", ICCV 2021, https://arxiv.org/abs/2108.07755; the radius is that of
    Ge et al., "YOLOX", 2021, https://arxiv.org/abs/2107.08430.

    Args:
        boxes: The places' boxes, in the units of the places, `[b, p, 4]`; no gradient goes through.
        scores: Their scores, in [0, 1], `[b, p, c]`.
        places: Their centres and strides `(x, y, stride)`, `[b, p, 3]`.
        truth: The objects: box, class and whether a crowd, `[b, n, 6]`; those without width are padding.
        most: How many places an object may have.
        radius: In strides.
        powers: `a` and `b`.
    """
    edges, label, crowd = truth[..., None, :4], truth[..., 4].long(), truth[..., 5] > 0
    real = ((truth[..., 2:4] - truth[..., :2]) > 0).all(dim=-1)
    centres, stride = places[:, None, :, :2], places[:, None, :, 2]
    inside = ((centres > edges[..., :2]) & (centres < edges[..., 2:])).all(dim=-1)
    near = ((centres - (edges[..., :2] + edges[..., 2:]) / 2).abs() < radius * stride[..., None]).all(dim=-1)
    overlap = overlaps(boxes[:, None], edges)
    score = scores.transpose(1, 2).gather(1, label[..., None].expand(-1, -1, scores.shape[1]))
    fit = score.pow(powers[0]) * overlap.pow(powers[1]) * ((inside | near) & (real & ~crowd)[..., None])
    least = fit.topk(min(most, fit.shape[2]), dim=2).values[..., -1:]
    chosen = (fit >= least) & (fit > 0)
    which = torch.where(chosen, overlap, -1.0).argmax(dim=1)
    chosen = chosen & (which[:, None] == torch.arange(truth.shape[1], device=which.device)[:, None])
    fit = torch.where(chosen, fit, 0.0)
    best = torch.where(chosen, overlap, 0.0).amax(dim=2, keepdim=True)
    quality = fit / fit.amax(dim=2, keepdim=True).clamp(min=torch.finfo(fit.dtype).tiny) * best
    return Assigned(which, quality.amax(dim=1), (inside & (real & crowd)[..., None]).any(dim=1))


@torch.no_grad()
def suppress(boxes: Tensor, scores: Tensor, *, least: float, overlap: float, most: int) -> Detections:
    """Keep of answers that overlap and say the same class the surest: greedy suppression, for many pictures at once.

    The surest answer of each picture is kept, those of its class that overlap it go, and so on with what is left, `most` turns at most: a
    turn looks at each candidate once, where a matrix of all their overlaps would be a thousand times as much for a few dozen that stay.

    Args:
        boxes: `[b, p, 4]`.
        scores: `[b, p, c]`; a place may answer several classes.
        least: Answers below this score are none.
        overlap: Intersection over union from which two are the same object.
        most: How many a picture keeps.
    """
    classes, flat = scores.shape[2], scores.flatten(1)
    found, order = flat.topk(min(CANDIDATES, flat.shape[1]), dim=1)
    which, label = order // classes, order % classes
    chosen = boxes.gather(1, which[..., None].expand(-1, -1, 4))
    left, rows = found >= least, torch.arange(len(boxes), device=boxes.device)
    places, kept = order.new_zeros(len(boxes), min(most, found.shape[1])), left.new_zeros(len(boxes), min(most, found.shape[1]))
    for turn in range(places.shape[1]):
        place = left.to(torch.uint8).argmax(dim=1)  # the first of those left: they are in the order of their scores
        kept[:, turn], places[:, turn] = left[rows, place], place
        if not kept[:, turn].any():
            break
        doubles = (overlaps(chosen, chosen[rows, place, None]) > overlap) & (label == label[rows, place, None])
        left &= ~doubles
        left[rows, place] = False
    return Detections(chosen.gather(1, places[..., None].expand(-1, -1, 4)), found.gather(1, places), label.gather(1, places), kept)


def _shared(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    inner = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(min=0)
    shared = inner[..., 0] * inner[..., 1]
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (one, other)]
    return shared, areas[0] + areas[1] - shared

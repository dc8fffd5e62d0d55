"""How right masks are. Places whose class is not known count in none of these.

Legend of shapes: `b` rows · `k` classes · `*space` height and width, or depth, height and width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepseek.data.targets import TargetSpec
from deepseek.data.targets.mask import IGNORED
from deepseek.tasks.metrics import Metric


class Dice(Metric):
    """The Dice coefficient `2 |A ∩ B| / (|A| + |B|)` of each class in each picture, averaged over pictures, then over classes.

    A picture in which a class is neither there nor answered says nothing of that class and is left out of its mean; one in which it is
    answered and not there counts 0. The first class, the background, has no part in the mean over classes unless it is asked for. Source:
    Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945, https://doi.org/10.2307/1932409.

    Args:
        background: Whether the first class counts as well.
    """

    kinds = ("mask",)

    def __init__(self, target: TargetSpec, /, *, background: bool = False) -> None:
        super().__init__(target)
        self._first = 0 if background else 1
        self._begin(sums=(len(target.classes),), weights=(len(target.classes),))

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add pictures."""
        both, answered, true = counts_of(decoded["probability"], target)
        total = answered + true
        defined = (total > 0).double() * weight[:, None]
        self.state["sums"] = self.state["sums"] + (2 * both / total.clamp(min=1) * defined).sum(dim=0)
        self.state["weights"] = self.state["weights"] + defined.sum(dim=0)

    def compute(self) -> float:
        """Return the mean over the classes that any picture says something of."""
        return float(self._by_class()[self._first :].nanmean()) if not self._is_broken() else float("nan")

    def by_column(self) -> dict[str, float]:
        """Return each class's mean over pictures by its name."""
        return dict(list(zip(self.target.classes, self._by_class().tolist(), strict=True))[self._first :])

    def _by_class(self) -> Tensor:
        return self.state["sums"] / self.state["weights"]  # 0 / 0 is NaN: nothing is known of such a class

    def _is_broken(self) -> bool:
        return bool(self.state["sums"].isnan().any())


class IntersectionOverUnion(Metric):
    """The places where answer and truth agree on a class, of those where either says it.

    Places of all pictures are counted together, and classes then averaged. Classes that stand in no mask and no answer are left out of the
    mean. Source: Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 88, 2010,
    https://doi.org/10.1007/s11263-009-0275-4.

    Args:
        background: Whether the first class counts as well.
    """

    kinds = ("mask",)

    def __init__(self, target: TargetSpec, /, *, background: bool = True) -> None:
        super().__init__(target)
        self._first = 0 if background else 1
        self._begin(both=(len(target.classes),), either=(len(target.classes),))

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add pictures."""
        both, answered, true = counts_of(decoded["probability"], target)
        self.state["both"] = self.state["both"] + (both * weight[:, None]).sum(dim=0)
        self.state["either"] = self.state["either"] + ((answered + true - both) * weight[:, None]).sum(dim=0)

    def compute(self) -> float:
        """Return the mean over classes."""
        quotient = (self.state["both"] / self.state["either"])[self._first :]
        return float(quotient.nanmean()) if not self.state["both"].isnan().any() else float("nan")

    def by_column(self) -> dict[str, float]:
        """Return each class's own by its name."""
        values = (self.state["both"] / self.state["either"]).tolist()
        return dict(list(zip(self.target.classes, values, strict=True))[self._first :])


class PixelAccuracy(Metric):
    """The share of places whose likeliest class is the true one; where the background is large, it is high for any answer."""

    kinds = ("mask",)

    def __init__(self, target: TargetSpec, /) -> None:
        super().__init__(target)
        self._begin(right=(), places=())

    def observe(self, decoded: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> None:
        """Add pictures."""
        known = target != IGNORED
        right = (decoded["probability"].argmax(dim=1) == target) & known
        self.state["right"] = self.state["right"] + (right.flatten(1).sum(dim=1) * weight).sum()
        self.state["places"] = self.state["places"] + (known.flatten(1).sum(dim=1) * weight).sum()

    def compute(self) -> float:
        """Return the share."""
        return float(self.state["right"] / self.state["places"])


def counts_of(probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many known places of each row have a class in answer and truth, in the answer, and in truth; float64 `[b, k]` each.

    Args:
        probability: `[b, k, *space]`; the likeliest class is the answer.
        target: Codes, uint8 `[b, *space]`.
    """
    classes = probability.shape[1]
    known = (target != IGNORED).flatten(1)
    answer, truth = probability.argmax(dim=1).flatten(1), target.flatten(1)
    found = []
    for code in range(classes):
        said, true = (answer == code) & known, truth == code
        found.append(torch.stack([(said & true).sum(dim=1), said.sum(dim=1), true.sum(dim=1)]))
    both, answered, is_true = torch.stack(found, dim=-1).double().unbind()
    return both, answered, is_true

"""Losses of masks that look at a whole picture.

Legend of shapes: `b` rows · `o` classes · `*space` height and width, or depth, height and width.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional

from deepseek.data.targets import TargetSpec
from deepseek.data.targets.mask import IGNORED
from deepseek.tasks.losses import CrossEntropyLoss, Loss, widened


class DiceLoss(Loss):
    """One less the soft Dice coefficient, of each class in each row by itself: `1 - (2 Σ p·g + s) / (Σ p + Σ g + s)`.

    `p` is what the softmax gives the class at a place, `g` is 1 where it is the true one. A small class counts as much as a large one,
    which cross-entropy over places leaves to the background. Source: Milletari, Navab and Ahmadi, "V-Net: Fully Convolutional Neural
    Networks for Volumetric Medical Image Segmentation", 2016, https://arxiv.org/abs/1606.04797, with sums in the place of sums of squares.

    Args:
        background: Whether the first class counts as well.
        smooth: `s`: keeps the quotient defined for a class that is neither there nor guessed, above 0.
    """

    kinds = ("mask",)

    def __init__(self, target: TargetSpec, /, *, background: bool = False, smooth: Annotated[float, Gt(0.0)] = 1e-5) -> None:
        super().__init__(target)
        self.first, self.smooth = (0 if background else 1), smooth

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, classes]` for outputs `[b, o, *space]` and codes `[b, *space]`."""
        known = target != IGNORED
        wanted = functional.one_hot(target.long().masked_fill(~known, 0), out.shape[1]).movedim(-1, 1).to(out.dtype)
        counted = known.unsqueeze(1).to(out.dtype)
        likely, wanted = (out.softmax(dim=1) * counted).flatten(2)[:, self.first :], (wanted * counted).flatten(2)[:, self.first :]
        both = (likely * wanted).sum(dim=2)
        return 1 - (2 * both + self.smooth) / (likely.sum(dim=2) + wanted.sum(dim=2) + self.smooth)

    def rows(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`: the mean over the classes."""
        return self.terms(widened(out), target).mean(dim=1)


class DiceCrossEntropyLoss(Loss):
    """The sum of the Dice loss and cross-entropy: the one sees small classes, the other has a steady slope where nothing is right yet.

    Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 18,
    2021, https://arxiv.org/abs/1904.08128.

    Args:
        background: Whether the first class counts in the Dice loss as well.
        smooth: As of the Dice loss, above 0.
        dice_weight: What the Dice loss counts, at least 0.
        cross_entropy_weight: What cross-entropy counts, at least 0.
    """

    kinds = ("mask",)

    def __init__(
        self,
        target: TargetSpec,
        /,
        *,
        background: bool = False,
        smooth: Annotated[float, Gt(0.0)] = 1e-5,
        dice_weight: Annotated[float, Ge(0.0)] = 1.0,
        cross_entropy_weight: Annotated[float, Ge(0.0)] = 1.0,
    ) -> None:
        super().__init__(target)
        self._dice = DiceLoss(target, background=background, smooth=smooth)
        self._cross_entropy = CrossEntropyLoss(target)
        self._weights = (dice_weight, cross_entropy_weight)

    def terms(self, out: Tensor, target: Tensor) -> Tensor:
        """Return `[b, 1]`: the losses of rows, which have no parts."""
        dice, entropy = self._weights
        return (dice * self._dice.rows(out, target) + entropy * self._cross_entropy.rows(out, target)).unsqueeze(1)

    def rows(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`."""
        return self.terms(widened(out), target).squeeze(1)

"""A class for each place of a picture or volume.

Legend of shapes: `b` rows · `w` width · `o` classes · `*space` height and width, or depth, height and width.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError
from deepseek.registry import family
from deepseek.tasks.base import LossSpec, MetricSpec, Task
from deepseek.tasks.losses import Loss, widened

_CONVOLUTION: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


class SegmentationTask(Task):
    """Says of each pixel or voxel which class it is of, by a softmax at each place.

    Answers are masks of the picture's own size, in the numbers of the training masks.

    Args:
        loss: The loss: `dice_cross_entropy`, `dice`, `cross_entropy`, `focal`.
        ignore: The number that stands for "not known" in the masks: such places are neither trained nor measured on. Nothing where every
            place has a class.
        metrics: The metrics beside the loss and `dice`; `iou` and `pixel_accuracy` where not given.

    Example:
        >>> import torch
        >>> from deepseek.data.batch import Batch
        >>> target = TargetSpec("mask", ("mask",), ("0", "255"), (8, 5), 8, shape=(4, 4))
        >>> task = SegmentationTask(target)
        >>> out = task.head(16)(torch.zeros(2, 16, 4, 4))
        >>> out.shape
        torch.Size([2, 2, 4, 4])
    """

    kind = "mask"
    takes = "map"
    monitor = "dice"
    usual_metrics = ("iou", "pixel_accuracy")
    target_settings = ("ignore",)

    def __init__(
        self,
        target: TargetSpec,
        /,
        *,
        loss: LossSpec = "dice_cross_entropy",
        ignore: Annotated[int, Ge(0)] | None = None,
        metrics: list[MetricSpec] | None = None,
    ) -> None:
        super().__init__(target)
        self.ignore = ignore
        self._loss: Loss = family("loss").build(loss, target)
        self._metrics = self.usual_metrics if metrics is None else metrics

    @property
    def outputs(self) -> int:
        """One for each class."""
        return len(self.target.classes)

    def head(self, width: int, members: int = 1) -> nn.Module:
        """Return the decision layer: a linear map at each place, `[b, width, *space]` to `[b, o, *space]`.

        Raises:
            InputError: The network has several members, which maps do not have.
        """
        if members > 1:
            raise InputError(f"a network of {members} members is to answer with masks", hint="maps have one member")
        return _CONVOLUTION[len(self.target.shape)](width, self.outputs, 1)

    def row_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return one loss a row, `[b]`, for `[b, o, *space]` and codes `[b, *space]`.

        Of several answers one behind the other, as deep supervision gives them, each counts half as much as the one before.
        """
        answers = torch.split(out, self.outputs, dim=1)
        if len(answers) == 1:
            return self._loss.rows(out, target)
        whole = 2.0 - 2.0 ** (1 - len(answers))
        losses = [self._loss.rows(answer, target) * (2.0**-place / whole) for place, answer in enumerate(answers)]
        return torch.stack(losses).sum(dim=0)

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `probability`, float32 `[b, o, *space]`."""
        return {"probability": widened(out).softmax(dim=1)}

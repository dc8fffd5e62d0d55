"""What all encoders of sound share: one ragged input of spectrograms, its mask, normalisation over what is real.

Legend of shapes: `b` rows · `t` frames of the longest sound · `f` mel bands · `c` channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.padding import mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder


class AudioEncoder(Encoder):
    """Turns one sound into one token, or into tokens over time where nothing is pooled.

    The sound comes as a spectrogram `[b, t, f]`, zeros behind each row's end, with `NAME_mask` `[b, t]`; its graph transform has made it of
    samples. What stands behind a row's end changes no number of its result. A row's first frame counts as real whatever the mask says, so
    that no row is empty.

    Args:
        inputs: One ragged input of kind `audio`, whose frames are `(f,)`.

    Raises:
        InputError: The input is no sound, or there is more than one.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        super().__init__(inputs)
        if len(inputs) != 1:
            raise InputError(f"an encoder of sound is given {len(inputs)} inputs: {', '.join(inputs)}", hint="it takes one")
        (spec,) = inputs.values()
        if spec.kind is not Kind.AUDIO or not spec.ragged or len(spec.shape) != 1:
            raise InputError(
                f"the input {spec.name!r} of kind {spec.kind.value!r} is no sound, or none in frames",
                hint="this encoder takes spectrograms",
            )
        self.input_name, self.mask_name, self.bands = spec.name, mask_name(spec.name), spec.shape[0]

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, width]`, or tokens over time where nothing is pooled."""
        x = inputs[self.input_name]
        given = inputs.get(self.mask_name)
        first = torch.arange(x.shape[1], device=x.device) == 0
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if given is None else given | first
        return self.encode(x.masked_fill(~mask.unsqueeze(-1), 0.0), mask)

    @abstractmethod
    def encode(self, x: Tensor, mask: Tensor) -> Encoded:
        """Return the tokens of spectrograms `[b, t, f]`, zero behind each row's end, with their mask `[b, t]`."""


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of maps `[b, c, t, f]` whose statistics are those of the real frames: padding has no part in them.

    In evaluation it is PyTorch's own, and so is folded into the convolution before it where a network is exported.

    Source: Ioffe and Szegedy, ICML 2015, https://arxiv.org/abs/1502.03167.

    Args:
        width: `c`.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise; of the mask `[b, t]` only training takes notice."""
        if not self.training or mask is None:
            return super().forward(x)
        values, real = x.float(), mask[:, None, :, None].float()
        count = real.sum() * x.shape[3]
        mean = (values * real).sum(dim=(0, 2, 3)) / count
        centred = values - mean[:, None, None]
        variance = (centred.square() * real).sum(dim=(0, 2, 3)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1.0))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        share = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)
        self.num_batches_tracked.add_(1)


def halved(mask: Tensor) -> Tensor:
    """Return the mask of frames taken in pairs, `[b, t]` to `[b, ceil(t / 2)]`: a pair is real where its first frame is."""
    # pooled as a map is: their lengths are then the same to whoever reasons about shapes
    paired = functional.max_pool2d(functional.pad(mask.float(), (0, 1))[:, None, :, None], (2, 1))
    return paired[:, 0, :, 0] > 0.5

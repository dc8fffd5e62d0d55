"""A compact convolutional network for spectrograms, quick on a CPU.

Legend of shapes: `b` rows · `t` frames · `f` mel bands · `c` channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded
from deepseek.models.encoders.audio import AudioEncoder, MaskedBatchNorm, halved
from deepseek.models.encoders.image import init_convolutions
from deepseek.models.encoders.text import Pooling, make_pooling, pooled
from deepseek.models.layers import Probability, Width


class AudioCnnEncoder(AudioEncoder):
    """A stem, then stages that halve bands and time and widen, some with residual blocks; then attention over the moments.

    It sees a spectrogram as a picture, as the networks of large-scale audio tagging do, and at each moment keeps the mean over what is left
    of the bands. Every convolution meets zeros behind a row's end, and batch statistics are those of real frames alone.

    Source: Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP 2017, https://arxiv.org/abs/1609.09430; Kong et
    al., "PANNs", 2020, https://arxiv.org/abs/1912.10211; attention over the moments as in Yang et al., NAACL 2016,
    https://aclanthology.org/N16-1174/.

    Args:
        channels: The channels of the stem and of each stage after it.
        blocks: The residual blocks of the stem and of each stage, as many numbers as `channels`.
        halve_time: How many of the stages halve the time; all halve the bands while there are two.
        pool: How the tokens over time become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of the result's values that are dropped, in [0, 1).

    Raises:
        InputError: `blocks` and `channels` differ in length.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        channels: Annotated[list[Width], MinLen(1)] = [24, 48, 96, 128],  # noqa: B006 - a recipe's default is read, never written to
        blocks: list[Annotated[int, Ge(0)]] = [0, 1, 0, 1],  # noqa: B006
        halve_time: Annotated[int, Ge(0)] = 2,
        pool: Pooling = "attention",
        dropout: Probability = 0.2,
    ) -> None:
        super().__init__(inputs)
        if len(blocks) != len(channels):
            raise InputError(
                f"blocks has {len(blocks)} numbers and channels {len(channels)}", hint="give one number of blocks for each stage"
            )
        bands, before = self.bands, 1
        self.stages = nn.ModuleList()
        for index, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            steps = (2 if 0 < index <= halve_time else 1, 2 if index and bands > 1 else 1)
            self.stages.append(_Stage(before, width, blocks=count, steps=steps))
            bands, before = bands // steps[1], width
        # behind all halving there are then two moments at least, which exporting asks for: one is a constant to it
        self.spare = 1 << min(halve_time, len(channels) - 1)
        self.pooling = make_pooling(channels[-1], pool)
        self.dropout = nn.Dropout(dropout)
        self.width = channels[-1]
        self.tokens = None if pool == "none" else 1
        init_convolutions(self)

    def encode(self, x: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or a token for each moment where nothing is pooled."""
        x, mask = functional.pad(x, (0, 0, 0, self.spare)).unsqueeze(1), functional.pad(mask, (0, self.spare))
        for stage in self.stages:
            x, mask = stage(x, mask)
        encoded = pooled(self.pooling, x.mean(dim=3).transpose(1, 2), mask)
        return Encoded(self.dropout(encoded.tokens), encoded.mask)


class _Stage(nn.Module):
    """Pooling in pairs, a convolution, residual blocks; zeros stay behind each row's end."""

    def __init__(self, before: int, width: int, *, blocks: int, steps: tuple[int, int]) -> None:
        super().__init__()
        self.steps = steps
        self.first = _Convolution(before, width)
        self.blocks = nn.ModuleList(_Residual(width) for _ in range(blocks))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[b, c, t, f]` and `[b, t]` to fewer frames and bands, and their mask."""
        time, band = self.steps
        if time > 1:  # one frame more, so that the last of an odd number is not lost
            x, mask = functional.pad(x, (0, 0, 0, 1)), halved(mask)
        if time > 1 or band > 1:
            x = functional.max_pool2d(x, self.steps)
        x = self.first(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        return x, mask


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _Convolution(width, width), _Convolution(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = x + self.second(self.first(x, mask), mask)
        return out


class _Convolution(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.normalization = MaskedBatchNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        convolved = self.convolution(x)
        # folded into the convolution it is an identity, which takes no mask
        normal = self.normalization(convolved, mask) if isinstance(self.normalization, MaskedBatchNorm) else self.normalization(convolved)
        return functional.relu(normal).masked_fill(~mask[:, None, :, None], 0.0)

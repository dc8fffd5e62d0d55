"""Series: measurements over time, `[b, t, c]`, disturbed as sensors and people disturb them.

Legend of shapes: `b` rows · `t` moments · `c` channels · `k` knots of a curve.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from deepseek.data.augment.affine import ordered
from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

Share = Annotated[float, Ge(0), Le(1)]
Deviation = Annotated[float, Ge(0), Le(1)]


class _Series(Augmentation):
    """What treats inputs that are series `[b, t, c]`, in floats, all of a row alike; a subclass says how in `change`."""

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: float) -> None:
        super().__init__(inputs)
        self.require("series", Kind.SERIES)
        ragged = [name for name in self.of_kind(Kind.SERIES) if inputs[name].ragged]
        if ragged:
            raise InputError(
                f"the rows of the series {', '.join(ragged)} are of unequal length, and {type(self).__name__} bends time for one length",
                hint="leave it out of data.augment",
            )
        self.probability = probability

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with some rows' series changed."""
        chosen = draw.uniform(len(batch)) < self.probability
        changed = {}
        for name in self.of_kind(Kind.SERIES):
            x = batch.inputs[name]
            changed[name] = torch.where(chosen.to(x.device)[:, None, None], self.change(x, draw), x)
        return self.replace(batch, changed)

    @abstractmethod
    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Return every series changed, in the same shape."""


class Jitter(_Series):
    """Adds white noise to a series, as a sensor does (Um et al. 2017, https://arxiv.org/abs/1706.00527).

    Args:
        inputs: The batch's inputs.
        std: The noise's standard deviation, as a share of each channel's own over the row.
        probability: How likely a row is changed.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, std: Deviation = 0.05, probability: Share = 0.5) -> None:
        super().__init__(inputs, probability=probability)
        self.std = std

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Return noisy series."""
        noise = draw.normal(len(x), *x.shape[1:]).to(x)
        spread = (x - x.mean(dim=1, keepdim=True)).square().mean(dim=1, keepdim=True).sqrt()
        return torch.addcmul(x, noise, spread, value=self.std)


class MagnitudeWarp(_Series):
    """Multiplies a series by a smooth random curve around 1, or by one factor (Um et al. 2017, https://arxiv.org/abs/1706.00527).

    Args:
        inputs: The batch's inputs.
        std: The standard deviation of the factors.
        knots: Through how many factors within the series the curve goes, a cubic spline; 0 for one factor a channel, which only scales it.
        probability: How likely a row is changed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        std: Deviation = 0.2,
        knots: Annotated[int, Ge(0), Le(64)] = 4,
        probability: Share = 0.5,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.std, self.knots = std, knots

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Return scaled series, each channel by a curve of its own."""
        count = self.knots + 2 if self.knots else 1
        factors = 1 + self.std * draw.normal(len(x), count, x.shape[2]).double()
        return x * (smooth(factors, x.shape[1]) if self.knots else factors).to(x)


class TimeWarp(_Series):
    """Lets time run faster here and slower there, along a smooth random curve (Um et al. 2017, https://arxiv.org/abs/1706.00527).

    Args:
        inputs: The batch's inputs.
        std: The standard deviation of the logarithm of the speed at the knots.
        knots: Through how many speeds within the series the curve goes.
        probability: How likely a row is changed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        std: Deviation = 0.2,
        knots: Annotated[int, Ge(1), Le(64)] = 4,
        probability: Share = 0.5,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.std, self.knots = std, knots

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Return series read at other moments: the first and the last stay, and none comes before an earlier one."""
        steps = x.shape[1]
        speed = smooth(self.std * draw.normal(len(x), self.knots + 2, 1).double(), steps)[..., 0].exp()
        passed = torch.cat([speed.new_zeros(len(x), 1), ((speed[:, 1:] + speed[:, :-1]) / 2).cumsum(dim=1)], dim=1)
        return read_at(x, passed / passed[:, -1:].clamp(min=1e-12) * (steps - 1))


class WindowSlice(_Series):
    """Shows a random part of a series, stretched over the whole (Le Guennec et al. 2016, https://hal.science/hal-01357973).

    Args:
        inputs: The batch's inputs.
        fraction: The share of the series that is shown.
        probability: How likely a row is changed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        fraction: Annotated[float, Gt(0), Le(1)] = 0.9,
        probability: Share = 0.5,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.fraction = fraction

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Return the parts, by linear interpolation."""
        last = x.shape[1] - 1
        start = draw.uniform(len(x)).double()[:, None] * (1 - self.fraction) * last
        return read_at(x, start + torch.arange(x.shape[1], dtype=torch.float64) * self.fraction)


class WindowWarp(_Series):
    """Stretches or squeezes a random window of a series (Le Guennec et al. 2016, https://hal.science/hal-01357973).

    Args:
        inputs: The batch's inputs.
        fraction: The window's share of the series.
        factors: By how much the window is made shorter or longer: the one or the other, as likely; the rest makes room.
        probability: How likely a row is changed.

    Raises:
        InputError: The larger factor comes first.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        fraction: Annotated[float, Gt(0), Le(1)] = 0.1,
        factors: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.5, 2.0),
        probability: Share = 0.5,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.fraction, self.factors = fraction, ordered("factors", factors)

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Return warped series of the same length."""
        last = x.shape[1] - 1
        start, which = draw.uniform(len(x), 2).double()[..., None].unbind(1)
        width = self.fraction * last
        start = start * (last - width)
        factor = torch.where(which < 0.5, *self.factors)
        # as a longer series the window would end at start + width * factor; the whole is then squeezed back to its length
        place = torch.arange(x.shape[1], dtype=torch.float64) * (last + width * (factor - 1)) / max(last, 1)
        inside, behind = start + (place - start) / factor, place - width * (factor - 1)
        return read_at(x, torch.where(place < start, place, torch.where(place < start + width * factor, inside, behind)))


class Permute(_Series):
    """Cuts a series into parts and shuffles them, for where the order of stretches means little (Um et al. 2017, https://arxiv.org/abs/1706.00527).

    Args:
        inputs: The batch's inputs.
        parts: How many parts, all of the same length but for one sample.
        probability: How likely a row is changed.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, parts: Annotated[int, Ge(2), Le(64)] = 4, probability: Share = 0.5) -> None:
        super().__init__(inputs, probability=probability)
        self.parts = parts

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """Return the parts in another order."""
        steps = x.shape[1]
        place = torch.arange(steps)
        part = place * self.parts // steps
        rank = draw.uniform(len(x), self.parts).argsort(dim=1)
        order = (rank[:, part] * steps + place).argsort(dim=1).to(x.device)
        return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


def smooth(knots: Tensor, steps: int) -> Tensor:
    """Return a natural cubic spline through values at even distances, float64 `[b, steps, c]`.

    Args:
        knots: The values, the first and the last at the ends, float64 `[b, k, c]`, at least two.
        steps: At how many places it is read, evenly.
    """
    count = knots.shape[1]
    # second derivatives of the natural spline: a small system that is the same for every curve
    system = 4 * torch.eye(count, dtype=torch.float64) + torch.diag(torch.ones(count - 1), 1) + torch.diag(torch.ones(count - 1), -1)
    system[0], system[-1] = torch.eye(count, dtype=torch.float64)[[0, -1]]
    bend = torch.zeros_like(knots)
    bend[:, 1:-1] = 6 * (knots[:, 2:] - 2 * knots[:, 1:-1] + knots[:, :-2])
    curve = torch.linalg.solve(system, bend)
    place = torch.linspace(0, count - 1, steps, dtype=torch.float64)
    left = place.long().clamp(max=count - 2)
    behind = (place - left)[:, None]
    ahead = 1 - behind
    straight = ahead * knots[:, left] + behind * knots[:, left + 1]
    made: Tensor = straight + ((ahead**3 - ahead) * curve[:, left] + (behind**3 - behind) * curve[:, left + 1]) / 6
    return made


def read_at(x: Tensor, place: Tensor) -> Tensor:
    """Return series at moments between the given ones, by linear interpolation, `[b, s, c]`.

    Args:
        x: `[b, t, c]`.
        place: float64 `[b, s]`, from 0 to `t - 1`; what lies outside is the nearest end.
    """
    place = place.to(x.device).clamp(0, x.shape[1] - 1)
    left = place.floor().long().clamp(max=max(x.shape[1] - 2, 0))
    right = (left + 1).clamp(max=x.shape[1] - 1)
    share = (place - left).to(x.dtype)[..., None]
    channels = x.shape[2]
    return torch.lerp(x.gather(1, left[..., None].expand(-1, -1, channels)), x.gather(1, right[..., None].expand(-1, -1, channels)), share)

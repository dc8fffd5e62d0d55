"""The building blocks of the Temporal Fusion Transformer: gates, gated residuals, selection of variables, attention that can be read.

Lim et al., "Temporal Fusion Transformers for interpretable multi-horizon time series forecasting", 2021, https://arxiv.org/abs/1912.09363.

Legend of shapes: `b` windows · `l` steps · `w` width · `v` variables.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deepseek.models.layers import split_heads


class GatedLinearUnit(nn.Module):
    """Lets a share of each value through: `(W x + b) · sigmoid(V x + c)` (Dauphin et al. 2017, https://arxiv.org/abs/1612.08083).

    Args:
        width_in: The width of what comes in.
        width: `w` of what goes out.
        dropout: The share of incoming values that is dropped while training.

    Shape:
        `[…, width_in]` to `[…, w]`.
    """

    def __init__(self, width_in: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.both = nn.Linear(width_in, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what passes the gate."""
        value, gate = self.both(self.dropout(x)).chunk(2, dim=-1)
        passed: Tensor = value * gate.sigmoid()
        return passed


class GatedSkip(nn.Module):
    """Adds what passes a gate to what went around it, and normalises: a layer that is of no use can be closed.

    Args:
        width: `w`.
        dropout: The share of values that is dropped before the gate while training.

    Shape:
        `[…, w]` twice to `[…, w]`.
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.gate = GatedLinearUnit(width, width, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, around: Tensor) -> Tensor:
        """Return the normalised sum."""
        out: Tensor = self.norm(around + self.gate(x))
        return out


class GatedResidual(nn.Module):
    """A gated residual network: as much of a nonlinear map as is of use, beside the input itself (section 4.1 of the paper).

    Args:
        width_in: The width of what comes in.
        width: `w` of what goes out; where it is another, the input goes around through a linear map.
        context: The width of a context that has a say; nothing where there is none.
        hidden: The width inside; `width` where not given.
        dropout: The share of values that is dropped before the gate while training.

    Shape:
        `[…, width_in]` and a context `[…, context]` to `[…, w]`.
    """

    def __init__(self, width_in: int, width: int, *, context: int | None = None, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        inside = hidden or width
        self.first = nn.Linear(width_in, inside)
        self.context = nn.Linear(context, inside, bias=False) if context else None
        self.second = nn.Linear(inside, inside)
        self.gate = GatedLinearUnit(inside, width, dropout)
        self.norm = nn.LayerNorm(width)
        self.around = nn.Linear(width_in, width) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the gated residual."""
        inner = self.first(x)
        if self.context is not None and context is not None:
            inner = inner + self.context(context)
        out: Tensor = self.norm(self.around(x) + self.gate(self.second(nn.functional.elu(inner))))
        return out


class VariableSelection(nn.Module):
    """Weighs variables by what they are worth here and now (section 4.2 of the paper).

    Args:
        count: `v`, 1 or more.
        width: `w`.
        context: The width of the context that has a say; nothing where there is none.
        dropout: The share of values that is dropped before each gate while training.

    Shape:
        `[…, v, w]` to `[…, w]` and the weights `[…, v]`.
    """

    def __init__(self, count: int, width: int, *, context: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.weigh = GatedResidual(count * width, count, context=context, hidden=width, dropout=dropout) if count > 1 else None
        self.each = nn.ModuleList(GatedResidual(width, width, dropout=dropout) for _ in range(count))

    def forward(self, variables: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the variables, each through a network of its own, and the weights, which sum to 1."""
        made = torch.stack([network(variables[..., place, :]) for place, network in enumerate(self.each)], dim=-2)
        if self.weigh is None:
            return made.squeeze(-2), torch.ones_like(made[..., 0])
        weights = self.weigh(variables.flatten(-2), context).softmax(dim=-1)
        return (made * weights.unsqueeze(-1)).sum(dim=-2), weights


class ReadableAttention(nn.Module):
    """Attention whose heads share their values, so that the mean of their weights says what was looked at (section 4.4 of the paper).

    Args:
        width: `w`, a multiple of `heads`.
        heads: How many heads attend side by side.
        dropout: The share of each head's result that is dropped while training.

    Shape:
        Queries `[b, h, w]` and steps `[b, l, w]` to `[b, h, w]` and the weights `[b, h, l]`.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query = nn.Linear(width, heads * self.size)
        self.key = nn.Linear(width, heads * self.size)
        self.value = nn.Linear(width, self.size)
        self.out = nn.Linear(self.size, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, steps: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each query finds, and the mean of the heads' weights.

        Args:
            queries: `[b, h, w]`.
            steps: `[b, l, w]`.
            hidden: Boolean `[h, l]`: true where a query must not look.
        """
        asked = split_heads(self.query(queries), self.heads)
        known = split_heads(self.key(steps), self.heads)
        scores = asked @ known.transpose(-1, -2) / math.sqrt(self.size)
        weights = scores.float().masked_fill(hidden, -torch.inf).softmax(dim=-1).to(scores.dtype)
        found = self.dropout(weights @ self.value(steps).unsqueeze(1)).mean(dim=1)
        out: Tensor = self.out(found)
        return out, weights.mean(dim=1)

"""An LSTM layer that begins in a given state: PyTorch's kernel where it runs, one operator where it is exported.

Legend of shapes: `b` rows · `l` steps · `w` width in · `h` width of the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def run_from(layer: nn.LSTM, x: Tensor, *, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states `[b, l, h]` of one layer over `[b, l, w]`, and the cell `[b, h]` behind the last step.

    Args:
        layer: One layer, one direction, batch first.
        x: The steps, at least one.
        hidden: The state before the first step, `[b, h]`.
        cell: The cell before the first step, `[b, h]`.
    """
    if torch.compiler.is_exporting():
        weight_in, weight, bias_in, bias = layer.parameters()  # in PyTorch's documented order
        exported: tuple[Tensor, Tensor] = lstm_from(x, hidden, cell, weight_in, weight, bias_in, bias)
        return exported
    states, (_, last) = layer(x, (hidden.unsqueeze(0), cell.unsqueeze(0)))
    return states, last.squeeze(0)


@torch.library.custom_op("deepseek::lstm_from", mutates_args=())
def lstm_from(
    x: Tensor, hidden: Tensor, cell: Tensor, weight_in: Tensor, weight: Tensor, bias_in: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the states `[b, l, h]` of an LSTM over `[b, l, w]`, and its last cell `[b, h]`: what exported programs hold.

    Args:
        x: `[b, l, w]`.
        hidden: `[b, h]`.
        cell: `[b, h]`.
        weight_in: `[4h, w]`, the gates in PyTorch's order.
        weight: `[4h, h]`.
        bias_in: `[4h]`.
        bias: `[4h]`.
    """
    parameters = [weight_in, weight, bias_in, bias]
    states, _, last = torch.lstm(x, [hidden.unsqueeze(0), cell.unsqueeze(0)], parameters, True, 1, 0.0, False, False, True)
    return states.contiguous(), last.squeeze(0).contiguous()


@lstm_from.register_fake
def _(
    x: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weight_in: Tensor,  # noqa: ARG001 - as the operator is called
    weight: Tensor,  # noqa: ARG001
    bias_in: Tensor,  # noqa: ARG001
    bias: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], x.shape[1], hidden.shape[1]), torch.empty_like(cell)

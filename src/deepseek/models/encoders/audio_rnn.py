"""Deep residual LSTMs for sound: recurrent layers whose shortcuts pass through the output gate.

Legend of shapes: `b` rows · `t` frames or steps · `f` mel bands · `w` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.models.base import Encoded
from deepseek.models.encoders.audio import AudioEncoder
from deepseek.models.encoders.text import Pooling, make_pooling, pooled
from deepseek.models.layers import Depth, Probability, Width


class AudioRnnEncoder(AudioEncoder):
    """Layers of residual LSTM over a spectrogram's frames, then attention over what they say at each moment.

    A layer's shortcut, its own input, is added to its projected cell before the output gate: gradients reach deep layers by a way of their
    own in space, while the highway through time stays the cell's. It reads forward only, so that what lies behind a row's end is never read
    before it.

    Source: Kim, El-Khamy and Lee, "Residual LSTM: Design of a Deep Recurrent Architecture for Distant Speech Recognition", 2017,
    https://arxiv.org/abs/1701.03360; frames taken together, Sak et al., Interspeech 2015, https://arxiv.org/abs/1507.06947; normalised
    gates, Ba, Kiros and Hinton, 2016, https://arxiv.org/abs/1607.06450.

    Args:
        width: The width of every layer and of the result.
        depth: How many layers.
        residual: Whether layers have shortcuts; without, each is an LSTM with peepholes.
        layer_norm: Whether gates and cells are normalised.
        stride: How many frames are read at each step; the steps are as many times fewer.
        pool: How the tokens over time become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind every layer and behind the pooling, in [0, 1).
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        width: Width = 128,
        depth: Depth = 3,
        residual: bool = True,
        layer_norm: bool = True,
        stride: Annotated[int, Ge(1)] = 2,
        pool: Pooling = "attention",
        dropout: Probability = 0.2,
    ) -> None:
        super().__init__(inputs)
        self.stride = stride
        self.read = nn.Conv1d(self.bands, width, stride, stride)
        self.layers = nn.ModuleList(ResidualLstm(width, residual=residual, layer_norm=layer_norm) for _ in range(depth))
        self.pooling = make_pooling(width, pool)
        self.dropout = nn.Dropout(dropout)
        self.width = width
        self.tokens = None if pool == "none" else 1

    def encode(self, x: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or a token for each step where nothing is pooled."""
        # a step to spare: there are then two at least, which exporting asks for, as one is a constant to it
        frames = functional.pad(x.transpose(1, 2), (0, 2 * self.stride - 1))
        mask = functional.pad(mask, (0, self.stride))
        states = self.read(frames).transpose(1, 2)
        tap = x.new_ones(1, 1, 1)
        steps = functional.conv1d(mask.to(x.dtype).unsqueeze(1), tap, stride=self.stride).squeeze(1) > 0.5
        for layer in self.layers[:-1]:
            states = self.dropout(layer(states))
        encoded = pooled(self.pooling, self.layers[-1](states), steps)
        return Encoded(self.dropout(encoded.tokens), encoded.mask)


class ResidualLstm(nn.Module):
    """One layer of LSTM with peepholes, and with a shortcut behind the cell.

    With input `x`, state `h` and cell `c`, of which `i`, `f`, `o` are the gates: `c' = f c + i tanh(W x + U h + b)`, and
    `h' = o (P tanh(c') + x)`; without a shortcut `h' = o tanh(c')`.

    Two gates begin open. That of the cell does so that early steps are not forgotten at once (Jozefowicz et al., 2015,
    https://proceedings.mlr.press/v37/jozefowicz15.html). With a shortcut that of the output does, too, as each layer would halve what the
    shortcut carries, and ten layers leave a thousandth of it (compare the carry gates of Srivastava et al., 2015,
    https://arxiv.org/abs/1505.00387). Their biases stand behind the normalisation, which would spread one gate's bias over all.

    Args:
        width: `w`, of inputs and states alike: so the shortcut needs no weights.
        residual: Whether there is a shortcut.
        layer_norm: Whether what goes into the gates, and the cell, are normalised.
    """

    def __init__(self, width: int, *, residual: bool, layer_norm: bool) -> None:
        super().__init__()
        self.residual = residual
        self.given = nn.Linear(width, 4 * width)
        self.carried = nn.Linear(width, 4 * width, bias=False)
        self.peep_into, self.peep_keep, self.peep_out = (nn.Parameter(torch.zeros(width)) for _ in range(3))
        self.project = nn.Linear(width, width, bias=False) if residual else nn.Identity()
        self.norm_given, self.norm_carried, self.norm_cell = (
            nn.LayerNorm(size) if layer_norm else nn.Identity() for size in (4 * width, 4 * width, width)
        )
        first = self.norm_given if layer_norm else self.given
        bias = cast("nn.Parameter", first.bias)
        with torch.no_grad():
            bias.view(4, width)[1].fill_(1.0)
            if residual:
                bias.view(4, width)[3].fill_(2.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, t, w]` to the states `[b, t, w]`."""
        given = self.norm_given(self.given(x))
        start = torch.zeros_like(x[:, 0])
        if torch.compiler.is_exporting():
            return self._scanned(given, x, start)
        state, cell, states = start, start, []
        for gates, beside in zip(given.unbind(1), x.unbind(1), strict=True):
            state, cell = self.step((state, cell), (gates, beside))
            states.append(state)
        return torch.stack(states, dim=1)

    def step(self, carried: tuple[Tensor, Tensor], read: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the next state and cell.

        Args:
            carried: State and cell, `[b, w]` each.
            read: What the input gives to the gates `[b, 4w]`, and the input itself `[b, w]`.
        """
        (state, cell), (given, beside) = carried, read
        into, keep, new, out = (given + self.norm_carried(self.carried(state))).chunk(4, dim=-1)
        cell = torch.sigmoid(keep + self.peep_keep * cell) * cell + torch.sigmoid(into + self.peep_into * cell) * torch.tanh(new)
        gate = torch.sigmoid(out + self.peep_out * cell)
        said = self.project(torch.tanh(self.norm_cell(cell)))
        return gate * (said + beside if self.residual else said), cell

    def _scanned(self, given: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """Return the states by one loop of the exported program, which has any length; steps in Python would be unrolled for one."""
        from torch._higher_order_ops.scan import scan

        def advance(carried: tuple[Tensor, Tensor], read: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], Tensor]:
            state, cell = self.step(carried, read)
            return (state, cell), state.clone()

        _, states = cast("Any", scan)(advance, (start, start.clone()), (given.transpose(0, 1), x.transpose(0, 1)))
        return cast("Tensor", states).transpose(0, 1)

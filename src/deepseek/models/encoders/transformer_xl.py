"""Transformer-XL: attention by distance over this window and over what earlier windows have left behind.

Legend of shapes: `b` rows · `l` tokens of this window · `m` remembered tokens · `k` = `m + l` · `w` width · `h` heads · `d` width of a head
· `n` lanes · `y` layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded
from deepseek.models.encoders.attention import BASE, later, shrink_branches
from deepseek.models.encoders.causal import CausalTextEncoder, Past
from deepseek.models.encoders.text import Pooling, Scale, make_pooling, pooled, token_vectors
from deepseek.models.layers import ActivationName, Depth, Probability, QuickDropout, Width, make_activation, split_heads, width_behind

_STATES, _KNOWN = "states", "known"


class TransformerXlEncoder(CausalTextEncoder):
    """A Transformer that reads from left to right and goes on where the window before ended.

    Every layer keeps the vectors that the last `mem_len` tokens had below it, and lets the next window's tokens attend to them; no gradient
    goes back into them. So a token sees up to `depth · mem_len` tokens before it at the cost of one window. Places count by distance alone
    (`(q + u)·k + (q + v)·r` with a learned `u` and `v`), as the same token stands at another place of the next window.

    Windows of one text come with their lanes, as the task `language_modelling` gives them; texts without lanes are read each for itself.

    Source: Dai et al., "Transformer-XL: Attentive language models beyond a fixed-length context", ACL 2019,
    https://arxiv.org/abs/1901.02860.

    Args:
        width: The width of the tokens; a multiple of `heads`, and even.
        depth: How many layers.
        heads: How many heads attend side by side.
        expansion: The width inside the feed-forward network as a multiple of `width`.
        activation: `gelu`, `relu`, `silu`, or an operator.
        mem_len: How many tokens every layer remembers; 0 for none.
        norm: Whether the layers are normalised before each branch (`pre`, which trains more steadily) or behind it (`post`, as published).
        pool: How the tokens become one vector: `attention`, `mean`, `max`, `first`, or `none` for all of them.
        dropout: The share of values dropped behind the embedding and at the end of each branch, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the tokens' vectors at the start.

    Raises:
        InputError: `width` is no multiple of `heads`, or odd.

    Example:
        >>> from deepseek.fields import Kind
        >>> text = InputSpec("text", Kind.TEXT, ("text",), (), "int32", cardinalities=(50,), ragged=True)
        >>> encoder = TransformerXlEncoder({"text": text}, width=8, depth=2, heads=2, mem_len=4, pool="none").eval()
        >>> first, past = encoder.extend(torch.tensor([[5, 6, 7]]), None)
        >>> more, past = encoder.extend(torch.tensor([[8, 9]]), past)
        >>> more.shape, past[0].shape
        (torch.Size([1, 2, 8]), torch.Size([1, 4, 8]))
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        width: Width = 128,
        depth: Depth = 4,
        heads: Annotated[int, Ge(1)] = 4,
        expansion: Annotated[float, Gt(0.0)] = 4.0,
        activation: ActivationName = "gelu",
        mem_len: Annotated[int, Ge(0)] = 512,
        norm: Literal["pre", "post"] = "pre",
        pool: Pooling = "mean",
        dropout: Probability = 0.1,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.02,
    ) -> None:
        super().__init__(inputs, token_dropout=token_dropout)
        if width % heads or width % 2:
            raise InputError(
                f"width is {width}, which is not {heads} heads, or odd", hint="give a width that is a multiple of 2 and of heads"
            )
        self.mem_len, self.width, self.tokens = mem_len, width, None if pool == "none" else 1
        self.remembers = mem_len > 0
        self.embedding = token_vectors(self.vocabulary_size, width, embedding_scale)
        layers = [
            RelativeLayer(width, heads, expansion=expansion, activation=activation, dropout=dropout, pre_norm=norm == "pre")
            for _ in range(depth)
        ]
        if norm == "pre":
            shrink_branches([end for layer in layers for end in (layer.attention.out, layer.feed_out)])
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.dropout = QuickDropout(dropout)
        self.pooling = make_pooling(width, pool)
        self._held: dict[bool, dict[str, Tensor]] = {}

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled; windows in lanes go on where the last ended."""
        ids, mask = self.read(inputs)
        lanes = inputs.get(self.lane_name) if self.remembers else None
        if lanes is None:
            return self.encode(ids, mask)
        lane, held = lanes.int().argmax(dim=1), self._memory(lanes.shape[1], training=self.training)
        known = held[_KNOWN][lane] & ~inputs[self.first_name][:, None]
        tokens, left = self._read(ids, tuple(held[_STATES][:, lane].unbind(0)), known)
        with torch.no_grad():
            held[_STATES][:, lane] = torch.stack(left).to(held[_STATES].dtype)
            read = torch.ones_like(mask)  # a window that is not full is the lane's last: what stands behind it is never looked at
            held[_KNOWN][lane] = torch.cat((known, read), dim=1)[:, -self.mem_len :]
        return pooled(self.pooling, tokens, mask)

    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled, with nothing remembered."""
        return pooled(self.pooling, self._read(ids, None, None, keep=False)[0], mask)

    def extend(self, ids: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Read on: return the vectors `[b, l, w]` of further ids `[b, l]`, and each layer's last `mem_len` tokens `[b, m, w]`."""
        return self._read(ids, past, None)

    def carried(self, lanes: int) -> dict[str, Tensor]:
        """Return the memory of training: `states` `[y, n, mem_len, w]` and `known` `[n, mem_len]`."""
        return dict(self._memory(lanes, training=True))

    def carry(self, tensors: Mapping[str, Tensor], own: range | None = None) -> None:
        """Take up what `carried` returned, of the lanes that are read here."""
        device = self.embedding.weight.device
        held = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
        if own is not None:
            others = torch.ones(len(held[_KNOWN]), dtype=torch.bool, device=device)
            others[own.start : own.stop] = False
            held[_STATES][:, others], held[_KNOWN][others] = 0.0, False
        self._held[True] = held

    def _memory(self, count: int, *, training: bool) -> dict[str, Tensor]:
        """Return what is remembered in this mode (validating leaves training's memory alone); empty where there are other lanes."""
        held, weight = self._held.get(training), self.embedding.weight
        if held is None or held[_KNOWN].shape[0] != count or held[_KNOWN].device != weight.device:
            states = torch.zeros(len(self.layers), count, self.mem_len, self.width, device=weight.device, dtype=weight.dtype)
            held = {_STATES: states, _KNOWN: torch.zeros(count, self.mem_len, dtype=torch.bool, device=weight.device)}
            self._held[training] = held
        return held

    def _read(self, ids: Tensor, past: Past | None, known: Tensor | None, *, keep: bool = True) -> tuple[Tensor, Past]:
        """Return the tokens `[b, l, w]` and what each layer is to remember.

        Args:
            ids: `[b, l]`.
            past: What each layer remembers, `[b, m, w]`; nothing for nothing.
            known: Which of it is real, bool `[b, m]`; all where not given.
            keep: Whether anything is to be remembered.
        """
        x = self.dropout(self.embedding(ids))
        length, before = ids.shape[1], 0 if past is None else past[0].shape[1]
        ahead = later(length, before, ids.device)
        hidden = ahead if known is None else ahead | ~torch.cat((known, known.new_ones(ids.shape)), dim=1)[:, None, None, :]
        far = distances(length + before, self.width, x)
        left: list[Tensor] = []
        for place, layer in enumerate(self.layers):
            whole = x if past is None else torch.cat((past[place].to(x.dtype), x), dim=1)
            if keep:
                left.append(whole[:, max(whole.shape[1] - self.mem_len, 0) :].detach())
            x = layer(x, whole, far=far, hidden=hidden)
        return self.dropout(self.norm(x)), tuple(left)


class RelativeLayer(nn.Module):
    """Relative attention and a feed-forward network, each added to what comes in.

    Args:
        width: `w`.
        heads: `h`.
        expansion: The width inside the feed-forward network as a multiple of `w`.
        activation: `gelu`, `relu`, `silu`, or an operator.
        dropout: The share dropped at the end of each branch.
        pre_norm: Whether a branch's input is normalised, or else its sum with what came in.
    """

    def __init__(self, width: int, heads: int, *, expansion: float, activation: ActivationName, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        inner = max(1, round(width * expansion))
        self.attention = RelativeAttention(width, heads)
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.activation, self.dropout, self.pre_norm = make_activation(activation, inner), QuickDropout(dropout), pre_norm
        self.feed_in, self.feed_out = nn.Linear(width, inner), nn.Linear(width_behind(self.activation, inner), width)

    def forward(self, x: Tensor, whole: Tensor, *, far: Tensor, hidden: Tensor) -> Tensor:
        """Map `[b, l, w]` to the same shape.

        Args:
            x: The window's tokens.
            whole: The remembered tokens with the window's behind them, `[b, k, w]`.
            far: The vectors of the distances `k - 1` to 0, `[k, w]`.
            hidden: Bool `[…, l, k]`, true where a token must not be looked at.
        """
        if self.pre_norm:
            whole = self.attention_norm(whole)
            x = x + self.dropout(self.attention(whole[:, -x.shape[1] :], whole, far=far, hidden=hidden))
            out: Tensor = x + self.dropout(self._feed(self.feed_norm(x)))
            return out
        x = self.attention_norm(x + self.dropout(self.attention(x, whole, far=far, hidden=hidden)))
        behind: Tensor = self.feed_norm(x + self.dropout(self._feed(x)))
        return behind

    def _feed(self, x: Tensor) -> Tensor:
        out: Tensor = self.feed_out(self.activation(self.feed_in(x)))
        return out


class RelativeAttention(nn.Module):
    """`softmax(((q + u)·k + (q + v)·r) / √d)` over the values: content by content, and by how far apart two tokens are.

    Args:
        width: `w`.
        heads: `h`.
    """

    no_decay = frozenset({"content", "distance"})  # the biases `u` and `v`

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.queries, self.keys_values = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.far, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.content, self.distance = (
            nn.Parameter(torch.zeros(heads, 1, width // heads)),
            nn.Parameter(torch.zeros(heads, 1, width // heads)),
        )

    def forward(self, x: Tensor, whole: Tensor, *, far: Tensor, hidden: Tensor) -> Tensor:
        """Map `[b, l, w]` to the same shape; arguments as those of `RelativeLayer.forward`."""
        rows, length, width = x.shape
        queries = split_heads(self.queries(x), self.heads)
        keys, values = (split_heads(part, self.heads) for part in self.keys_values(whole).chunk(2, dim=-1))
        turned = self.far(far).view(-1, self.heads, width // self.heads).permute(1, 2, 0)
        scores = torch.matmul(queries + self.content, keys.transpose(-1, -2)) + shifted(torch.matmul(queries + self.distance, turned))
        weights = (scores.float() * self.scale).masked_fill(hidden, -torch.inf).softmax(dim=-1).to(values.dtype)
        out: Tensor = self.out(torch.matmul(weights, values).transpose(1, 2).reshape(rows, length, width))
        return out


def shifted(scores: Tensor) -> Tensor:
    """Turn scores by distance into scores by place: of `[b, h, l, k]`, row `i` moves left by `l - 1 - i` (Dai et al. 2019, appendix B).

    Before, column `c` is the distance `k - 1 - c`; after, it is the place `c`. What comes in from the right is of places that are ahead.
    """
    rows, heads, length, keys = scores.shape
    padded = torch.cat((scores.new_zeros(rows, heads, length, 1), scores), dim=-1)
    return padded.view(rows, heads, keys + 1, length)[:, :, 1:].reshape(rows, heads, length, keys)


def distances(count: int, width: int, like: Tensor) -> Tensor:
    """Return the sinusoidal vectors `[count, w]` of the distances `count - 1` down to 0, sines first, as published."""
    rate = BASE ** -(torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width)
    turn = torch.outer(torch.arange(count - 1, -1, -1, device=like.device, dtype=torch.float32), rate)
    return torch.cat((turn.sin(), turn.cos()), dim=-1).to(like.dtype)

"""Predicting each next token of a text.

Legend of shapes: `b` windows · `t` tokens of a window · `v` tokens that there are · `w` width.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.token_windows import MEASURED_LANES, TokenWindows
from deepseek.errors import InputError
from deepseek.models.encoders.causal import CausalTextEncoder
from deepseek.models.network import FeatureNetwork
from deepseek.models.sequence import SequenceNetwork
from deepseek.tasks.base import MetricSpec
from deepseek.tasks.losses import widened
from deepseek.tasks.sequence import SequenceTask


class LanguageModellingTask(SequenceTask):
    """Predicts what comes next, token by token.

    The training rows are read as one long text. A network that remembers (`transformer_xl`) reads it in as many lanes as a batch has rows,
    each lane's windows in order from epoch to epoch, its memory going with it through checkpoints; any other network reads windows in a
    random order. Validation and test rows are read to their last token, each predicted once, in the same windows whatever the batch size.

    Args:
        length: The tokens of a window.
        stride: How many tokens the windows of a network that remembers nothing lie apart in training; `length` where not given. 1 for every
            window that there is: an epoch is then as many windows as there are tokens.
        tied: Whether the decision layer's weights are the tokens' vectors (Press and Wolf, 2017, https://arxiv.org/abs/1608.05859).
        label_smoothing: The share of the probability that is spread over all tokens in training, in [0, 1); measured without it.
        metrics: The metrics beside the loss and `bits_per_character`; the usual ones where not given.
    """

    kind = "tokens"
    needs_target = False
    monitor = "bits_per_character"
    usual_metrics = ("bits_per_character", "perplexity")

    def __init__(
        self,
        target: TargetSpec,
        /,
        *,
        length: Annotated[int, Ge(1)] = 64,
        stride: Annotated[int, Ge(1)] | None = None,
        tied: bool = True,
        label_smoothing: Annotated[float, Ge(0.0), Lt(1.0)] = 0.0,
        metrics: list[MetricSpec] | None = None,
    ) -> None:
        super().__init__(target)
        self.length, self.stride, self.tied, self.label_smoothing = length, stride, tied, label_smoothing
        self._metrics = self.usual_metrics if metrics is None else metrics
        self._name = target.columns[0]
        self.remembers = False

    @property
    def outputs(self) -> int:
        """One for each token that there is."""
        return len(self.target.lengths)

    def attach(self, network: FeatureNetwork, head: nn.Module) -> nn.Module:
        """See that the network reads from left to right, and share its tokens' vectors with the decision layer where they are tied.

        Raises:
            InputError: It sees the tokens that it is to predict, or more at once than it can read.
        """
        encoder = network.encoder if isinstance(network, SequenceNetwork) else None
        if not isinstance(encoder, CausalTextEncoder):
            raise InputError(
                f"the model {type(network).__name__} sees the tokens that it is to predict", hint="choose transformer_xl or text_decoder"
            )
        if encoder.span is not None and self.length > encoder.span:
            raise InputError(
                f"windows have {self.length} tokens, and the model reads {encoder.span} at once",
                hint="raise model.length, or lower task.length",
            )
        self.remembers = encoder.remembers
        return TiedHead(encoder.embedding) if self.tied else head

    def training_rows(self, dataset: PreparedDataset, *, batch_size: int) -> PreparedDataset:
        """Return the windows of a split to train on: in as many lanes as a batch has rows for a network that remembers."""
        lanes = batch_size if self.remembers else None
        return TokenWindows(dataset, self._name, length=self.length, lanes=lanes, stride=self.stride)

    def measured_rows(self, dataset: PreparedDataset) -> PreparedDataset:
        """Return the windows of a split to measure: each token is predicted once."""
        lanes = MEASURED_LANES if self.remembers else None
        return TokenWindows(dataset, self._name, length=self.length, lanes=lanes, measured=True)

    def element_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each token, float32 `[b, t]`, for `[b, t, v]` and ids int64 `[b, t]`."""
        smoothing = self.label_smoothing if out.requires_grad else 0.0
        return functional.cross_entropy(widened(out).transpose(1, 2), target.long(), reduction="none", label_smoothing=smoothing)

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `log_probability`, float32 `[b, t, v]`."""
        return {"log_probability": widened(out).log_softmax(dim=-1)}


class TiedHead(nn.Module):
    """A decision layer whose weights are those of the tokens' vectors, with a bias of its own.

    Args:
        vectors: The tokens' vectors, which stay the encoder's: they are saved once.
    """

    def __init__(self, vectors: nn.Embedding) -> None:
        super().__init__()
        self._vectors = [vectors]
        self.bias = nn.Parameter(torch.zeros(vectors.num_embeddings))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, t, w]` to `[b, t, v]`."""
        return functional.linear(x, self._vectors[0].weight, self.bias)

"""A bag of hashed n-grams: the quickest network for texts, and on short ones often among the best.

Legend of shapes: `b` rows · `l` tokens · `n` longest n-gram · `w` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.models.base import Encoded
from deepseek.models.encoders.text import PADDING, Scale, TextEncoder
from deepseek.models.layers import Probability, Width

PRIMES, FACTORS = (2_887, 2_879), (970, 1_363)
"""Two small hashes make one of 23 bits. Every number on the way stays below 2²³: OpenVINO reckons whole numbers in float32 on processors,
and remainders of larger ones would be others there than here."""
MOST_BUCKETS = 8_000_000
"""There are few more hashes than that."""

Pool = Literal["mean", "root", "sum"]


class TextBagEncoder(TextEncoder):
    """The sum, scaled or not, of the vectors of a text's tokens and of its n-grams, which share `buckets` vectors by a hash.

    Hashes are reckoned from the ids in tensor arithmetic, so that the model is exported whole and nothing is looked up in a dictionary.
    All look-ups are one gather-and-sum. The optimizer's step over the whole table is what a small batch costs: 3 ms for 7 million numbers
    on one core, beside which rows of the table that only some batches meet are no trouble.

    Source: fastText, Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017, https://arxiv.org/abs/1607.01759.

    Args:
        width: The width of the vectors and of the result.
        ngrams: How many tokens the longest n-gram has, 1 to 8; 1 for tokens alone.
        buckets: How many vectors the n-grams of two tokens and more share, 1 to 8,000,000.
        pool: What the sum of `k` vectors is divided by: `k` (`mean`), its square root (`root`: a row of independent n-grams then has the
            same spread however long its text is, as with the Euclidean norm of TF-IDF), or nothing (`sum`).
        weighted: Whether each token and bucket has a learned weight beside its vector, 1 at the start.
        dropout: The share of the result that is dropped, in [0, 1).
        token_dropout: The share of tokens that are read as unknown while training, in [0, 1).
        embedding_scale: The standard deviation of the vectors at the start.
        learning_rate_factor: What the learning rate of the vectors is multiplied by: few batches meet any one n-gram, and a few times
            the rate of the layers behind suits them.
    """

    revision = 2  # 1 had hashes beyond 2²⁴

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        width: Width = 64,
        ngrams: Annotated[int, Ge(1), Le(8)] = 2,
        buckets: Annotated[int, Ge(1), Le(MOST_BUCKETS)] = 65_536,
        pool: Pool = "mean",
        weighted: bool = False,
        dropout: Probability = 0.0,
        token_dropout: Probability = 0.0,
        embedding_scale: Scale = 0.1,
        learning_rate_factor: Annotated[float, Gt(0.0)] = 1.0,
    ) -> None:
        super().__init__(inputs, token_dropout=token_dropout)
        self.learning_rate_factor = learning_rate_factor
        self.width, self.ngrams, self.buckets, self.pool = width, ngrams, buckets, pool
        rows = self.vocabulary_size + (buckets if ngrams > 1 else 0)
        self.table = nn.EmbeddingBag(rows, width, mode="sum", padding_idx=PADDING)
        self.weights = nn.Embedding(rows, 1, padding_idx=PADDING) if weighted else None
        with torch.no_grad():
            nn.init.normal_(self.table.weight, std=embedding_scale)[PADDING] = 0.0
            if self.weights is not None:
                self.weights.weight.fill_(1.0)[PADDING] = 0.0
        self.dropout = nn.Dropout(dropout)

    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`."""
        codes = self.codes(ids, mask)
        total = self._sum(codes, None if self.weights is None else self.weights(codes))
        if self.pool != "sum":
            count = (codes != PADDING).sum(dim=1, keepdim=True).clamp(min=1)
            total = total / (count if self.pool == "mean" else count.sqrt())
        return Encoded(self.dropout(total).unsqueeze(1))

    def codes(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the rows of the table for a batch: int64 `[b, n · l]`, 0 where an n-gram would reach past the text's end."""
        ids = ids.int()
        parts, hashes = [ids], [ids % prime for prime in PRIMES]
        for shift in range(1, self.ngrams):
            following = functional.pad(ids, (0, shift))[:, shift:]
            whole = functional.pad(mask, (0, shift))[:, shift:]
            hashes = [(hashed * factor + following + 1) % prime for hashed, factor, prime in zip(hashes, FACTORS, PRIMES, strict=True)]
            first, second = hashes
            parts.append(((first * PRIMES[1] + second) % self.buckets + self.vocabulary_size).masked_fill(~whole, PADDING))
        return torch.cat(parts, dim=1).long()

    def _sum(self, codes: Tensor, weight: Tensor | None) -> Tensor:
        """Return the sum `[b, w]` of the vectors of codes `[b, k]`, each times its weight `[b, k, 1]`."""
        if torch.compiler.is_exporting():  # few runtimes know the fused form, and its export wants two rows and more
            vectors = functional.embedding(codes, self.table.weight)
            return (vectors if weight is None else vectors * weight).sum(dim=1)
        factors = None if weight is None else weight.squeeze(-1)
        return functional.embedding_bag(codes, self.table.weight, mode="sum", per_sample_weights=factors, padding_idx=PADDING)

"""The encoder of tables: numbers, categories, binaries and timestamps together.

Legend of shapes: `b` rows · `f` numeric columns · `c` category columns · `w` width of a column's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder
from deepseek.models.embeddings import IdentityEmbedding, LinearEmbedding, NumericEmbedding
from deepseek.models.layers import Probability
from deepseek.registry import component, family

if TYPE_CHECKING:
    EmbeddingSpec = dict[str, Any] | str
else:
    EmbeddingSpec = component("embedding")

TABLE_KINDS = (Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TIMESTAMP)


class TableEncoder(Encoder):
    """Embeds every column of a table: numbers through a numeric embedding, coded columns through one table of vectors.

    Inputs with cardinalities are codes, whatever their kind. Numbers, and other inputs that come with quantiles, go through `numbers`;
    what is left (binaries as 0/1, features made of timestamps) is passed on as it is.

    Args:
        numbers: The numeric embedding.
        category_width: The width of a category's vector; `auto` goes by cardinality: `1.6 · cardinality^0.56`, at most 64
            (Howard and Gugger, fastai, 2018).
        one_hot: Columns with at most so many codes are one-hot instead; 0 for none. Not used with `tokens`.
        dropout: The share of the encoded values that are dropped, in [0, 1).
        tokens: One token a column, all of the numeric embedding's width (as attention wants them), instead of one token for the table.
        learning_rate_factor: What the learning rate of the embeddings is multiplied by; each sees only its own column's gradient, and a
            few times the trunk's rate suits it.

    Raises:
        InputError: An input is of a kind or shape that belongs in no table, or `tokens` is asked for with the embedding `identity`.
    """

    tokens: int

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        numbers: EmbeddingSpec = "piecewise",
        category_width: Annotated[int, Ge(1)] | Literal["auto"] = 8,
        one_hot: Annotated[int, Ge(0)] = 9,
        dropout: Probability = 0.0,
        tokens: bool = False,
        learning_rate_factor: Annotated[float, Gt(0.0)] = 1.0,
    ) -> None:
        super().__init__(inputs)
        self.learning_rate_factor = learning_rate_factor
        for spec in inputs.values():
            _require_table(spec)
        self._coded = [spec.name for spec in inputs.values() if spec.cardinalities]
        self.embeddings = nn.ModuleDict()
        self._embedded: dict[str, str] = {}
        for place, spec in enumerate(spec for spec in inputs.values() if not spec.cardinalities):
            key = f"{spec.kind.value}_{place}"  # an input's name may hold dots, which a module's name must not
            self._embedded[spec.name] = key
            self.embeddings[key] = _embedding(spec, numbers, tokens=tokens)
        cardinalities = [count for name in self._coded for count in inputs[name].cardinalities]
        if tokens:
            category_width, one_hot = _token_width(numbers), 0
        self.categories = CodeEmbedding(cardinalities, width=category_width, one_hot=one_hot) if cardinalities else None
        self.dropout = nn.Dropout(dropout)
        numeric = [module for module in self.embeddings.values() if isinstance(module, NumericEmbedding)]
        total = sum(module.columns * module.width for module in numeric) + (self.categories.width if self.categories else 0)
        self.tokens = sum(module.columns for module in numeric) + len(cardinalities) if tokens else 1
        self.width = total // self.tokens

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, w]`, or `[b, f + c, w]` with `tokens`."""
        parts = [self.embeddings[key](inputs[name]).flatten(1) for name, key in self._embedded.items()]
        if self.categories is not None:
            parts.append(self.categories(torch.cat([inputs[name] for name in self._coded], dim=1)))
        flat: Tensor = self.dropout(torch.cat(parts, dim=1))
        return Encoded(flat.reshape(flat.shape[0], self.tokens, self.width))


class CodeEmbedding(nn.Module):
    """Vectors for the codes of all category columns: one look-up in one table for all columns, one comparison for all one-hot columns.

    Narrower columns take the first entries of the table's rows, so that a thousand columns of different widths are still one look-up.

    Args:
        cardinalities: How many codes each column has.
        width: The vectors' width, or `auto` by cardinality, at most 64.
        one_hot: Columns with at most so many codes are one-hot.

    Attributes:
        width: The width of all columns together.
    """

    offsets: Tensor
    embedded: Tensor
    kept: Tensor
    one_hot_column: Tensor
    one_hot_code: Tensor

    def __init__(self, cardinalities: list[int], *, width: int | Literal["auto"] = 8, one_hot: int = 0) -> None:
        super().__init__()
        embedded = [column for column, count in enumerate(cardinalities) if count > one_hot]
        widths = [min(64, round(1.6 * cardinalities[column] ** 0.56)) if width == "auto" else width for column in embedded]
        widest = max(widths, default=0)
        sizes = torch.tensor([0, *(cardinalities[column] for column in embedded)])
        kept = [place * widest + entry for place, wide in enumerate(widths) for entry in range(wide)]
        hot = [(column, code) for column, count in enumerate(cardinalities) if count <= one_hot for code in range(count)]
        # Not saved: they follow from the description of the inputs, which is saved.
        self.register_buffer("offsets", sizes.cumsum(0)[:-1], persistent=False)
        self.register_buffer("embedded", torch.tensor(embedded, dtype=torch.int64), persistent=False)
        self.register_buffer("kept", torch.tensor(kept, dtype=torch.int64), persistent=False)
        self.register_buffer("one_hot_column", torch.tensor([column for column, _ in hot], dtype=torch.int64), persistent=False)
        self.register_buffer("one_hot_code", torch.tensor([code for _, code in hot], dtype=torch.int64), persistent=False)
        self._ragged = len(kept) != widest * len(widths)
        self.table = nn.Embedding(int(sizes.sum()), widest) if embedded else None
        if self.table is not None:
            nn.init.normal_(self.table.weight)
        self.width = len(kept) + len(hot)

    def forward(self, codes: Tensor) -> Tensor:
        """Map integer `[b, c]` to `[b, width]`: one-hot columns first, then vectors, each in the columns' order."""
        parts = []
        if len(self.one_hot_code):
            parts.append((codes[:, self.one_hot_column] == self.one_hot_code).to(torch.get_default_dtype()))
        if self.table is not None:
            vectors: Tensor = self.table(codes[:, self.embedded] + self.offsets).flatten(1)
            parts.append(vectors[:, self.kept] if self._ragged else vectors)
        return torch.cat(parts, dim=1)


def _embedding(spec: InputSpec, numbers: EmbeddingSpec, *, tokens: bool) -> NumericEmbedding:
    columns = spec.shape[0]
    if spec.kind is Kind.NUMBER or spec.quantiles is not None:
        embedding: NumericEmbedding = family("embedding").build(numbers, columns, spec.quantiles)
        return embedding
    if not tokens:
        return IdentityEmbedding(columns, None)
    return LinearEmbedding(columns, None, width=_token_width(numbers), activation=False)


def _token_width(numbers: EmbeddingSpec) -> int:
    width: int | None = family("embedding").validate(numbers).get("width")
    if width is None:
        raise InputError("tokens with a numeric embedding that has no width", hint="use another one than 'identity'")
    return width


def _require_table(spec: InputSpec) -> None:
    if spec.kind not in TABLE_KINDS:
        raise InputError(
            f"the input {spec.name!r} of kind {spec.kind.value!r} belongs in no table", hint=f"allowed: {', '.join(TABLE_KINDS)}"
        )
    if len(spec.shape) != 1:
        raise InputError(f"the input {spec.name!r} has rows of shape {spec.shape}", hint="a table's input has one dimension: its columns")
    if spec.cardinalities and len(spec.cardinalities) != spec.shape[0]:
        raise InputError(f"the input {spec.name!r} has {spec.shape[0]} columns and {len(spec.cardinalities)} cardinalities")

"""A linear model that remembers and a deep one that generalises, trained as one."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from deepseek.errors import InputError
from deepseek.models.encoders.table import TABLE_KINDS, EmbeddingSpec
from deepseek.models.encoders.text_bag import MOST_BUCKETS
from deepseek.models.layers import ActivationName, Depth, NormalizationName, Probability, Width
from deepseek.models.network import TABLE, Network
from deepseek.models.presets.base import Graph, Inputs
from deepseek.models.wide import WideCodes, WideLayer, pair_crosses

Columns = Annotated[list[str], MinLen(2), MaxLen(8)]


class WideDeepModel(Network):
    """A linear model of columns and their crosses beside a perceptron (Cheng et al., 2016, https://arxiv.org/abs/1606.07792).

    Args:
        wide: Whether there is the linear model.
        deep: Whether there is the perceptron; without it the model is the linear one alone, of the table alone.
        crosses: Which columns are crossed, a list of their names for each cross; `auto` for all pairs of categories, up to `most_crosses`.
        most_crosses: How many pairs `auto` takes, those with the fewest combinations first.
        buckets: How many weights a cross has at most, 1 to 8,000,000; combinations beyond that share them by a hash.
        bins: Into how many bins a number is cut where it is crossed, by quantiles.
        wide_rate: What the learning rate of the linear model is multiplied by.
        depth: How many blocks the perceptron has.
        width: The width of every block.
        dropout: The share of values dropped after each block, in [0, 1).
        normalization: `none`, `batch`, `layer` or `group` (of 8).
        activation: `relu`, `gelu`, `silu`, or an operator.
        embedding: The numeric embedding of the table's numbers.
        category_width: The width of a category's vector, or `auto` by cardinality.
        one_hot: Categories with at most so many codes are one-hot instead.

    Raises:
        InputError: Both parts are left out, or the linear one alone is asked for where there are images or texts.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        wide: bool = True,
        deep: bool = True,
        crosses: list[Columns] | Literal["auto"] = "auto",
        most_crosses: Annotated[int, Ge(0)] = 64,
        buckets: Annotated[int, Ge(1), Le(MOST_BUCKETS)] = 65_536,
        bins: Annotated[int, Ge(2)] = 10,
        wide_rate: Annotated[float, Gt(0.0)] = 1.0,
        depth: Depth = 3,
        width: Width = 256,
        dropout: Probability = 0.1,
        normalization: NormalizationName = "none",
        activation: ActivationName = "relu",
        embedding: EmbeddingSpec = "identity",
        category_width: Annotated[int, Ge(1)] | Literal["auto"] = 8,
        one_hot: Annotated[int, Ge(0)] = 9,
    ) -> None:
        mlp = {
            "type": "mlp",
            "depth": depth,
            "width": width,
            "dropout": dropout,
            "normalization": normalization,
            "activation": activation,
        }
        table = [spec.name for spec in inputs.values() if spec.kind in TABLE_KINDS]
        encoder = {"type": "table", "numbers": embedding, "category_width": category_width, "one_hot": one_hot} if deep else "nothing"
        if not (wide or deep):
            raise InputError("wide_deep without wide and without deep", hint="leave out one of them at most")
        if not deep and len(table) < len(inputs):
            others = ", ".join(sorted(set(inputs) - set(table)))
            raise InputError(f"the wide part alone would not see {others}", hint="drop what is no part of the table, or say deep: true")
        super().__init__(inputs, graph, encoders={TABLE: encoder} if table else {}, trunk=mlp if deep else "identity")
        self._crosses = crosses if crosses != "auto" else pair_crosses(self.seen, most_crosses)
        self._buckets, self._bins, self._wide_rate, self._is_wide = buckets, bins, wide_rate, wide

    def beside(self, outputs: int) -> WideLayer | None:
        """Return the linear model."""
        if not self._is_wide:
            return None
        codes = WideCodes(self.seen, crosses=self._crosses, buckets=self._buckets, bins=self._bins)
        return WideLayer(codes, self.seen, outputs=outputs, learning_rate_factor=self._wide_rate)

"""The wide part of a network: a linear model of a table's columns and of their crosses, beside the deep part.

Legend of shapes: `b` rows · `c` columns as codes · `f` columns as numbers · `k` crosses of one kind · `n` columns of a cross · `o` outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Kind
from deepseek.models.embeddings import bin_edges
from deepseek.models.encoders.table import TABLE_KINDS
from deepseek.models.encoders.text_bag import FACTORS, MOST_BUCKETS, PRIMES
from deepseek.models.network import Beside

MOST_CODES = 2**23 - max(PRIMES) * max(FACTORS)
"""So many codes a hashed column may have: what is reckoned with them has to stay below 2²³, as in a bag of n-grams."""
Cross = Sequence[str]


@dataclass(frozen=True)
class _Column:
    """One column of the table: where it stands, and how it becomes a code; one that is no code and has no edges can only be a number."""

    place: int
    codes: int = 0
    edges: np.ndarray | None = None


def pair_crosses(inputs: Mapping[str, InputSpec], most: int) -> list[tuple[str, ...]]:
    """Return the pairs of a table's coded columns, at most so many: those with the fewest combinations, which rows can fill, first.

    Args:
        inputs: The inputs of the network; those that belong to no table are passed over.
        most: How many pairs, at least 0.

    Example:
        >>> codes = InputSpec("codes", Kind.CATEGORY, ("user", "item", "sex"), (3,), "int32", (900, 1700, 3))
        >>> pair_crosses({"codes": codes}, 2)
        [('user', 'sex'), ('item', 'sex')]
    """
    coded = _coded(inputs)
    pairs = sorted(combinations(coded, 2), key=lambda pair: coded[pair[0]].codes * coded[pair[1]].codes)
    return [tuple(pair) for pair in pairs[:most]]


class WideCodes(nn.Module):
    """Says which rows of a table of weights belong to a row of data: one for each coded column, and one for each cross.

    A cross has a weight for each combination of its columns' codes where these are at most `buckets`; where there are more, combinations
    share so many weights by a hash. Every number on the way stays below 2²³, which OpenVINO needs for whole numbers to be exact on
    processors. Numbers are crossed by the quantiles they lie between.

    Args:
        inputs: The table's inputs, as they leave their graph transforms.
        crosses: The columns of each cross, two at least.
        buckets: How many weights a cross has at most.
        bins: Into how many bins a number is cut where it is crossed.

    Attributes:
        rows: How many weights there are.
        numbers: The names of the inputs that are numbers, for which no code stands.
        reads: The names of all inputs of the table.

    Raises:
        UnknownNameError: A cross names a column that is not there.
        InputError: A cross names a column twice, or a number of which no quantiles are known; a column has too many codes; or there are
            more weights than can be told apart.
    """

    starts: Tensor

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, crosses: Sequence[Cross], buckets: int, bins: int) -> None:
        super().__init__()
        table = [spec for spec in inputs.values() if spec.kind in TABLE_KINDS]
        self._coded = [spec.name for spec in table if spec.cardinalities]
        self.numbers = [spec.name for spec in table if not spec.cardinalities]
        self.reads = [spec.name for spec in table]
        coded, numeric = _coded(inputs), _numeric(inputs, bins)
        known = {**coded, **numeric}
        for cross in crosses:
            _require_cross(cross, known, numeric)
        binned = list(dict.fromkeys(name for cross in crosses for name in cross if name in numeric))
        self._binned = _Bins([numeric[name] for name in binned]) if binned else None
        places = {name: place for place, name in enumerate([*coded, *binned])}
        sizes = [*(column.codes for column in coded.values()), *(_edge_count(numeric[name]) + 1 for name in binned)]
        # Not saved, all of them: they follow from the description of the inputs, which is saved.
        self.register_buffer("starts", _whole([0, *np.cumsum(sizes[: len(coded)])][:-1] if coded else []), persistent=False)
        self.rows = sum(sizes[: len(coded)])
        named = {place: name for name, place in places.items()}
        kinds: dict[tuple[int, bool], list[tuple[int, ...]]] = {}
        for cross in crosses:
            members = tuple(places[name] for name in cross)
            kinds.setdefault((len(members), prod(sizes[place] for place in members) <= buckets), []).append(members)
        self.crosses = nn.ModuleList()
        for (_, exact), alike in sorted(kinds.items()):
            group: _Crosses = _ExactCrosses(alike, sizes, self.rows) if exact else _HashedCrosses(alike, sizes, self.rows, buckets)
            group.names = [tuple(named[place] for place in cross) for cross in alike]
            self.rows += group.rows
            self.crosses.append(group)
        if self.rows > MOST_BUCKETS:
            raise InputError(
                f"the wide part would have {self.rows:,} weights", hint=f"at most {MOST_BUCKETS:,}: take fewer crosses, or fewer buckets"
            )

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return whole numbers `[b, c + crosses]`, the rows of the table of weights."""
        parts = [inputs[name] for name in self._coded]
        single = torch.cat(parts, dim=1).int() if parts else None
        found = [] if single is None else [single + self.starts]
        if self.crosses:
            codes = self._crossed(inputs, single)
            found += [group(codes) for group in self.crosses]
        return torch.cat(found, dim=1).long()

    def _crossed(self, inputs: Mapping[str, Tensor], single: Tensor | None) -> Tensor:
        """Return the codes of all columns that may be crossed, `[b, c]`: those of categories, then those of numbers that are cut."""
        coded = [] if single is None else [single]
        binned = [] if self._binned is None else [self._binned(torch.cat([inputs[name] for name in self.numbers], dim=1))]
        return torch.cat([*coded, *binned], dim=1)

    def hashed(self, inputs: Mapping[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
        """Return, for each cross whose combinations share weights, the combinations of rows and their weights, `[b, n + 1]`.

        Args:
            inputs: The table's inputs, as they leave their graph transforms.
        """
        groups = [group for group in self.crosses if isinstance(group, _HashedCrosses)]
        if not groups:
            return {}
        parts = [inputs[name] for name in self._coded]
        codes = self._crossed(inputs, torch.cat(parts, dim=1).int() if parts else None)
        found = {}
        for group in groups:
            weights = group(codes)
            for place, (names, members) in enumerate(zip(group.names, group.members, strict=True)):
                found[names] = torch.cat((codes[:, members], weights[:, place, None]), dim=1)
        return found


class WideLayer(Beside):
    """A linear model of a table: weights for numbers, for codes, and for crosses, straight to the outputs.

    What it remembers of single combinations the deep part need not bend its general rules for. Its weights begin at zero and are decayed
    and penalised (`train.l1`) like those of any linear model, which embeddings are not.

    Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016, https://arxiv.org/abs/1606.07792. There the wide part is
    trained by FTRL with an L1 penalty; here both parts share an optimizer, and the wide part has its own share of the learning rate.

    Args:
        codes: Which weights belong to a row.
        inputs: The table's inputs.
        outputs: `o`.
        learning_rate_factor: What the learning rate of its weights is multiplied by.

    Raises:
        InputError: There is nothing to weigh.
    """

    def __init__(self, codes: WideCodes, inputs: Mapping[str, InputSpec], *, outputs: int, learning_rate_factor: float = 1.0) -> None:
        super().__init__()
        self.learning_rate_factor = learning_rate_factor
        self.codes = codes
        self.reads = codes.reads
        width = sum(inputs[name].shape[0] for name in codes.numbers)
        if not width + codes.rows:
            raise InputError("the wide part has no column of a table to weigh", hint="say wide: false, or take a model for images or texts")
        self.weight = nn.Parameter(torch.zeros(codes.rows, outputs)) if codes.rows else None
        self.slope = nn.Parameter(torch.zeros(width, outputs)) if width else None

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, o]`, to be added to what the deep part answers."""
        parts = []
        if self.weight is not None:
            codes = self.codes(inputs)
            if torch.compiler.is_exporting():  # few runtimes know the fused form, and its export wants two rows and more
                parts.append(functional.embedding(codes, self.weight).sum(dim=1))
            else:
                parts.append(functional.embedding_bag(codes, self.weight, mode="sum"))
        if self.slope is not None:
            parts.append(torch.cat([inputs[name] for name in self.codes.numbers], dim=1) @ self.slope)
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class _Crosses(nn.Module):
    """Crosses of equally many columns: `[b, c]` codes to `[b, k]` rows of the table of weights."""

    members: Tensor
    starts: Tensor
    rows: int
    names: Sequence[tuple[str, ...]]

    def __init__(self, members: Sequence[tuple[int, ...]], counts: Sequence[int], first: int) -> None:
        super().__init__()
        self.rows = sum(counts)
        self.register_buffer("members", torch.tensor(members, dtype=torch.int64), persistent=False)
        self.register_buffer("starts", _whole([first, *(first + np.cumsum(counts))][:-1]), persistent=False)

    def columns(self, codes: Tensor) -> list[Tensor]:
        """Return the codes `[b, k]` of each cross's first column, of its second, and so on."""
        return [codes[:, column] for column in self.members.unbind(1)]


class _ExactCrosses(_Crosses):
    """A weight of its own for every combination."""

    sizes: Tensor

    def __init__(self, members: Sequence[tuple[int, ...]], sizes: Sequence[int], first: int) -> None:
        super().__init__(members, [prod(sizes[place] for place in cross) for cross in members], first)
        self.register_buffer("sizes", torch.tensor([[sizes[place] for place in cross] for cross in members]).int(), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Return `[b, k]`."""
        columns = self.columns(codes)
        found = columns[0]
        for column, sizes in zip(columns[1:], self.sizes.unbind(1)[1:], strict=True):
            found = found * sizes + column
        return found + self.starts


class _HashedCrosses(_Crosses):
    """Combinations share weights by a hash."""

    def __init__(self, members: Sequence[tuple[int, ...]], sizes: Sequence[int], first: int, buckets: int) -> None:
        super().__init__(members, [buckets] * len(members), first)
        self.buckets = buckets
        widest = max(sizes[place] for cross in members for place in cross)
        if widest > MOST_CODES:
            raise InputError(
                f"a column with {widest:,} codes is crossed", hint=f"at most {MOST_CODES:,}: see max_categories of its transform"
            )

    def forward(self, codes: Tensor) -> Tensor:
        """Return `[b, k]`."""
        columns = self.columns(codes)
        hashes = [columns[0] % prime for prime in PRIMES]
        for column in columns[1:]:
            hashes = [(hashed * factor + column + 1) % prime for hashed, factor, prime in zip(hashes, FACTORS, PRIMES, strict=True)]
        first, second = hashes
        return (first * PRIMES[1] + second) % self.buckets + self.starts


class _Bins(nn.Module):
    """Numbers to codes: how many edges a number is above. `[b, f]` to `[b, numbers that are crossed]`."""

    places: Tensor
    edges: Tensor

    def __init__(self, columns: Sequence[_Column]) -> None:
        super().__init__()
        widest = max(_edge_count(column) for column in columns)
        edges = np.full((len(columns), widest), np.inf, dtype=np.float32)
        for row, column in zip(edges, columns, strict=True):
            assert column.edges is not None
            row[: len(column.edges)] = column.edges
        self.register_buffer("places", torch.tensor([column.place for column in columns]), persistent=False)
        self.register_buffer("edges", torch.from_numpy(edges), persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return int32."""
        return (numbers[:, self.places].unsqueeze(-1) > self.edges).sum(dim=-1).int()


def _coded(inputs: Mapping[str, InputSpec]) -> dict[str, _Column]:
    specs = [spec for spec in inputs.values() if spec.kind in TABLE_KINDS and spec.cardinalities]
    pairs = [(name, codes) for spec in specs for name, codes in zip(spec.columns, spec.cardinalities, strict=True)]
    return {name: _Column(place, codes=codes) for place, (name, codes) in enumerate(pairs)}


def _numeric(inputs: Mapping[str, InputSpec], bins: int) -> dict[str, _Column]:
    specs = [spec for spec in inputs.values() if spec.kind in TABLE_KINDS and not spec.cardinalities]
    found: dict[str, _Column] = {}
    first = 0
    for spec in specs:
        for place, name in enumerate(spec.columns):
            edges = None if spec.quantiles is None else _between(spec.quantiles[place], bins)
            found[name] = _Column(first + place, edges=np.array([0.5], np.float32) if spec.kind is Kind.BINARY else edges)
        first += spec.shape[0]
    return found


def _between(quantiles: np.ndarray, bins: int) -> np.ndarray:
    """Return where a bin ends and the next begins: half-way to the next value, as at a value itself rounding would choose the bin."""
    values = np.unique(quantiles)
    edges = np.searchsorted(values, bin_edges(quantiles, bins)[:-1])
    return np.asarray((values[edges] + values[edges + 1]) / 2, dtype=np.float32)


def _edge_count(column: _Column) -> int:
    return 0 if column.edges is None else len(column.edges)


def _whole(values: Sequence[int]) -> Tensor:
    return torch.tensor([int(value) for value in values], dtype=torch.int32)


def _require_cross(cross: Cross, known: Mapping[str, _Column], numeric: Mapping[str, _Column]) -> None:
    for name in cross:
        if name not in known:
            raise UnknownNameError("column of a cross", name, known)
        if name in numeric and numeric[name].edges is None:
            raise InputError(f"the number {name!r} is crossed, and no quantiles of it are known", hint="cross columns that are categories")
    if len(set(cross)) < 2 or len(set(cross)) < len(cross):
        raise InputError(f"a cross of {', '.join(cross)}", hint="name two columns or more, each once")

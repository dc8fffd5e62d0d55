"""One long text as windows of tokens: in lanes that go on from batch to batch, or each for itself.

Legend of shapes: `b` rows (windows) · `t` tokens of a window · `n` lanes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deepseek.data.batch import Batch, mask_name
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.tokenizer import START
from deepseek.errors import InputError

TARGET = "target"
"""The key of the tokens that are to be predicted."""
MEASURED_LANES = 16
"""In how many lanes a split is measured, whatever the batch of training: the number must not hang on it."""
MEASURED_TOKENS = 2048
"""How many tokens of windows that stand alone are answered at once: each has a number for every token that there is."""


def lane_name(name: str) -> str:
    """Return the name under which a batch says in which lane each window of an input lies."""
    return f"{name}_lane"


def first_name(name: str) -> str:
    """Return the name under which a batch says which windows are their lane's first."""
    return f"{name}_first"


class TokenWindows(PreparedDataset):
    """The texts of a prepared split, one after the other, cut into windows of `length` tokens: each is an input, and what comes one later.

    In lanes, window `i` is the `i // lanes`-th of lane `i % lanes`, and every lane is one contiguous part of the whole: the batches of
    `lanes` rows in order are what a network that remembers has to read, and each rank's share of them is the same lanes every time. Without
    lanes a window begins every `stride` tokens, and the windows may come in any order.

    Each token is predicted once in lanes, and with a stride of `length`. The first token of the split is predicted from a start token.

    Args:
        dataset: The prepared split.
        name: The ragged column of its token ids.
        length: The tokens of a window, at least 1.
        lanes: In how many lanes the text is read; none for windows that stand alone.
        stride: How many tokens windows that stand alone lie apart; `length` where not given.
        measured: Whether the windows are only measured: windows that stand alone then come in order, so many that memory bears them.

    Attributes:
        lanes: As given, or fewer where there are not as many tokens.

    Raises:
        InputError: There is no token.

    Example:
        >>> from deepseek.data.transforms.base import Ragged
        >>> text = Ragged(np.array([2, 7, 8, 9, 7], dtype=np.int32), np.array([0, 5]))
        >>> data = PreparedDataset.from_arrays({"text": text})
        >>> windows = TokenWindows(data, "text", length=2, lanes=2)
        >>> batch = windows.take([0, 1])
        >>> batch.inputs["text"].tolist(), batch.targets["target"].tolist()
        ([[2, 7], [8, 9]], [[7, 8], [9, 7]])
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        name: str,
        /,
        *,
        length: int,
        lanes: int | None = None,
        stride: int | None = None,
        measured: bool = False,
    ) -> None:
        tokens = dataset.values(name)
        # the first token has only a start token before it, which stands there already where the split begins with a text's beginning
        self._before = 0 if len(tokens) and tokens[0] == START else 1
        self.predicted = len(tokens) - 1 + self._before
        if self.predicted < 1:
            raise InputError("there is no token to predict", hint="give more text")
        self._tokens, self.name, self.length = tokens, name, length
        self.lanes = None if lanes is None else min(lanes, self.predicted)
        self._stride, self._measured = stride or length, measured
        if self.lanes is None:
            windows = -(-max(self.predicted - length, 0) // self._stride) + 1
        else:
            self._lane_tokens = -(-self.predicted // self.lanes)
            windows = -(-self._lane_tokens // length) * self.lanes
        column = np.empty((windows, 0), dtype=np.int32)
        super().__init__((), {"int32": column}, inputs=dataset.inputs)

    @property
    def row_bytes(self) -> int:
        """The bytes of one window: ids, and what is to be predicted."""
        return 16 * self.length

    @property
    def batch_rows(self) -> int | None:
        """How many rows every batch must have, in order: one window of each lane; nothing where that does not matter."""
        return max(MEASURED_TOKENS // self.length, 1) if self.lanes is None and self._measured else self.lanes

    def take(self, rows: np.ndarray | Sequence[int], *, pin: bool = False, ragged: bool = True) -> Batch:
        """Return windows as a batch: `NAME` int32 `[b, t]` with `NAME_mask`, and `target` int64 `[b, t]` with `target_mask`.

        In lanes also `NAME_lane`, bool `[b, n]`, true at the row's lane, and `NAME_first`, bool `[b]`, true where a lane begins.

        Args:
            rows: Which windows, int64 `[b]`.
            pin: Whether the memory is page-locked.
            ragged: Has no meaning here.

        Raises:
            InputError: A window does not exist.
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise InputError(f"windows {rows.min()} to {rows.max()} were asked for; there are {len(self)}", hint="windows count from 0")
        begin, end = self._bounds(rows)
        places = begin[:, None] + np.arange(self.length)
        real = places < end[:, None]
        ids = np.where(real, self._at(places - self._before), 0)
        wanted = np.where(real, self._at(places + 1 - self._before), 0).astype(np.int64)
        mask = torch.from_numpy(real)
        inputs = {self.name: torch.from_numpy(ids), mask_name(self.name): mask}
        if self.lanes is not None:
            lane = rows % self.lanes
            inputs[lane_name(self.name)] = torch.from_numpy(lane[:, None] == np.arange(self.lanes))
            inputs[first_name(self.name)] = torch.from_numpy(rows < self.lanes)
        batch = Batch(inputs, {TARGET: torch.from_numpy(wanted), mask_name(TARGET): mask}, None, torch.from_numpy(rows))
        return _pinned(batch) if pin else batch

    def _bounds(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where windows begin in the text, and before where what they predict ends."""
        if self.lanes is None:
            begin = rows * self._stride
            return begin, np.full_like(begin, self.predicted)
        lane = (rows % self.lanes) * self._lane_tokens
        return lane + rows // self.lanes * self.length, np.minimum(lane + self._lane_tokens, self.predicted)

    def _at(self, places: np.ndarray) -> np.ndarray:
        """Return the tokens at places, a start token before the first; what is asked for behind the last has no meaning."""
        tokens: np.ndarray = self._tokens[np.clip(places, 0, len(self._tokens) - 1)]
        return np.where(places < 0, np.int32(START), tokens)


def _pinned(batch: Batch) -> Batch:
    return Batch(
        {name: tensor.pin_memory() for name, tensor in batch.inputs.items()},
        {name: tensor.pin_memory() for name, tensor in batch.targets.items()},
        None,
        batch.row,
    )

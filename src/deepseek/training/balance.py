"""Ranks of unlike speed: who takes how many rows of the global batch, so that none waits long for another.

The global batch, its order and its denominator stay what they are; only where it is cut changes. So whatever is decided here changes the
time that a run takes, and nothing else but roundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from deepseek import progress
from deepseek.data.loader import Loader
from deepseek.distributed import GradientSync, RankContext, broadcast_message, sum_across
from deepseek.distributed.pace import Pace
from deepseek.errors import InputError
from deepseek.training.carried import remembering
from deepseek.training.state import Json

Shares = Literal["auto", "equal"] | Sequence[int]

WORTH = 0.9
"""The batch is divided anew where that is expected to take at most this part of the time: less is within the noise of measuring."""
LEAST_STEPS = 3
"""Fewer steps between two events say too little."""


def better_shares(rows: Sequence[float], seconds: Sequence[float], *, whole: int) -> list[int] | None:
    """Return how many rows of a batch each rank should take, or nothing where that is hardly better than what it takes now.

    Args:
        rows: How many rows each rank had.
        seconds: How long each took for them.
        whole: The rows of a whole batch, at least as many as ranks.

    Example:
        >>> better_shares([128, 128], [1.0, 3.0], whole=256)
        [192, 64]
    """
    if min(rows) <= 0 or min(seconds) <= 0:
        return None
    speeds = [count / taken for count, taken in zip(rows, seconds, strict=True)]
    wanted = [max(whole * speed / sum(speeds), 1.0) for speed in speeds]
    shares = [int(share) for share in wanted]
    # what rounding down has left goes to those who lost most by it, and what the least row has added is taken from the largest
    for place in sorted(range(len(shares)), key=lambda place: shares[place] - wanted[place])[: max(whole - sum(shares), 0)]:
        shares[place] += 1
    while sum(shares) > whole:
        shares[shares.index(max(shares))] -= 1
    before = max(seconds) / sum(rows)
    after = max(share / speed for share, speed in zip(shares, speeds, strict=True)) / whole
    return shares if after <= WORTH * before else None


class Balance:
    """Divides the batches of a loader among the ranks.

    Args:
        how: `equal`, the proportions themselves, or `auto`: by the measured speed.
        loader: Gives this rank's rows.
        ranks: This process's place in the job.
        decisions: Where what was decided is kept, under `shares` and `share_changes`; taken over from there on a resume.

    Raises:
        InputError: There are not as many proportions as ranks.
    """

    def __init__(self, how: Shares, loader: Loader, ranks: RankContext, *, decisions: Json) -> None:
        self._loader, self._ranks, self._decisions = loader, ranks, decisions
        check_shares(how, ranks.ranks)
        self._measures = how == "auto" and not ranks.is_single and loader.batch_size >= ranks.ranks
        self._pace = Pace(ranks.device) if self._measures else None
        self._warm = False
        self._step = 0
        self._rows = 0
        known = decisions.get("shares")
        if not isinstance(how, str):
            loader.divide(how)
        elif how == "auto" and known is not None and len(known) == ranks.ranks:
            loader.divide(known)
        decisions.pop("shares", None)
        if not ranks.is_single:
            decisions["shares"] = list(loader.shares)

    def watch(self, sync: GradientSync | None) -> None:
        """Measure the steps that exchange their gradients this way."""
        if sync is not None:
            sync.pace = self._pace

    def look(self, step: int, rows: int) -> bool:
        """Divide batches anew where that is worth it, from the next step on; on every rank, at the same step.

        Args:
            step: Steps made.
            rows: Rows that this rank has trained on since the fit began.

        Returns:
            Whether batches are divided in another way from now on, so that those gathered ahead are no longer right.
        """
        if self._pace is None or step - self._step < LEAST_STEPS:
            return False
        warm, self._warm = self._warm, True
        figures = torch.zeros(2, self._ranks.ranks, dtype=torch.float64)
        figures[:, self._ranks.rank] = torch.tensor([rows - self._rows, self._pace.take()], dtype=torch.float64)
        self._step, self._rows = step, rows
        sum_across([figures], self._ranks)
        if not warm:
            return False  # the first steps allocate and warm up
        taken, seconds = figures.tolist()
        found = better_shares(taken, seconds, whole=self._loader.batch_size)
        # others would reckon the same, were all processors alike
        shares = broadcast_message(found or self._loader.shares, self._ranks)
        if tuple(shares) == self._loader.shares:
            return False
        self._divide(shares, step, speeds=[count / second for count, second in zip(taken, seconds, strict=True)])
        return True

    def _divide(self, shares: list[int], step: int, *, speeds: list[float]) -> None:
        self._loader.divide(shares)
        self._warm = False
        self._decisions["shares"] = shares
        self._decisions.setdefault("share_changes", []).append({"after_step": step, "shares": shares, "rows_per_s": speeds})
        if self._ranks.is_main:
            pace = ", ".join(f"{speed:,.0f}" for speed in speeds)
            progress.log(f"after step {step} the ranks take {', '.join(map(str, shares))} rows of a batch (measured: {pace} rows/s)")


def check_shares(how: Shares, ranks: int, model: nn.Module | None = None) -> None:
    """Refuse proportions that are not one a rank, and measuring where a rank cannot hand its rows on.

    Args:
        how: As for `Balance`.
        ranks: How many there are.
        model: The network; a rank that remembers lanes of text has to read on in them.

    Raises:
        InputError: It does not fit.
    """
    if how == "auto" and ranks > 1 and model is not None and any(remembering(model)):
        raise InputError(
            "train.shares: auto does not go with a network that remembers", hint="take equal shares, proportions, or mem_len: 0"
        )
    if isinstance(how, str):
        return
    if len(how) != ranks or any(share < 1 for share in how):
        raise InputError(
            f"train.shares is {list(how)}; there {'is' if ranks == 1 else 'are'} {ranks} rank{'s' * (ranks > 1)}",
            hint="give a whole number of at least 1 for each rank, or auto, or equal",
        )

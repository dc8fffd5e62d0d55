"""Has a model become worse than it was? A test at a fixed number of labels, and one that may be looked at after every label.

Both ask whether a share (accuracy) or a mean (of losses, of blockwise AUC) has dropped against a reference that was itself measured on a
finite number of rows. `drop_test` is the usual test, valid for one look at a number of labels fixed before. `DropDetector` watches without
end and states its rate of false alarms for the whole watch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepseek.errors import InputError
from deepseek.statistics.association import mid_ranks

LOOK = 25
"""Labels between two looks of a `DropDetector` inside one batch."""
EVERY = 500
"""Labels between two starts of a `DropDetector`."""
HORIZON = 10_000
STARTS = 64
_DROPS = np.array([1.0, 1.5, 2.5, 5.0])
_WEIGHTS = np.array([0.5, 0.2, 0.15, 0.15])
_POINTS = 33


@dataclass(frozen=True, slots=True)
class Reference:
    """What a model reached where it was measured.

    Attributes:
        value: The accuracy, the mean loss, the AUC.
        std: Standard deviation of one row's contribution; of a share `sqrt(p (1 - p))`, and see `of_share`.
        rows: How many rows it was measured on, for an area under the curve by `auc_weight`; infinite where the value is taken as the truth.
        share: Whether it is a share of rows, whose exact distribution is used.
    """

    value: float
    std: float
    rows: float = math.inf
    share: bool = False

    @classmethod
    def of_share(cls, value: float, rows: float = math.inf) -> Reference:
        """Return the reference for a share of right answers.

        Where all of finitely many rows were right, the rows themselves say that there is no spread, and one mistake would be an alarm. The
        spread is then that of Laplace's estimate, `(rows + 1) / (rows + 2)`.

        Raises:
            InputError: It is not between 0 and 1.
        """
        if not 0 < value <= 1 or rows < 1:
            raise InputError(f"the reference is a share of {value} of {rows} rows", hint="a share is above 0 and at most 1")
        likely = (rows + 1) / (rows + 2) if value == 1 and math.isfinite(rows) else value
        return cls(value, math.sqrt(likely * (1 - likely)), rows, share=True)

    @property
    def error(self) -> float:
        """Standard error of the value."""
        return self.std / math.sqrt(self.rows)


@dataclass(frozen=True, slots=True)
class DropTest:
    """What a look at a fixed number of labels found.

    Attributes:
        value: What is measured now.
        dropped: By how much it is worse than the reference.
        low: Lower end of the one-sided interval of the drop.
        p: Probability of so large a drop where there is none.
        alarm: Whether `p` is below alpha.
    """

    value: float
    dropped: float
    low: float
    p: float
    alarm: bool


def drop_test(value: float, rows: float, reference: Reference, *, alpha: float = 0.05, worse: str = "lower") -> DropTest:
    """Test once, after a number of labels that was fixed before, whether a share or a mean has become worse than a reference.

    The z-test against the reference, with the spread that it had there and its own sampling error. Looked at again and again until it
    alarms it would alarm sooner or later on unchanged data: that is what `DropDetector` is for.

    Args:
        value: What is measured now.
        rows: On how many rows, for an area under the curve by `auc_weight`.
        reference: What was reached before.
        alpha: Probability of an alarm where nothing has become worse.
        worse: `lower` where a lower value is worse, as of accuracy; `higher` as of a loss.

    Example:
        >>> drop_test(0.88, 1000, Reference.of_share(0.90)).alarm
        True
    """
    dropped = reference.value - value if worse == "lower" else value - reference.value
    error = math.hypot(reference.std / math.sqrt(rows), reference.error)
    normal = NormalDist()
    p = 1 - normal.cdf(dropped / error) if error else float(dropped <= 0)
    return DropTest(value, dropped, dropped - normal.inv_cdf(1 - alpha) * error, p, p < alpha)


def labels_needed(accuracy: float, drop: float, *, alpha: float = 0.05, power: float = 0.8, reference_rows: float = math.inf) -> float:
    """Return how many labels `drop_test` needs to find a drop with this power; infinite where the reference itself is too uncertain.

    Args:
        accuracy: The reference's accuracy.
        drop: The drop that is to be found: 0.02 for two points.
        alpha: Probability of an alarm without any drop.
        power: Probability of an alarm with this drop.
        reference_rows: How many rows the reference was measured on.

    Example:
        >>> round(labels_needed(0.90, 0.02))
        1471
    """
    normal, low = NormalDist(), accuracy - drop
    z_alpha, z_power = normal.inv_cdf(1 - alpha), normal.inv_cdf(power)
    base = accuracy * (1 - accuracy) / reference_rows

    def margin(rows: float) -> float:
        null = math.sqrt(accuracy * (1 - accuracy) / rows + base)
        return drop - z_alpha * null - z_power * math.sqrt(low * (1 - low) / rows + base)

    few, many = 1.0, 1e12
    if margin(many) < 0:
        return math.inf
    while many / few > 1 + 1e-9:
        middle = math.sqrt(few * many)
        few, many = (few, middle) if margin(middle) >= 0 else (middle, many)
    return many


def smallest_drop(reference: Reference, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the drop that `drop_test` finds with this power, however many labels come: less is lost in the reference's own sampling error.

    Args:
        reference: What was reached before.
        alpha: Probability of an alarm without any drop.
        power: Probability of an alarm with this drop.

    Example:
        >>> round(smallest_drop(Reference.of_share(0.84, rows=1800)), 4)
        0.0215
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)) * reference.error


class DropDetector:
    """Watches a stream of labels without end for a drop against a reference, at a stated rate of false alarms.

    At regular starts a likelihood ratio begins: of "dropped by `drop` or more" (a mixture over several drops) against "as in the
    reference", each averaged over what the reference's sampling error leaves open: Robbins' mixture ("Statistical methods related to the
    law of the iterated logarithm", 1970), the mixture SPRT of A/B testing. The sum over all starts is compared with a threshold: the
    Shiryaev–Roberts form of an e-detector (Shin, Ramdas and Rinaldo, "E-detectors", NEJSDS 2023). Where nothing drops, each ratio has an
    expectation of 1 at any time, so the sum of `horizon / every` starts reaches `horizon / every / alpha` with a probability of at most
    `alpha` (Doob), and alarms are at least `horizon / alpha` labels apart on average, however often one looks. That is exact for a
    reference known exactly and for shares; for means it is as good as the normal approximation, and for an estimated reference it holds on
    average over its error.

    Args:
        reference: What was reached before.
        drop: The smallest drop that matters, in the metric's unit.
        alpha: Largest probability of a false alarm within `horizon` labels.
        horizon: So many labels belong to one `alpha`: those of a month, say.
        every: Labels between two starts: fewer find a sudden drop sooner after long good times, and raise the threshold.
        worse: `lower` where a lower value is worse, as of accuracy; `higher` as of a loss.

    Attributes:
        rows: Labels seen since the beginning or the last `restart`.
        evidence: The sum now.
        highest: The largest sum seen.

    Example:
        >>> detector = DropDetector(Reference.of_share(0.9))
        >>> detector.update(np.arange(3000) % 5 > 0)  # 80 % right
        True
    """

    def __init__(
        self,
        reference: Reference,
        *,
        drop: float = 0.02,
        alpha: float = 0.05,
        horizon: int = HORIZON,
        every: int = EVERY,
        worse: str = "lower",
    ) -> None:
        if not drop > 0 or not 0 < alpha < 1 or every < 1 or horizon < 1 or not reference.std >= 0:
            raise InputError(
                f"drop is {drop}, alpha {alpha}, horizon {horizon}, every {every}", hint="drop > 0, 0 < alpha < 1, the rest >= 1"
            )
        if worse not in {"lower", "higher"}:
            raise InputError(f"worse is {worse!r}", hint="allowed: lower, higher")
        self.reference, self.drop, self.alpha = reference, drop, alpha
        self.horizon, self.every, self.worse = horizon, every, worse
        self.threshold = max(math.ceil(horizon / every), 1) / alpha
        self._weigh()
        self.restart()

    @property
    def guarantee(self) -> str:
        """The rate of false alarms in words."""
        return (
            f"where nothing drops, at most {self.alpha:.0%} of stretches of {self.horizon:,} labels raise an alarm, "
            f"and two are at least {round(self.horizon / self.alpha):,} labels apart on average"
        )

    def restart(self) -> None:
        """Forget what was seen, as after an alarm that was acted on."""
        self.rows = 0
        self.evidence = self.highest = 0.0
        # by start: labels (or weights) and sums up to it
        self._starts = np.zeros((1, 2))
        self._now = np.zeros(2)

    def update(self, values: ArrayLike) -> bool:
        """Take in labelled rows: whether each answer was right, or its loss; return whether an alarm is raised at any look.

        There is a look at the end of each batch, and each 25 rows within it.
        """
        given = np.asarray(values, dtype=np.float64).ravel()
        if not len(given):
            return False
        return self.update_sums(np.ones(len(given)), given)

    def update_sums(self, weights: ArrayLike, sums: ArrayLike) -> bool:
        """Take in blocks that were summed up already.

        Args:
            weights: How many rows each block stands for, `[blocks]`.
            sums: Each block's sum of values: its mean times its weight.
        """
        pairs = np.stack([np.asarray(weights, dtype=np.float64), np.asarray(sums, dtype=np.float64)], axis=1)
        raised = False
        for piece in self._between_starts(pairs):
            totals = self._now + np.cumsum(piece, axis=0)
            looks = np.unique(np.r_[np.arange(LOOK - 1, len(totals), LOOK), len(totals) - 1])
            sums_of = self._evidence(totals[looks])
            self._now = totals[-1]
            self.rows = round(self._now[0])
            self.evidence, self.highest = float(sums_of[-1]), max(self.highest, float(sums_of.max()))
            raised |= bool((sums_of >= self.threshold).any())
        return raised

    def to_json(self) -> dict[str, Any]:
        """Return what was seen as plain JSON values; the arguments are not in it."""
        return {"starts": self._starts.tolist(), "now": self._now.tolist(), "evidence": self.evidence, "highest": self.highest}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_json` of a detector with the same arguments returned."""
        self._starts, self._now = np.array(state["starts"], dtype=np.float64), np.array(state["now"], dtype=np.float64)
        self.rows, self.evidence, self.highest = round(self._now[0]), float(state["evidence"]), float(state["highest"])

    def _between_starts(self, pairs: np.ndarray) -> Any:
        """Yield the blocks up to each next start, noting the starts that come."""
        place = 0
        rows = self._now[0] + np.cumsum(pairs[:, 0])
        while place < len(pairs):
            due = self._starts[-1, 0] + self.every
            if self._now[0] >= due:
                # the oldest are given up: less evidence, never a false alarm more
                self._starts = np.concatenate([self._starts, self._now[None]])[-STARTS:]
                continue
            end = min(int(np.searchsorted(rows, due)) + 1, len(pairs))
            yield pairs[place:end]
            place = end

    def _weigh(self) -> None:
        """Lay out the values that the likelihoods are averaged over, and how much each counts."""
        reference, sign = self.reference, 1.0 if self.worse == "lower" else -1.0
        known = reference.error == 0
        steps = np.zeros(1) if known else np.linspace(-4, 4, _POINTS)
        density = np.exp(-(steps**2) / 2)
        null = reference.value + steps * reference.error
        dropped = (null[:, None] - sign * self.drop * _DROPS).ravel()
        values = np.r_[null, dropped]
        weights = np.r_[density / density.sum(), np.outer(density / density.sum(), _WEIGHTS).ravel()]
        if reference.share:
            values = values.clip(1e-4, 1 - 1e-4)
            self._slopes = np.stack([np.log1p(-values), np.log(values) - np.log1p(-values)])
        else:
            centered = values - reference.value  # likelihoods about the reference: large means lose no digits
            scale = max(reference.std, 1e-12) ** 2
            self._slopes = np.stack([-(centered**2) / 2 / scale, centered / scale])
        self._log_weights = np.log(np.maximum(weights, 1e-300))
        self._nulls = len(null)

    def _evidence(self, totals: np.ndarray) -> np.ndarray:
        """Return the sum over all starts at each look, `[looks]`."""
        since = totals[:, None, :] - self._starts[None]
        if not self.reference.share:
            since = np.stack([since[..., 0], since[..., 1] - since[..., 0] * self.reference.value], axis=-1)
        logs = since @ self._slopes + self._log_weights
        ratio = _log_sum(logs[..., self._nulls :]) - _log_sum(logs[..., : self._nulls])
        return np.asarray(np.exp(ratio.clip(max=600.0)).sum(axis=1))


def auc_blocks(score: np.ndarray, truth: np.ndarray, *, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return the area under the ROC curve of consecutive blocks, each with how many rows it stands for.

    Args:
        score: `[n]`, higher for what is more likely positive.
        truth: bool `[n]`.
        rows: Rows of one block; what does not fill one is left out, and so are blocks of one class.

    Returns:
        Weights `[blocks]`, by `auc_weight` (a block of one class says nothing), and areas `[blocks]`.
    """
    weights, areas = [], []
    for start in range(0, len(score) - rows + 1, rows):
        part, positive = score[start : start + rows], truth[start : start + rows].astype(bool)
        found = int(positive.sum())
        if 0 < found < rows:
            u = float(mid_ranks(part)[positive].sum()) - found * (found + 1) / 2
            weights.append(auc_weight(found, rows))
            areas.append(u / (found * (rows - found)))
    return np.array(weights), np.array(areas)


def auc_weight(positives: float, rows: float) -> float:
    """Return how many rows an area under the ROC curve stands for: with few rows of one class it is known no better than from few rows.

    Args:
        positives: How many rows are positive, 0 to `rows`.
        rows: How many there are, 1 or more.

    Example:
        >>> auc_weight(500, 1000), auc_weight(50, 1000)
        (1000.0, 190.0)
    """
    return 4 * positives * (rows - positives) / rows


def auc_std(value: float, positives: float) -> float:
    """Return the standard deviation that one row contributes to an area under the ROC curve, for a `Reference`.

    Rows are those of `auc_weight`, for the reference and for what is compared with it.

    Hanley and McNeil, "The meaning and use of the area under a ROC curve" (Radiology 1982), per row of weight as `auc_blocks` counts them.

    Args:
        value: The area.
        positives: Share of positive rows, in (0, 1).
    """
    rows = 200.0
    yes, no = rows * positives, rows * (1 - positives)
    first, second = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (value * (1 - value) + (yes - 1) * (first - value**2) + (no - 1) * (second - value**2)) / (yes * no)
    return math.sqrt(max(variance, 0.0) * 4 * yes * no / rows)


def _log_sum(logs: np.ndarray) -> np.ndarray:
    top = logs.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(logs - top).sum(axis=-1)) + top[..., 0])

"""Which answers of a model become labels: the sure ones, class by class, in the proportion that is wanted.

Self-training is old (Scudder 1965; Yarowsky, "Unsupervised word sense disambiguation rivaling supervised methods", ACL 1995,
https://aclanthology.org/P95-1026) and works in networks too (Lee, "Pseudo-label", 2013; Xie et al., "Self-training with noisy student",
CVPR 2020, https://arxiv.org/abs/1911.04252). What it lives and dies by is which rows are taken: this module decides that, and nothing else.

Legend of shapes: `n` rows without a label · `k` classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepseek.errors import InputError, UnknownNameError

USUAL_THRESHOLD = 0.9


@dataclass(frozen=True)
class ChoiceRules:
    """Which answers are taken for labels.

    Args:
        choose: `threshold` takes the answers that are sure enough. `curriculum` lowers the threshold of classes of which few rows are sure
            yet (Zhang et al., "FlexMatch", NeurIPS 2021, https://arxiv.org/abs/2110.08263). `top` takes of each class the surest `share`,
            and as many more in each round (Cascante-Bonilla et al., "Curriculum labeling", AAAI 2021, https://arxiv.org/abs/2001.06001).
        threshold: How likely the likeliest class must be, above 0 to 1; by class, 0.9 for those that are not named.
        share: Share of the rows taken in the first round by `top`, above 0 to 1.
        balance: Whether classes are taken in the proportion of the labelled rows (`training`), alike (`equal`), or as they come (`none`).
        most: Most rows taken; all where not given.
    """

    choose: Literal["threshold", "curriculum", "top"] = "threshold"
    threshold: float | Mapping[str, float] = USUAL_THRESHOLD
    share: float = 0.2
    balance: Literal["training", "equal", "none"] = "training"
    most: int | None = None


@dataclass(frozen=True)
class Chosen:
    """The rows that are taken.

    Attributes:
        rows: Their numbers, ascending, int64 `[m]`.
        sure: How many rows of each class were sure enough, before classes were balanced: int64 `[k]`.
        counts: How many of each class were taken, int64 `[k]`.
        thresholds: What each class had to reach, float64 `[k]`; of `top` the least that was taken.
    """

    rows: np.ndarray
    sure: np.ndarray
    counts: np.ndarray
    thresholds: np.ndarray


def choose_rows(
    confidence: np.ndarray, label: np.ndarray, rules: ChoiceRules, *, classes: Sequence[str], known: Sequence[int], number: int = 1
) -> Chosen:
    """Return the rows whose answers become labels.

    Among equally sure rows of a class the first ones are taken, so the choice depends on nothing but the arguments.

    Args:
        confidence: How likely the likeliest class of each row is, float `[n]`.
        label: Which class that is, int `[n]`.
        rules: What is taken.
        classes: The names of the classes.
        known: How many labelled rows there are of each class, `[k]`; for `balance: training`.
        number: The round, from 1.

    Raises:
        UnknownNameError: A threshold is given for what is no class.
    """
    count = len(classes)
    wanted = _thresholds(rules, classes)
    if rules.choose == "curriculum":
        wanted = wanted * learned(confidence, label, wanted)
    if rules.choose == "top":
        of_each = np.bincount(label, minlength=count)
        limits = np.ceil(min(rules.share * number, 1.0) * of_each - 1e-9).astype(np.int64)
        sure = np.ones(len(label), dtype=bool)
    else:
        sure = confidence >= wanted[label] if len(label) else np.zeros(0, dtype=bool)
        limits = np.bincount(label[sure], minlength=count)
    there = limits.copy()
    limits = np.minimum(limits, caps(limits, rules, known))
    rows = [_surest(confidence, np.flatnonzero(sure & (label == code)), int(limits[code])) for code in range(count)]
    if rules.choose == "top":
        wanted = np.array([float(confidence[part].min()) if len(part) else 1.0 for part in rows])
    taken = np.sort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)
    return Chosen(taken, there, np.array([len(part) for part in rows], dtype=np.int64), wanted)


def learned(confidence: np.ndarray, label: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return by what FlexMatch lowers each class's threshold, from 0 (nothing of it is sure yet) to 1 (the best learned), float64 `[k]`.

    Args:
        confidence: How likely the likeliest class of each row is, `[n]`.
        label: Which class that is, `[n]`.
        thresholds: The full thresholds, `[k]`.
    """
    sure = np.bincount(label[confidence >= thresholds[label]], minlength=len(thresholds)) if len(label) else np.zeros(len(thresholds))
    most = max(int(sure.max(initial=0)), len(label) - int(sure.sum()), 1)  # few sure rows in all say little of any class
    status = sure / most
    return np.asarray(status / (2.0 - status))


def caps(counts: np.ndarray, rules: ChoiceRules, known: Sequence[int]) -> np.ndarray:
    """Return how many rows of each class may be taken at most, int64 `[k]`.

    In proportion means: the class that is scarcest beside its share is taken whole and the others only so far; of a class without a single
    sure row the others get no more than one such row would allow them. Without that the commonest class, which a model is sure of first,
    drives the others out.

    Args:
        counts: How many there are of each class, `[k]`.
        rules: The wanted proportion, and the most in all.
        known: How many labelled rows there are of each class, `[k]`.
    """
    limits = counts.astype(np.int64)
    shares = np.asarray(known, dtype=np.float64) if rules.balance == "training" else np.ones(len(counts))
    shares = shares / max(shares.sum(), 1.0)
    if rules.balance != "none":
        present = shares > 0
        scale = float((np.maximum(counts[present], 1) / shares[present]).min())
        limits = np.minimum(limits, np.floor(scale * shares + 1e-9).astype(np.int64))
    if rules.most is not None and limits.sum() > rules.most:
        limits = np.floor(limits * (rules.most / limits.sum())).astype(np.int64)
    return limits


def _thresholds(rules: ChoiceRules, classes: Sequence[str]) -> np.ndarray:
    if not isinstance(rules.threshold, Mapping):
        return np.full(len(classes), float(rules.threshold))
    for name, value in rules.threshold.items():
        if name not in classes:
            raise UnknownNameError("class", name, classes)
        if not 0 < value <= 1:
            raise InputError(f"the threshold of the class {name!r} is {value}", hint="allowed: above 0, at most 1")
    return np.array([float(rules.threshold.get(name, USUAL_THRESHOLD)) for name in classes])


def _surest(confidence: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    return rows if len(rows) <= most else rows[np.argsort(-confidence[rows], kind="stable")[:most]]

"""Confident learning: which given labels are probably wrong, and how labels are confused, from out-of-fold probabilities.

Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021,
https://doi.org/10.1613/jair.1.12125; sections and methods below are the paper's. What a label is trusted by is the mean probability of its
own class among the rows that bear it, so that neither rare classes nor a network that is too sure or too shy has to be put right first.

Probabilities must come from networks that have not seen the row: one that has seen it has learnt its wrong label by heart.

Legend of shapes: `n` rows · `k` classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepseek.errors import InputError

Method = Literal["both", "class", "noise_rate", "joint"]
"""How suspects are chosen: `class` and `noise_rate` prune as many rows as the joint says (by self-confidence, by margin), `both` where the
two agree, `joint` those that were counted beside its diagonal."""


@dataclass(frozen=True)
class LabelNoise:
    """How given labels and true ones are thought to go together.

    Attributes:
        thresholds: What a probability of each class must reach to count, float64 `[k]`; infinite for a class that no row bears.
        counts: The confident joint: rows that bear a label (first axis) and confidently belong to a class (second), int64 `[k, k]`.
        joint: The same as shares of all rows, calibrated to how many rows bear each label; float64 `[k, k]`, sums to 1.
        best: Each row's class: the likeliest of those that reach their thresholds, else the likeliest of all; int64 `[n]`.
        confident: Whether a class reached its threshold, bool `[n]`.
    """

    thresholds: np.ndarray
    counts: np.ndarray
    joint: np.ndarray
    best: np.ndarray
    confident: np.ndarray

    @property
    def share(self) -> float:
        """The share of rows that are thought to bear a wrong label."""
        return float(1.0 - np.trace(self.joint))

    @property
    def by_class(self) -> np.ndarray:
        """The same among the rows that bear each label, float64 `[k]`; NaN for a label that no row bears."""
        borne = self.joint.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(1.0 - np.diagonal(self.joint) / np.where(borne > 0, borne, np.nan))


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is probably wrong, the surest first.

    Attributes:
        rows: Which rows, int64 `[s]`.
        suggested: The class that they rather belong to, int64 `[s]`.
        self_confidence: The probability of the label that they bear, float64 `[s]`.
        margin: That probability less the largest of any other class, float64 `[s]`; what they are ordered by.
    """

    rows: np.ndarray
    suggested: np.ndarray
    self_confidence: np.ndarray
    margin: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def label_noise(given: np.ndarray, probability: np.ndarray) -> LabelNoise:
    """Return how given labels and true ones go together (the paper's section 3.1).

    Args:
        given: The labels, int `[n]`, from 0.
        probability: Out-of-fold probabilities, float `[n, k]`.

    Raises:
        InputError: There is no row, a label is no class, or a probability is NaN or outside of 0 to 1.
    """
    given, probability = _checked(given, probability)
    classes = probability.shape[1]
    borne = np.bincount(given, minlength=classes)
    own = probability[np.arange(len(given)), given]
    sums = np.bincount(given, weights=own, minlength=classes)
    thresholds = np.where(borne > 0, sums / np.maximum(borne, 1), np.inf)
    # a mean of equal numbers may come out a rounding above each of them, and then nothing would reach it
    reached = probability >= thresholds - 8 * np.finfo(np.float64).eps
    confident = np.asarray(reached.any(axis=1))
    best = np.where(confident, np.where(reached, probability, -1.0).argmax(axis=1), probability.argmax(axis=1))
    counts = np.bincount(given[confident] * classes + best[confident], minlength=classes * classes).reshape(classes, classes)
    return LabelNoise(thresholds, counts, calibrated_joint(counts, borne), best, confident)


def calibrated_joint(counts: np.ndarray, borne: np.ndarray) -> np.ndarray:
    """Return the confident joint as shares of all rows, each label's row scaled to how many rows bear it.

    A label that bears rows none of which was counted is taken to be right: nothing is known against it.

    Args:
        counts: The confident joint, int `[k, k]`.
        borne: How many rows bear each label, int `[k]`, one or more in all.
    """
    known = counts.sum(axis=1, keepdims=True)
    shares = np.where(known > 0, counts / np.maximum(known, 1), np.eye(len(counts)))
    scaled = shares * np.asarray(borne, dtype=np.float64)[:, None]
    return np.asarray(scaled / scaled.sum())


def find_suspects(given: np.ndarray, probability: np.ndarray, *, method: Method = "both") -> Suspects:
    """Return the rows whose label is probably wrong, by margin.

    Whatever the method, a row is no suspect whose best class is the one that it bears: of classes with much noise the pruning of the paper
    may reach such rows, and nothing could be suggested instead.

    Args:
        given: The labels, int `[n]`, from 0.
        probability: Out-of-fold probabilities, float `[n, k]`.
        method: How they are chosen (the paper's section 3.2).

    Raises:
        InputError: As `label_noise`.
    """
    given, probability = _checked(given, probability)
    noise = label_noise(given, probability)
    wrong = noise.best != given
    if method == "joint":
        wrong &= noise.confident
    if method in ("class", "both"):
        wrong &= prune_by_class(given, probability, noise.joint)
    if method in ("noise_rate", "both"):
        wrong &= prune_by_noise_rate(given, probability, noise.joint)
    rows = np.flatnonzero(wrong)
    own, margin = confidence(given[rows], probability[rows])
    order = np.lexsort((rows, own, margin))
    return Suspects(rows[order], noise.best[rows][order], own[order], margin[order])


def find_label_suspects(given: np.ndarray, probability: np.ndarray, *, method: Method = "both") -> list[Suspects]:
    """Return for each label of a multi-label target the rows of which it is wrongly said to be true or false.

    Each label is a question of two classes by itself (one against the rest); class 1 is true.

    Args:
        given: Which labels are said to be true, bool `[n, k]`.
        probability: Out-of-fold probabilities, float `[n, k]`.
        method: How suspects are chosen.

    Raises:
        InputError: The shapes differ, or as `label_noise`.
    """
    if given.shape != probability.shape:
        raise InputError(f"labels of shape {given.shape} came with probabilities of shape {probability.shape}", hint="one for each label")
    found = []
    for truth, chance in zip(given.T, np.asarray(probability, dtype=np.float64).T, strict=True):
        found.append(find_suspects(truth.astype(np.int64), np.column_stack([1.0 - chance, chance]), method=method))
    return found


def prune_by_class(given: np.ndarray, probability: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Return the rows to prune by class, bool `[n]`: of each label as many as the joint has beside its diagonal, the least sure of it."""
    wrong = np.zeros(len(given), dtype=bool)
    for label in range(len(joint)):
        rows = np.flatnonzero(given == label)
        most = int(np.rint(len(given) * (joint[label].sum() - joint[label, label])))
        wrong[_lowest(rows, probability[rows, label], most)] = True
    return wrong


def prune_by_noise_rate(given: np.ndarray, probability: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Return the rows to prune by noise rate, bool `[n]`: of each pair of classes as many as its cell says, by their margin."""
    wrong = np.zeros(len(given), dtype=bool)
    counts = np.rint(len(given) * joint).astype(np.int64)
    for label in range(len(joint)):
        rows = np.flatnonzero(given == label)
        for other in np.flatnonzero(counts[label]):
            if other != label:
                margin = probability[rows, label] - probability[rows, other]
                wrong[_lowest(rows, margin, int(counts[label, other]))] = True
    return wrong


def confidence(given: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's self-confidence and its margin, float64 `[n]` each: small ones are suspect.

    Args:
        given: The labels, int `[n]`.
        probability: Probabilities, float `[n, k]`.
    """
    places = np.arange(len(given))
    own = np.asarray(probability[places, given], dtype=np.float64)
    others = np.array(probability, dtype=np.float64)
    others[places, given] = -np.inf
    return own, own - others.max(axis=1, initial=-np.inf)


def _lowest(rows: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
    return np.asarray(rows[np.argsort(scores, kind="stable")[:most]])


def _checked(given: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, chances = np.asarray(given, dtype=np.int64), np.asarray(probability, dtype=np.float64)
    if chances.ndim != 2 or chances.shape[1] < 2 or labels.shape != chances.shape[:1] or not len(labels):
        raise InputError(
            f"labels of shape {labels.shape} came with probabilities of shape {chances.shape}",
            hint="give a label a row, and a probability for each of two classes or more",
        )
    if labels.min() < 0 or labels.max() >= chances.shape[1]:
        raise InputError(f"labels go from {labels.min()} to {labels.max()}", hint=f"allowed: 0 to {chances.shape[1] - 1}")
    if not ((chances >= 0.0) & (chances <= 1.0 + 1e-6)).all():
        raise InputError("a probability is NaN or outside of 0 to 1", hint="give what a softmax or a sigmoid returns")
    return labels, chances

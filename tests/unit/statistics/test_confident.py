"""Confident learning is the paper's, finds planted errors, and tells of few where there are none."""

import numpy as np
import pytest

from deepseek.errors import InputError
from deepseek.statistics.confident import (
    calibrated_joint,
    confidence,
    find_label_suspects,
    find_suspects,
    label_noise,
    prune_by_class,
    prune_by_noise_rate,
)

TRANSITION = np.array([[0.85, 0.10, 0.05], [0.05, 0.90, 0.05], [0.20, 0.00, 0.80]])
"""True class by given label."""


def planted(random, rows=6_000, sharpness=6.0, priors=(0.5, 0.3, 0.2)):
    """Return true classes, given labels, and probabilities of a network that is right about the truth but for some noise."""
    true = random.choice(3, rows, p=priors)
    given = np.array([random.choice(3, p=TRANSITION[one]) for one in true])
    logits = random.standard_normal((rows, 3))
    logits[np.arange(rows), true] += sharpness / 2
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return true, given, probability @ TRANSITION  # it learnt from noisy labels


def slow_joint(given, probability):
    """The definitions of section 3.1, row by row."""
    rows, classes = probability.shape
    thresholds = [np.mean([probability[n][j] for n in range(rows) if given[n] == j]) for j in range(classes)]
    counts = np.zeros((classes, classes), dtype=int)
    for n in range(rows):
        passing = [j for j in range(classes) if probability[n][j] >= thresholds[j] - 1e-12]
        if passing:
            counts[given[n]][max(passing, key=lambda j: probability[n][j])] += 1
    joint = np.zeros((classes, classes))
    for i in range(classes):
        for j in range(classes):
            joint[i][j] = counts[i][j] / counts[i].sum() * sum(given == i)
    return np.array(thresholds), counts, joint / joint.sum()


def slow_pruning(given, probability, joint):
    """Methods 3 and 4 of section 3.2, class by class."""
    rows, by_class, by_rate = len(given), set(), set()
    for i in range(len(joint)):
        mine = [n for n in range(rows) if given[n] == i]
        wanted = round(rows * sum(joint[i][j] for j in range(len(joint)) if j != i))
        by_class |= set(sorted(mine, key=lambda n: probability[n][i])[:wanted])
        for j in range(len(joint)):
            if j != i:
                by_rate |= set(sorted(mine, key=lambda n: probability[n][i] - probability[n][j])[: round(rows * joint[i][j])])
    return by_class, by_rate


def test_thresholds_joint_and_pruning_are_the_papers():
    random = np.random.default_rng(0)
    _, given, probability = planted(random, rows=500)
    noise = label_noise(given, probability)
    thresholds, counts, joint = slow_joint(given, probability)
    np.testing.assert_allclose(noise.thresholds, thresholds)
    np.testing.assert_array_equal(noise.counts, counts)
    np.testing.assert_allclose(noise.joint, joint)
    by_class, by_rate = slow_pruning(given, probability, joint)
    assert set(np.flatnonzero(prune_by_class(given, probability, joint))) == by_class
    assert set(np.flatnonzero(prune_by_noise_rate(given, probability, joint))) == by_rate


def test_each_method_chooses_what_the_paper_says():
    random = np.random.default_rng(1)
    _, given, probability = planted(random, rows=500)
    _, _, joint = slow_joint(given, probability)
    by_class, by_rate = slow_pruning(given, probability, joint)
    noise = label_noise(given, probability)
    wrong = set(np.flatnonzero(noise.best != given))
    assert set(find_suspects(given, probability, method="class").rows) == by_class & wrong
    assert set(find_suspects(given, probability, method="noise_rate").rows) == by_rate & wrong
    assert set(find_suspects(given, probability, method="both").rows) == by_class & by_rate & wrong
    off = find_suspects(given, probability, method="joint")
    assert len(off) == noise.counts.sum() - np.trace(noise.counts)
    assert len({len(by_class & wrong), len(by_rate & wrong), len(by_class & by_rate & wrong), len(off)}) > 1


def test_the_joint_of_ideal_probabilities_is_exact():
    """Theorem 1 of the paper: a network that knows the noise finds every wrong label, and counts the joint exactly."""
    random = np.random.default_rng(2)
    true = random.choice(3, 3_000, p=(0.5, 0.3, 0.2))
    given = np.array([random.choice(3, p=TRANSITION[one]) for one in true])
    probability = TRANSITION[true]
    real = np.bincount(given * 3 + true, minlength=9).reshape(3, 3)
    noise = label_noise(given, probability)
    np.testing.assert_array_equal(noise.counts, real)
    np.testing.assert_allclose(noise.joint, real / 3_000)
    assert noise.share == pytest.approx((given != true).mean())
    found = find_suspects(given, probability, method="joint")
    assert sorted(found.rows) == np.flatnonzero(given != true).tolist()
    assert (found.suggested == true[found.rows]).all()


@pytest.mark.parametrize("method", ["both", "class", "noise_rate", "joint"])
def test_planted_errors_are_found(method):
    true, given, probability = planted(np.random.default_rng(3))
    found = find_suspects(given, probability, method=method)
    wrong = given != true
    hits = wrong[found.rows].sum()
    assert hits / wrong.sum() > 0.6
    assert hits / len(found) > 0.6
    assert (found.suggested[wrong[found.rows]] == true[found.rows][wrong[found.rows]]).mean() > 0.9


def test_the_share_of_wrong_labels_is_estimated_class_by_class():
    true, given, probability = planted(np.random.default_rng(4), rows=20_000, sharpness=10.0)
    noise = label_noise(given, probability)
    assert noise.share == pytest.approx((given != true).mean(), abs=0.02)
    real = [(true[given == k] != k).mean() for k in range(3)]
    assert noise.by_class == pytest.approx(real, abs=0.04)


def test_the_surest_come_first():
    true, given, probability = planted(np.random.default_rng(5))
    found = find_suspects(given, probability, method="joint")
    own, margin = confidence(given, probability)
    assert (np.diff(found.margin) >= 0).all()
    np.testing.assert_allclose(found.margin, margin[found.rows])
    np.testing.assert_allclose(found.self_confidence, own[found.rows])
    right = (given != true)[found.rows]
    half = len(right) // 2
    assert right[:half].mean() > right[half:].mean()


def test_few_are_told_of_where_every_label_is_right():
    random = np.random.default_rng(6)
    true = random.choice(3, 6_000)
    logits = random.standard_normal((6_000, 3))
    logits[np.arange(6_000), true] += 4.0
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert len(find_suspects(true, probability)) < 0.02 * 6_000


def test_thresholds_by_class_save_a_rare_class():
    """A network that hardly believes in a rare class: by the likeliest class alone its rows would all be suspects."""
    random = np.random.default_rng(7)
    given = (random.random(4_000) < 0.05).astype(int)
    chance = np.where(given == 1, 0.35, 0.03) + 0.02 * random.standard_normal(4_000)
    probability = np.column_stack([1 - chance.clip(0, 1), chance.clip(0, 1)])
    assert (probability.argmax(axis=1) != given)[given == 1].mean() > 0.9
    found = find_suspects(given, probability, method="joint")
    assert (given[found.rows] == 1).sum() < 0.05 * given.sum()


def test_labels_are_judged_each_by_itself():
    random = np.random.default_rng(8)
    true = random.random((3_000, 2)) < (0.5, 0.2)
    flipped = random.random((3_000, 2)) < (0.1, 0.0)
    chance = np.where(true, 0.85, 0.1) + 0.05 * random.standard_normal((3_000, 2))
    first, second = find_label_suspects(true ^ flipped, chance.clip(0, 1), method="joint")
    assert flipped[first.rows, 0].all()
    assert len(first) > 0.8 * flipped[:, 0].sum()
    assert len(second) == 0
    assert (first.suggested == true[first.rows, 0]).all()


def test_a_class_without_rows_and_one_that_nothing_is_known_of():
    probability = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.3, 0.7, 0.0]])
    noise = label_noise(np.array([0, 0, 1]), probability)
    assert np.isinf(noise.thresholds[2])
    assert noise.joint.sum() == pytest.approx(1)
    assert np.isnan(noise.by_class[2])
    joint = calibrated_joint(np.array([[3, 1], [0, 0]]), np.array([8, 2]))
    np.testing.assert_allclose(joint, [[0.6, 0.2], [0.0, 0.2]])


def test_equal_probabilities_reach_their_own_mean():
    noise = label_noise(np.array([0] * 7 + [1] * 3), np.tile([0.1, 0.9], (10, 1)) + 0.0)
    assert noise.confident.all()


@pytest.mark.parametrize(
    ("given", "probability", "said"),
    [
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "from 0 to 2"),
        ([0, 1], [[0.5, np.nan], [0.5, 0.5]], "NaN"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], "shape"),
        ([], np.empty((0, 2)), "shape"),
    ],
)
def test_what_cannot_be_judged_is_refused(given, probability, said):
    with pytest.raises(InputError, match=said):
        find_suspects(np.array(given, dtype=int), np.array(probability))

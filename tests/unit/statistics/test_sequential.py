import json
import math

import numpy as np
import pytest

from deepseek.errors import InputError
from deepseek.monitoring.outcomes import area
from deepseek.statistics.sequential import DropDetector, Reference, auc_blocks, auc_std, auc_weight, drop_test, labels_needed, smallest_drop

KNOWN = Reference.of_share(0.9)


def first_alarm(detector, values, step=250):
    for start in range(0, len(values), step):
        if detector.update(values[start : start + step]):
            return min(start + step, len(values))
    return None


def alarms(repeats, make, stream, labels, seed=0):
    draw = np.random.default_rng(seed)
    return [first_alarm(make(draw), stream(draw, labels)) for _ in range(repeats)]


def right(share):
    return lambda draw, labels: draw.random(labels) < share


def test_the_yardstick_from_90_to_88():
    assert labels_needed(0.9, 0.02) == pytest.approx(1470.5, abs=0.1)
    assert labels_needed(0.9, 0.02, reference_rows=6000) == pytest.approx(1915, abs=1)
    assert labels_needed(0.9, 0.02, reference_rows=500) == math.inf
    assert labels_needed(0.9, 0.01) > 5_000


def test_the_smallest_drop_is_what_endless_labels_find_with_the_power():
    reference, draw = Reference.of_share(0.84, rows=1800), np.random.default_rng(0)
    drop = smallest_drop(reference)
    measured = draw.binomial(1800, 0.84, 4_000) / 1800  # the reference itself is drawn; labels without end know the truth
    found = [drop_test(0.84 - drop, 10**9, Reference.of_share(value, rows=1800)).alarm for value in measured]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
    assert labels_needed(0.84, drop * 0.98, reference_rows=1800) == math.inf
    assert labels_needed(0.84, drop * 1.05, reference_rows=1800) < math.inf


@pytest.mark.parametrize(("share", "expected"), [(0.9, 0.05), (0.88, 0.8)])
def test_the_fixed_test_has_the_size_and_power_that_it_states(share, expected):
    counts = np.random.default_rng(0).binomial(1_471, share, 4_000)
    raised = np.mean([drop_test(count / 1_471, 1_471, KNOWN).alarm for count in counts.tolist()])
    assert raised == pytest.approx(expected, abs=0.025)


def test_an_uncertain_reference_keeps_the_size():
    draw = np.random.default_rng(1)
    raised = []
    for _ in range(4_000):
        reference = Reference.of_share(draw.binomial(1_000, 0.9) / 1_000, 1_000)
        raised.append(drop_test(draw.binomial(2_000, 0.9) / 2_000, 2_000, reference).alarm)
    assert np.mean(raised) == pytest.approx(0.05, abs=0.015)
    naive = Reference.of_share(0.9)
    assert drop_test(0.8825, 2_000, naive).p < drop_test(0.8825, 2_000, Reference.of_share(0.9, 1_000)).p


def test_a_loss_that_rises_is_worse():
    assert drop_test(0.45, 1_000, Reference(0.4, 0.4), worse="higher").alarm
    assert not drop_test(0.35, 1_000, Reference(0.4, 0.4), worse="higher").alarm


def test_looking_again_and_again_with_the_fixed_test_breaks_its_promise():
    draw = np.random.default_rng(2)
    raised = []
    for _ in range(200):
        so_far = np.cumsum(draw.random(10_000) < 0.9)
        raised.append(any(drop_test(so_far[n - 1] / n, n, KNOWN).alarm for n in range(100, 10_001, 100)))
    assert np.mean(raised) > 0.2


@pytest.mark.parametrize("rows", [math.inf, 4_000])
def test_false_alarms_stay_below_what_is_stated_however_often_one_looks(rows):
    def make(draw):
        return DropDetector(
            Reference.of_share(0.9 if math.isinf(rows) else draw.binomial(rows, 0.9) / rows, rows), alpha=0.1, horizon=5_000
        )

    raised = sum(place is not None for place in alarms(300, make, right(0.9), 5_000))
    assert raised / 300 <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 300)


@pytest.mark.parametrize(("drop", "labels", "power"), [(0.01, 10_000, 0.5), (0.02, 4_000, 0.7), (0.05, 1_000, 0.75)])
def test_power_at_one_two_and_five_points(drop, labels, power):
    found = alarms(120, lambda draw: DropDetector(KNOWN), right(0.9 - drop), labels)
    assert np.mean([place is not None for place in found]) >= power


def test_a_drop_after_long_good_times_is_found_as_fast():
    def changing(draw, labels):
        return np.r_[draw.random(40_000) < 0.9, draw.random(labels) < 0.85]

    # a false alarm in the good times is possible, and no matter here
    with_starts = alarms(10, lambda draw: DropDetector(KNOWN, alpha=0.01), changing, 3_000)
    one_start = alarms(10, lambda draw: DropDetector(KNOWN, alpha=0.01, every=10**9, horizon=10**9), changing, 3_000)
    assert np.mean([place is not None and place > 40_000 for place in with_starts]) > 0.8
    assert np.mean([place is not None for place in one_start]) <= 0.2  # its evidence for "no drop" has to be used up first


def test_better_than_the_reference_is_no_alarm():
    assert alarms(20, lambda draw: DropDetector(KNOWN), right(0.95), 20_000) == [None] * 20


def test_a_mean_loss_that_rises_is_found_and_one_that_stays_is_not():
    reference = Reference(0.4, 0.4)

    def make(draw):
        return DropDetector(reference, drop=0.05, worse="higher")

    def losses(mean):
        return lambda draw, labels: draw.exponential(mean, labels)

    assert np.mean([place is not None for place in alarms(100, make, losses(0.4), 10_000)]) <= 0.1
    assert np.mean([place is not None for place in alarms(50, make, losses(0.47), 5_000)]) >= 0.9
    assert alarms(20, make, losses(0.3), 5_000) == [None] * 20


def test_an_area_under_the_curve_that_falls_is_found():
    def blocks(shift, draw):
        truth = draw.random(20_000) < 0.3
        return auc_blocks(draw.normal(truth * shift), truth)

    draw = np.random.default_rng(0)
    weights, areas = blocks(1.5, draw)
    value = float(np.average(areas, weights=weights))
    assert value == pytest.approx(0.8556, abs=0.01)  # Phi(1.5 / sqrt 2)
    std = auc_std(value, 0.3)
    assert np.sqrt(weights) @ np.abs(areas - value) / len(areas) == pytest.approx(std * math.sqrt(2 / math.pi), rel=0.2)
    raised = {1.5: 0, 1.3: 0}
    for shift in raised:
        for _ in range(20):
            detector = DropDetector(Reference(0.8556, std), drop=0.02)
            weights, areas = blocks(shift, draw)
            raised[shift] += detector.update_sums(weights, weights * areas)
    assert raised[1.5] <= 3
    assert raised[1.3] >= 18


def test_the_order_of_batches_within_a_look_and_json_change_nothing():
    draw = np.random.default_rng(3)
    values = draw.random(3_000) < 0.87
    whole, parts = DropDetector(KNOWN), DropDetector(KNOWN)
    whole.update(values)
    for part in np.array_split(values, 60):
        parts.update(part)
        again = DropDetector(KNOWN)
        again.load_json(json.loads(json.dumps(parts.to_json())))
        parts = again
    assert parts.evidence == pytest.approx(whole.evidence)
    assert parts.rows == whole.rows == 3_000


def test_the_promise_is_in_words():
    assert DropDetector(KNOWN).guarantee.startswith("where nothing drops, at most 5% of stretches of 10,000 labels raise an alarm")


def test_a_restart_forgets():
    detector = DropDetector(KNOWN)
    assert detector.update(np.zeros(500))
    detector.restart()
    assert (detector.rows, detector.evidence, detector.update([])) == (0, 0.0, False)


@pytest.mark.parametrize("wrong", [{"drop": 0}, {"alpha": 1.0}, {"every": 0}, {"worse": "left"}])
def test_arguments_are_checked(wrong):
    with pytest.raises(InputError):
        DropDetector(KNOWN, **wrong)
    with pytest.raises(InputError, match=r"share of 1\.5"):
        Reference.of_share(1.5)


@pytest.mark.parametrize("positives", [0.5, 0.05, 0.02])
def test_an_area_of_few_positives_is_not_taken_for_surer_than_it_is(positives):
    draw, rows = np.random.default_rng(1), 2000

    def drawn():
        truth = draw.random(rows) < positives
        score = draw.normal(size=rows) + 1.2 * truth
        return area(score, truth), auc_weight(float(truth.sum()), rows)

    raised = []
    for _ in range(300):
        value, weight = drawn()
        reference = Reference(value, auc_std(value, positives), weight)
        raised.append(drop_test(*drawn(), reference).alarm)
    assert np.mean(raised) <= 0.09  # 0.05, and what 300 draws leave open


def test_a_reference_that_made_no_mistake_on_few_rows_is_not_taken_for_one_that_makes_none():
    perfect = Reference.of_share(1.0, 50)
    assert not drop_test(0.995, 1_000, perfect).alarm  # fifty right answers are no surprise where one of two hundred is wrong
    assert drop_test(0.8, 1_000, perfect).alarm
    wrong = np.zeros(4_000)
    wrong[::200] = 1.0
    assert not DropDetector(perfect).update(1.0 - wrong)
    assert DropDetector(perfect).update(np.arange(4_000) % 4 > 0)
    assert Reference.of_share(1.0).error == 0.0  # taken as the truth

"""A planted bad slice is found, and none on noise."""

import numpy as np
import pytest
from scipy.stats import hypergeom, mannwhitneyu

from deepseek.statistics.intervals import wilson
from deepseek.statistics.slices import Feature, _holm, _Test, categories, group_errors, quantile_bins, worst_slices

ROWS = 2_000


def features(random, columns=8):
    made = {f"c{n}": categories(random.choice(list("abcd"), ROWS)) for n in range(columns // 2)}
    return made | {f"n{n}": quantile_bins(random.standard_normal(ROWS)) for n in range(columns // 2)}


@pytest.mark.parametrize("binary", [True, False])
def test_a_planted_slice_is_found_first(binary):
    random = np.random.default_rng(0)
    given = features(random)
    bad = given["c1"].codes == 2
    errors = (random.random(ROWS) < 0.1 + 0.3 * bad).astype(float) if binary else random.exponential(1 + 1.0 * bad)
    found, tested = worst_slices(errors, given)
    assert found[0].conditions == (("c1", given["c1"].labels[2]),)
    assert found[0].rows == bad.sum()
    assert found[0].error == pytest.approx(errors[bad].mean())
    assert found[0].others == pytest.approx(errors[~bad].mean())
    assert tested > 400


def test_a_planted_pair_is_found():
    random = np.random.default_rng(1)
    given = features(random)
    bad = (given["c0"].codes == 0) & (given["n0"].codes == 4)
    found, _ = worst_slices((random.random(ROWS) < 0.1 + 0.6 * bad).astype(float), given)
    assert {name for name, _ in found[0].conditions} <= {"c0", "n0"}
    assert any(len(one.conditions) == 2 and one.rows == bad.sum() for one in found)
    assert not any(
        len(one.conditions) == 2 for one in worst_slices((random.random(ROWS) < 0.1 + 0.6 * bad).astype(float), given, pairs=False)[0]
    )


@pytest.mark.parametrize("binary", [True, False])
def test_on_noise_nothing_is_found(binary):
    found = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        errors = (random.random(ROWS) < 0.1).astype(float) if binary else random.exponential(1, ROWS) ** 2
        found += bool(worst_slices(errors, features(random))[0])
    assert found <= 3


def test_without_the_correction_noise_would_be_told_of():
    random = np.random.default_rng(0)
    errors, given = (random.random(ROWS) < 0.1).astype(float), features(random)
    test = _Test(errors)
    raw = [
        test(feature.codes == code)[1] for feature in given.values() for code in range(len(feature.labels)) if (feature.codes == code).any()
    ]
    assert min(raw) < 0.05
    assert worst_slices(errors, given)[0] == []


def test_small_slices_are_not_told_of():
    errors = np.zeros(ROWS)
    errors[:20] = 1
    feature = Feature((np.arange(ROWS) >= 20).astype(int), ["bad", "good"])
    assert worst_slices(errors, {"c": feature}, least_rows=30)[0] == []
    assert worst_slices(errors, {"c": feature}, least_rows=20)[0][0].conditions == (("c", "bad"),)


def test_the_tests_are_scipys():
    random = np.random.default_rng(0)
    mask, errors = random.random(500) < 0.2, (random.random(500) < 0.3).astype(float)
    mask[errors == 1] |= random.random(int(errors.sum())) < 0.2
    inside, total = int(mask.sum()), int(errors.sum())
    assert _Test(errors)(mask)[1] == pytest.approx(hypergeom.sf(errors[mask].sum() - 1, 500, total, inside))
    values = np.round(random.exponential(1 + mask), 1)
    expected = mannwhitneyu(values[mask], values[~mask], alternative="greater", method="asymptotic", use_continuity=False).pvalue
    assert _Test(values)(mask)[1] == pytest.approx(expected)


def test_holm_is_the_papers():
    np.testing.assert_allclose(_holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_bins_name_their_ends_and_missing_values():
    feature = quantile_bins(np.array([*range(100), np.nan]), bins=2)
    assert list(feature.labels) == ["below 49.5", "49.5 and above", "missing"]
    assert np.bincount(feature.codes).tolist() == [50, 50, 1]
    assert list(quantile_bins(np.array([1.0, 2.0, 1.0])).labels) == ["1", "2", "missing"]
    assert categories(["a", None, "a"]).labels == ["a", "missing"]


def test_the_means_are_weighted_and_the_tests_are_of_rows():
    random = np.random.default_rng(0)
    group, weight = random.integers(0, 2, 1_000), random.exponential(1.0, 1_000)
    errors = (random.random(1_000) < np.where(group == 1, 0.6, 0.2)).astype(float)
    given = {"g": Feature(group, ["a", "b"])}
    [plain], [one] = (worst_slices(errors, given, weight=each)[0] for each in (None, weight))
    assert one.error == pytest.approx(np.average(errors[group == 1], weights=weight[group == 1]))
    assert one.others == pytest.approx(np.average(errors[group == 0], weights=weight[group == 0]))
    assert one.error != pytest.approx(plain.error, abs=1e-4)
    assert (one.rows, one.p_value) == (plain.rows, plain.p_value)


def test_a_slice_without_weight_is_not_told_of():
    group = np.repeat([0, 1], 200)
    errors = np.repeat([0.0, 1.0], 200)
    given = {"g": Feature(group, ["a", "b"])}
    assert worst_slices(errors, given)[0]
    assert not worst_slices(errors, given, weight=np.repeat([1.0, 0.0], 200))[0]


@pytest.mark.parametrize("binary", [True, False])
def test_groups_that_are_surely_worse_come_first_and_small_ones_are_not_tested(binary):
    random = np.random.default_rng(0)
    names = random.choice(["fine", "bad", "also fine"], ROWS, p=[0.6, 0.2, 0.2]).astype(object)
    names[:12] = "tiny"
    bad = names == "bad"
    errors = (random.random(ROWS) < 0.1 + 0.3 * bad).astype(float) if binary else random.exponential(1 + 1.0 * bad)
    errors[:12] = 1.0 if binary else 9.0
    groups = group_errors(errors, categories(names))
    assert [one.label for one in groups][:2] == ["bad", "tiny"]
    assert [one.surely_worse for one in groups] == [True, False, False, False]
    assert groups[1].p_value is None
    assert groups[0].rows == bad.sum()
    assert groups[0].error.value == pytest.approx(errors[bad].mean())
    assert groups[0].error.low < groups[0].error.value < groups[0].error.high
    assert groups[0].others == pytest.approx(errors[~bad].mean())
    if binary:
        assert groups[0].error == wilson(errors[bad].sum(), bad.sum())


def test_on_noise_no_group_is_surely_worse():
    found = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        groups = group_errors((random.random(ROWS) < 0.1).astype(float), categories(random.choice(list("abcdefgh"), ROWS)))
        found += any(one.surely_worse for one in groups)
    assert found <= 5


def test_weights_count_in_the_means_of_groups():
    errors, weight = np.array([0.0, 1.0] * 40), np.array([3.0, 1.0] * 40)
    (group,) = group_errors(errors, categories(["a"] * 80), weight=weight)
    assert group.error.value == pytest.approx(0.25)
    assert group.p_value is None

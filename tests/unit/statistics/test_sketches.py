import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek.errors import InputError
from deepseek.statistics.sketch_drift import compare_column, compare_sketches
from deepseek.statistics.sketches import ColumnSketch, NameSketch, NumberSketch, sketch_names, sketch_numbers
from deepseek.statistics.two_sample import kolmogorov_smirnov, population_stability

DRAW = np.random.default_rng(0)
REFERENCE = DRAW.normal(1e6, 2, 20_000)


def folded(reference, values):
    sketch = reference.empty()
    sketch.update(values)
    return sketch


def test_numbers_are_numpys():
    values = np.r_[DRAW.normal(1e6, 3, 5_000), np.nan, np.inf, 1e300]
    sketch = folded(sketch_numbers(REFERENCE), values)
    known = values[np.abs(values) < 1e38]
    assert (sketch.rows, sketch.missing, sketch.known) == (5_003, 3, 5_000)
    assert sketch.mean == pytest.approx(known.mean(), rel=1e-14)
    assert sketch.std == pytest.approx(known.std(), rel=1e-9)
    assert (sketch.low, sketch.high) == (known.min(), known.max())
    assert sketch.counts.tolist() == np.histogram(known, np.r_[-np.inf, sketch.edges, np.inf])[0].tolist()


def test_bins_hold_equal_shares_of_the_reference():
    sketch = sketch_numbers(REFERENCE)
    assert len(sketch.counts) == 42  # and one on either side for what is beyond
    assert sketch.counts[0] == sketch.counts[-1] == 0
    assert np.ptp(sketch.counts[1:-1]) <= 1


def mostly(value, others, share=0.98, rows=5_000):
    return np.where(DRAW.random(rows) < share, value, others)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (np.zeros(5_000), np.full(1_000, 5.0)),
        (np.full(5_000, 5.0), np.zeros(1_000)),
        (mostly(0.0, DRAW.exponential(50, 5_000)), np.full(1_000, 1_000.0)),
        (mostly(0.0, DRAW.exponential(50, 5_000)), mostly(0.0, DRAW.exponential(50, 1_000), 0.8, 1_000)),
        (mostly(1.0, 0.0, 0.4), mostly(7.0, 0.0, 0.4, 1_000)),
        (mostly(1.0, 0.0, 0.4), mostly(1.0, -1.0, 0.4, 1_000)),
        (DRAW.integers(1, 6, 5_000).astype(float), np.where((stars := DRAW.integers(1, 6, 1_000)) == 5, 9.0, stars)),
    ],
)
def test_a_number_that_training_never_had_is_a_drift_however_the_bins_lie(before, now):
    reference = sketch_numbers(before)
    (found,) = compare_sketches({"x": reference}, {"x": folded(reference, now)})
    assert found.verdict == "large drift"


@pytest.mark.parametrize(
    "draw",
    [
        lambda rows: np.full(rows, 0.1),
        lambda rows: mostly(0.1, DRAW.exponential(50, rows), rows=rows),
        lambda rows: DRAW.normal(90_210, 1, rows).round(),
        lambda rows: DRAW.normal(0, 1, rows),
    ],
)
def test_rows_like_those_of_training_are_none_also_where_it_had_them_as_float32(draw):
    reference = sketch_numbers(draw(5_000).astype(np.float32))
    (found,) = compare_sketches({"x": reference}, {"x": folded(reference, draw(1_000))})
    assert (found.verdict, found.p > 0.01) == ("none", True)


def test_one_outlier_makes_no_index_of_its_own():
    reference = sketch_numbers(REFERENCE)
    values = np.quantile(REFERENCE, np.linspace(0.01, 0.99, 50))
    one, other = (compare_column("x", reference, folded(reference, np.r_[values, last])).psi for last in (REFERENCE.max(), 2e6))
    assert one == other


@given(st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(float("nan"))), max_size=60), st.integers(0, 60))
def test_merging_is_as_if_all_rows_had_come_to_one(values, cut):
    reference = NumberSketch([-10.0, 0.0, 1.0, 500.0])
    one, two, whole = (folded(reference, part) for part in (values[:cut], values[cut:], values))
    one.merge(two)
    assert (one.rows, one.missing, one.low, one.high) == (whole.rows, whole.missing, whole.low, whole.high)
    assert one.counts.tolist() == whole.counts.tolist()
    assert one.mean == pytest.approx(whole.mean, nan_ok=True)


def test_many_and_few_values_go_to_the_same_bins():
    reference = sketch_numbers(np.repeat(np.arange(50.0), 3))
    values = DRAW.integers(-3, 60, 10_000).astype(float)
    parts = reference.empty()
    for part in np.array_split(values, 100):
        parts.update(part)
    assert parts.counts.tolist() == folded(reference, values).counts.tolist()


def test_names_are_counted_and_others_named():
    sketch = sketch_names({"a": 50, "b": 30, "c": 1}, missing=2)
    assert (sketch.names, sketch.whole, sketch.counts.tolist(), sketch.rows, sketch.missing) == (("a", "b"), False, [50, 30, 1], 83, 2)
    now = folded(sketch, ["b", "z", None, "z", float("nan"), "a"])
    assert (now.counts.tolist(), now.rows, now.missing) == ([1, 1, 2], 6, 2)
    assert now.others.most_common() == []  # a rare name may be somebody's: of a column that has such none is kept
    now.merge(folded(sketch, ["y", "a"]))
    assert (now.counts.tolist(), now.rows) == ([2, 1, 3], 8)


def test_memory_is_bounded_whatever_comes():
    now = sketch_names({"a": 9}).empty()
    now.update([str(number) for number in range(5_000)])
    assert len(now.others.most_common()) <= 50
    assert now.counts.tolist() == [0, 5_000]


@pytest.mark.parametrize("sketch", [folded(sketch_numbers(REFERENCE), [1.5, np.nan]), folded(sketch_names({"a": 9}), ["a", "q", None])])
def test_json_keeps_everything(sketch):
    back = ColumnSketch.from_json(json.loads(json.dumps(sketch.to_json())))
    assert back.to_json() == sketch.to_json()
    back.merge(sketch)
    assert back.rows == 2 * sketch.rows


def test_an_empty_sketch_is_json_too():
    empty = sketch_numbers([]).empty()
    assert ColumnSketch.from_json(json.loads(json.dumps(empty.to_json(), allow_nan=False))).to_json() == empty.to_json()


@pytest.mark.parametrize("damage", [{"kind": "cookie"}, {"counts": [1]}, {"counts": [-1] * 40}, {"edges": None}])
def test_damaged_json_is_refused(damage):
    with pytest.raises(InputError, match="no sketch"):
        ColumnSketch.from_json({**sketch_numbers(REFERENCE).to_json(), **damage})


def test_other_bins_are_refused():
    with pytest.raises(InputError, match="other bins"):
        NumberSketch([0.0]).merge(NumberSketch([1.0]))
    with pytest.raises(InputError, match="other names"):
        NameSketch(["a"]).merge(NameSketch(["b"]))
    with pytest.raises(InputError, match="same bins"):
        compare_column("x", NumberSketch([0.0]), NameSketch(["b"]))
    with pytest.raises(InputError, match="ascend"):
        NumberSketch([1.0, 0.0])


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_the_binned_distance_is_short_of_the_true_one_by_less_than_a_bin(shift):
    values = DRAW.normal(1e6 + 2 * shift, 2, 4_000)
    reference = sketch_numbers(REFERENCE)
    now = folded(reference, values)
    true = kolmogorov_smirnov(REFERENCE, values)
    drift = compare_column("x", reference, now)
    assert true.statistic - max(now.counts.max() / 4_000, 1 / 40) <= drift.statistic <= true.statistic
    assert drift.p >= true.p


def test_the_index_is_that_over_ten_bins():
    reference, values = sketch_numbers(REFERENCE), DRAW.normal(1e6 + 1, 2, 4_000)
    edges = np.r_[-np.inf, reference.edges[4:-1:4], np.inf]
    expected = population_stability(np.histogram(REFERENCE, edges)[0], np.histogram(values, edges)[0])
    assert compare_column("x", reference, folded(reference, values)).psi == pytest.approx(expected)


def test_planted_shifts_are_found_and_nothing_else():
    reference = {f"x{n}": sketch_numbers(DRAW.normal(size=20_000)) for n in range(20)}
    reference |= {"city": sketch_names({"Oslo": 900, "Rome": 100}), "tag": sketch_names({"a": 500, "b": 500})}
    now = {name: folded(sketch, DRAW.normal(size=5_000)) for name, sketch in reference.items() if isinstance(sketch, NumberSketch)}
    now["x3"] = folded(reference["x3"], DRAW.normal(0.6, 1, 5_000))
    now["x5"] = folded(reference["x5"], np.where(DRAW.random(5_000) < 0.1, np.nan, DRAW.normal(size=5_000)))
    now["city"] = folded(reference["city"], ["Oslo"] * 600 + ["Rome"] * 400)
    now["tag"] = folded(reference["tag"], ["a", "b"] * 489 + ["c"] * 22)
    found = {one.column: one for one in compare_sketches(reference, now)}
    verdicts = {name: one.verdict for name, one in found.items() if one.drifted}
    assert verdicts == {"x3": "large drift", "x5": "missing values", "city": "large drift", "tag": "new values"}
    assert found["tag"].new_values == ("c",)
    assert found["x3"].means == pytest.approx((0, 0.6), abs=0.05)


def test_what_has_moved_is_said_in_words():
    reference = {"mean": sketch_numbers(REFERENCE), "lacking": sketch_numbers(REFERENCE), "gone": sketch_numbers(REFERENCE)}
    reference |= {"new": sketch_names({"a": 500, "b": 500}), "rare": sketch_names({"a": 500, "b": 498, "c": 2})}
    now = {
        "mean": folded(reference["mean"], REFERENCE + 100),
        "lacking": folded(reference["lacking"], np.where(np.arange(len(REFERENCE)) % 5 == 0, np.nan, REFERENCE)),
        "gone": folded(reference["gone"], np.full(500, np.nan)),
        "new": folded(reference["new"], ["a"] * 400 + ["c"] * 100),
        "rare": folded(reference["rare"], ["a"] * 400 + ["d"] * 100),  # names that are rare in the reference are not kept
    }
    why = {one.column: one.why for one in compare_sketches(reference, now)}
    assert why["mean"].startswith("mean ")
    assert why["lacking"] == "missing 0.0% → 20.0%"
    assert why["gone"] == "missing 0.0% → 100.0%"
    assert why["new"] == "20.0% new: 'c'"
    assert why["rare"] == "rare or new values 0.2% → 20.0%"


def test_of_unchanged_windows_at_most_one_in_twenty_calls_anything_sure():
    reference = {f"x{n}": sketch_numbers(DRAW.normal(size=5_000)) for n in range(10)}
    raised = 0
    for _ in range(200):
        now = {name: folded(sketch, DRAW.normal(size=500)) for name, sketch in reference.items()}
        raised += any(one.verdict != "none" for one in compare_sketches(reference, now))
    assert raised <= 20  # 5 % of 200 is 10; three standard errors above


def test_a_hair_of_a_difference_in_a_million_rows_is_slight():
    reference = {"x": sketch_numbers(DRAW.normal(size=200_000))}
    (one,) = compare_sketches(reference, {"x": folded(reference["x"], DRAW.normal(0.03, 1, 500_000))})
    assert (one.verdict, one.drifted) == ("slight drift", False)


def test_a_handful_of_rows_says_nothing():
    reference = {"x": sketch_numbers(REFERENCE)}
    (one,) = compare_sketches(reference, {"x": folded(reference["x"], [0.0] * 20)})
    assert one.verdict == "too few rows"


def test_a_million_values_take_a_fraction_of_a_second():
    sketch = sketch_numbers(REFERENCE).empty()
    values = DRAW.normal(1e6, 2, 1_000_000)
    began = time.process_time()
    sketch.update(values)
    assert time.process_time() - began < 0.5  # 0.015 s on an idle core


def test_a_column_of_nearly_as_many_names_as_rows_neither_drifts_nor_keeps_any():
    reference = sketch_names({f"{number}@example.org": 1 + number % 2 for number in range(900)})
    assert "@" not in json.dumps(reference.to_json())
    (one,) = compare_sketches({"email": reference}, {"email": folded(reference, [f"new{number}@example.org" for number in range(500)])})
    assert (one.verdict, one.new_values) == ("none", ())


def test_only_so_many_names_have_counters():
    assert sketch_names({f"n{number:04}": 10 for number in range(3_000)}).names[-1] == "n0999"

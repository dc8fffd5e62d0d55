"""Charts are exact, small, safe for any numbers, and the same for the same numbers."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.reporting.axes import Scale, ticks
from deepseek.reporting.charts import (
    MOST_CELLS,
    Bar,
    Grid,
    Marker,
    Reliability,
    Series,
    bars,
    calibration,
    heatmap,
    histogram,
    line,
    precision_recall,
    roc,
    scatter,
)

NUMBERS = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30)
DRAWN = {
    "line": lambda x: line([Series("a", range(len(x)), x), Series("b", x, x)], title="t", markers=[Marker(0, 0, "best")]),
    "log": lambda x: line([Series("a", range(len(x)), x)], title="t", log="xy"),
    "bars": lambda x: bars([Bar(str(n), value, value, value) for n, value in enumerate(x)], title="t"),
    "histogram": lambda x: histogram({"a": x, "b": x[1:]}, title="t"),
    "heatmap": lambda x: heatmap(Grid([x], ["r"], [str(n) for n in range(len(x))]), title="t", color="sign"),
    "scatter": lambda x: scatter(x, x[::-1], title="t", guide="diagonal"),
    "roc": lambda x: roc([Series("a", x, x)]),
    "recall": lambda x: precision_recall([Series("a", x, x)], base_rate=0.5),
    "calibration": lambda x: calibration([Reliability(value, value, 3, 0.0, 1.0) for value in x]),
}


@pytest.mark.parametrize("name", DRAWN)
@settings(max_examples=25, deadline=None)
@given(values=NUMBERS)
def test_any_numbers_make_a_whole_drawing(name, values):
    if name == "heatmap" and not values:
        values = [math.nan]
    made = DRAWN[name](values)
    assert not re.search(r'="[^"]*\b(nan|inf)', made)
    assert made.count("<svg") == made.count("</svg>") == 1
    assert DRAWN[name](values) == made


@pytest.mark.parametrize("name", DRAWN)
def test_names_are_escaped_and_read_out(name, read_page):
    read = read_page(DRAWN[name]([0.2, 0.5, 0.3]))
    assert ("svg", "img") in [(tag, values.get("role")) for tag, values in read.tags]
    assert [tag for tag, _ in read.tags][:3] == ["figure", "svg", "title"]


def test_a_series_named_like_a_script_is_text():
    made = line([Series("<script>", [1, 2], [1, 2]), Series("b", [1], [2])], title="<script>")
    assert "<script>" not in made
    assert "&lt;script&gt;" in made


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_ticks_are_round_inside_and_even(low, span):
    high = low + span
    found = ticks(low, high)
    if high > low and len(found) > 1 and span > abs(low) * 1e-6:
        steps = np.diff(found)
        assert len(found) <= 8
        assert np.allclose(steps, steps[0], rtol=1e-6)
        digit = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert min(abs(digit - nice) for nice in (1, 2, 5, 10)) < 1e-3
        assert found[0] >= low - 1e-6 * steps[0] - 1e-9 * abs(low)
        assert found[-1] <= high + 1e-6 * steps[0] + 1e-9 * abs(high)


def test_a_span_of_the_smallest_numbers_has_one_tick():
    assert ticks(0.0, 5e-324, 5) == [0.0]


def test_places_are_linear_or_logarithmic():
    assert Scale(0, 10, 0, 100)(2.5) == 25
    assert Scale(1, 100, 0, 100, log=True)(10) == pytest.approx(50)
    assert Scale(1, 1000, 0, 1, log=True).ticks() == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000][::2]


def test_a_million_points_make_a_small_drawing():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 1_000_000))
    assert len(scatter(x, y, title="t")) < 300_000
    assert len(line([Series("a", np.arange(len(y)), y)], title="t")) < 20_000
    assert len(histogram({"a": x, "b": y}, title="t")) < 30_000


def test_of_many_points_the_extremes_are_kept():
    y = np.zeros(100_000)
    y[77_777] = 5.0
    path = re.search(r'd="([^"]*)"', line([Series("a", np.arange(len(y)), y)], title="t")).group(1)
    tops = [float(point.split()[1]) for point in re.split("[ML]", path)[1:]]
    assert min(tops) < max(tops) - 200


def test_gaps_stay_gaps():
    path = re.search(r'd="([^"]*)"', line([Series("a", range(5), [1, 2, math.nan, 3, 4])], title="t")).group(1)
    assert path.count("M") == 2


def test_bars_are_as_long_as_their_values():
    made = bars([Bar("a", 2.0), Bar("b", 1.0)], title="t")
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="16"', made)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)


def test_a_histogram_holds_each_value_once():
    shares = [float(share) for share in re.findall(r", ([\d.]+) %<", histogram({"a": np.arange(100.0)}, title="t", bins=10))]
    assert shares == [10.0] * 10


def test_lost_values_and_cells_are_counted():
    assert "1 values are no number" in histogram({"a": [1, 2, math.nan]}, title="t")
    size = MOST_CELLS + 5
    names = [str(n) for n in range(size)]
    assert "10 more rows and columns are not shown" in heatmap(Grid(np.eye(size), names, names), title="t")

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek.errors import InputError, UnknownNameError
from deepseek.search import Choice, Float, Integer, Space, parse_space


def test_python_ranges_are_tuples_and_choices_are_lists():
    space = parse_space({"rate": (1e-5, 1e-2), "batch": [32, 64], "dropout": (0.1, 0.5), "layers": (1, 4)})
    assert dict(space) == {
        "rate": Float(1e-5, 1e-2, True),
        "batch": Choice((32, 64)),
        "dropout": Float(0.1, 0.5, False),
        "layers": Integer(1, 4),
    }


def test_recipe_ranges_are_two_numbers_and_other_lists_are_choices():
    space = Space.from_recipe({"rate": [1e-5, 1e-2], "batch": [32, 64, 128], "flag": [True, False], "two": {"choices": [1, 2]}})
    assert dict(space) == {
        "rate": Float(1e-5, 1e-2, True),
        "batch": Choice((32, 64, 128)),
        "flag": Choice((True, False)),
        "two": Choice((1, 2)),
    }


def test_mappings_say_scale_and_step():
    space = parse_space({"rate": {"low": 0.001, "high": 1.0, "log": False}, "width": {"low": 32, "high": 130, "step": 32}})
    assert dict(space) == {"rate": Float(0.001, 1.0, False), "width": Integer(32, 128, step=32)}


@pytest.mark.parametrize(("low", "high", "log"), [(0.01, 1.0, True), (0.011, 1.0, False), (0.0, 1.0, False), (-1.0, 1e6, False)])
def test_wide_positive_ranges_are_logarithmic(low, high, log):
    assert Float(low, high).log is log


def test_whole_numbers_are_logarithmic_only_when_told():
    assert not parse_space({"n": (1, 1_000)})["n"].log
    assert parse_space({"n": {"low": 1, "high": 1_000, "log": True}})["n"].log


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ((1.0, 1.0), "the range goes from 1.0 to 1.0"),
        ((2, 1), "the range goes from 2 to 1"),
        ((math.nan, 1.0), "nan"),
        ((0.0, math.inf), "inf"),
        ((1, 2, 3), "is no range"),
        (("a", "b"), "is no range"),
        ([], "empty"),
        ([1, 2, 1], "the choice 1 comes twice"),
        ([math.nan], "not plain values"),
        ({"low": -1.0, "high": 1.0, "log": True}, "logarithmic scale"),
        ({"low": 0.0, "high": 1.0, "step": 0.1}, "has a step"),
        ({"low": 0, "high": 4, "step": 0.5}, "the step between the whole numbers"),
        ({"low": 0, "high": 4, "step": 0}, "the step is 0"),
        ({"low": 0, "high": 4, "step": 9}, "single value 0"),
        ({"low": 1, "high": 4, "log": 1}, "log is 1"),
        ({"low": 1}, "high is None"),
        ({"low": True, "high": 4}, "low is True"),
        ({"choices": 3}, "choices is 3"),
        ("relu", "neither a range nor choices"),
    ],
)
def test_what_is_no_dimension_is_named(given_, says):
    with pytest.raises(InputError, match=r"^rate: ") as refused:
        parse_space({"rate": given_})
    assert says in str(refused.value)


def test_an_unknown_key_is_guessed():
    with pytest.raises(InputError, match="did you mean 'low'"):
        parse_space({"rate": {"lo": 1, "high": 2}})


def test_an_empty_space_and_a_foreign_dimension_are_refused():
    for wrong in ({}, {"x": 3}):
        with pytest.raises(InputError):
            Space(wrong)
    assert issubclass(UnknownNameError, InputError)


finite = st.floats(-1e6, 1e6, allow_subnormal=False)
floats = st.tuples(finite, finite).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: Float(*pair))
integers = st.tuples(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 5)).filter(lambda t: t[2] <= t[1])
dimensions = st.one_of(
    floats,
    integers.map(lambda t: Integer(t[0], t[0] + t[1], step=t[2])),
    st.tuples(st.integers(1, 50), st.integers(1, 60)).map(lambda t: Integer(t[0], t[0] + t[1], log=True)),
    st.lists(
        st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.text(max_size=2), st.lists(st.integers(0, 1), max_size=2)), min_size=1
    )
    .filter(lambda values: len({json.dumps(one) for one in values}) == len(values))
    .map(lambda values: Choice(tuple(values))),
)


@given(dimensions, st.floats(0, 1))
def test_a_place_and_its_value_agree(dimension, place):
    value = dimension.at(place)
    again = dimension.at(min(max(dimension.place(value), 0.0), 1.0))
    assert again == value if dimension.size else again == pytest.approx(value, rel=1e-6, abs=1e-6)
    if not isinstance(dimension, Choice):
        assert dimension.low <= value <= dimension.high


@given(st.dictionaries(st.text(min_size=1, max_size=3), dimensions, min_size=1, max_size=4))
def test_a_space_survives_json(dimensions_):
    space = Space(dimensions_)
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert hash(again) == hash(space)


def test_levels_are_both_ends_and_evenly_between_along_the_scale():
    assert Float(1e-4, 1e-2).levels(3) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert Float(0.0, 1.0).levels(1) == [0.5]
    assert Integer(1, 9).levels(3) == [1, 5, 9]
    assert Integer(1, 3).levels(5) == [1, 2, 3]
    assert Integer(8, 128, step=8).levels(3) == [8, 72, 128]
    assert Choice(("a", "b", "c", "d")).levels(2) == ["a", "b", "c", "d"]


def test_whole_numbers_have_slices_of_one_size():
    values = [Integer(0, 3).at((index + 0.5) / 400) for index in range(400)]
    assert [values.count(value) for value in range(4)] == [100] * 4


def test_choices_tell_one_from_true():
    choice = Choice((1, True, 1.0, "1"))
    assert [choice.index(value) for value in choice.values] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="not among the choices"):
        choice.index(False)


def test_sizes():
    assert Space({"a": Integer(1, 3), "b": Choice((1, 2))}).size == 6
    assert Space({"a": Integer(1, 3), "b": Float(0, 1)}).size is None


def test_a_dimension_says_what_it_is():
    said = [str(Float(1e-5, 1e-2)), str(Float(0.1, 0.5)), str(Integer(32, 64)), str(Integer(0, 9, step=3)), str(Choice([32, 64]))]
    assert said == ["1e-05 to 0.01, on a logarithmic scale", "0.1 to 0.5", "32 to 64", "0 to 9, in steps of 3", "one of 32, 64"]

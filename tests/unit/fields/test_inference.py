import uuid

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.columns import to_float64
from deepseek.errors import DataError, UnknownNameError
from deepseek.fields import Field, Kind, infer_kind, infer_schema, leak_suspects, profile, target_kind, timestamps

RNG = np.random.default_rng(0)
TEXTS = [f"this is sentence number {i} of a long text" for i in range(50)]
COLUMNS = [
    ("flag", pa.array([True, False] * 20), Kind.BINARY),
    ("sex", pa.array(["m", "f"] * 20), Kind.BINARY),
    ("z", pa.array([0, 1] * 20), Kind.BINARY),
    ("price", pa.array(RNG.normal(size=40)), Kind.NUMBER),
    ("age", pa.array(RNG.integers(0, 90, 40)), Kind.NUMBER),
    ("customer_id", pa.array(RNG.permutation(40)), Kind.ID),
    ("ID", pa.array(range(40)), Kind.ID),
    ("paid", pa.array([3, 1, 2] * 20), Kind.NUMBER),
    ("counter", pa.array(range(200)), Kind.ID),
    ("city", pa.array(["a", "b", "c", "d"] * 10), Kind.CATEGORY),
    ("review", pa.array(TEXTS), Kind.TEXT),
    ("token", pa.array([str(uuid.UUID(int=i)) for i in range(40)]), Kind.ID),
    ("when", pa.array([f"2024-01-{i + 1:02}" for i in range(28)]), Kind.TIMESTAMP),
    ("day", pa.array([f"{i + 1:02}.03.2024" for i in range(28)]), Kind.TIMESTAMP),
    ("amount", pa.array([f"{i}.5" for i in range(40)]), Kind.NUMBER),
    ("zip", pa.array([f"0{i % 30}" for i in range(400)]), Kind.CATEGORY),
    ("photo", pa.array([f"a/{i}.JPG" for i in range(40)]), Kind.IMAGE),
    ("wave", pa.array([[1.0, 2.0]] * 10), Kind.SERIES),
    ("labels", pa.array([["a"], []] * 10), Kind.TAGS),
    ("x", pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((4, 8, 8, 3), "u1")), Kind.IMAGE),
]


@pytest.mark.parametrize(("name", "values", "kind"), COLUMNS, ids=[name for name, _, _ in COLUMNS])
def test_kinds(name, values, kind):
    found, reason = infer_kind(pa.chunked_array([values]), name)
    assert found is kind
    assert reason


def test_the_schema_says_what_may_be_missing_and_follows_the_user():
    table = pa.table({"a": [1, None, 3], "b": ["x", "y", "z"]})
    schema, why = infer_schema(table, ["b"], kinds={"a": "category"})
    assert (schema["a"].kind, schema["a"].nullable, why["a"]) == (Kind.CATEGORY, True, "given")
    assert not schema["b"].nullable
    assert schema.target == ("b",)
    with pytest.raises(UnknownNameError, match="'c'"):
        infer_schema(table, ["c"])


def test_a_target_is_never_an_id():
    table = pa.table({"row_id": list(range(40))})
    assert infer_schema(table)[0]["row_id"].kind is Kind.ID
    assert infer_schema(table, ["row_id"])[0]["row_id"].kind is Kind.NUMBER


@pytest.mark.parametrize(("values", "word"), [([None, None], "empty"), ([5, 5, 5], "constant")])
def test_useless_columns_say_so(values, word):
    found = profile(pa.chunked_array([pa.array(values)]), "a")
    assert found.constant
    assert found.reason.startswith(word)


def test_one_value_or_none_is_information():
    assert not profile(pa.chunked_array([[5, None, 5]]), "a").constant


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1, 1], "binary"),
        (["a", "b", "c"], "classes"),
        ([1, 2, 3, 1, 2, 3], "classes"),
        ([1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "classes"),
        ([1, 2, 3, 4], "values"),
        ([0.5, 1.5, 2.5], "values"),
        (list(range(100)), "values"),
        ([1, 500, 9000], "values"),
        ([["a"], ["b", "c"]], "labels"),
        ([True, False], "binary"),
    ],
)
def test_target_kinds(values, kind):
    assert target_kind(pa.chunked_array([values]), Field("y", Kind.NUMBER))[0] == kind


def test_the_users_category_makes_classes():
    assert target_kind(pa.chunked_array([[1, 500, 9000]]), Field("y", Kind.CATEGORY))[0] == "classes"


@pytest.mark.parametrize("values", [[1, 1], [None, None]])
def test_a_target_without_information_is_refused(values):
    with pytest.raises(DataError, match="'y'"):
        target_kind(pa.chunked_array([pa.array(values, pa.int64())]), Field("y", Kind.NUMBER))


def test_leaks_are_found_and_honest_columns_are_not():
    y = RNG.integers(0, 3, 200)
    value = RNG.normal(size=200)
    table = pa.table({"y": y, "again": [f"class {i}" for i in y], "noise": RNG.normal(size=200), "part": y // 2, "value": value})
    assert [name for name, _ in leak_suspects(table, "y")] == ["again"]
    table = table.append_column("scaled", pa.array(value * 3 + 1))
    assert [name for name, _ in leak_suspects(table, "value")] == ["scaled"]


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        (lambda a, b, _: a + b, "y = casual + registered"),
        (lambda a, b, _: 2.5 * a - b + 40, "y = 2.5 · casual - registered + 40"),
        (lambda a, b, _: np.round(1.25 * a + b, 2), "y = 1.25 · casual + registered"),
        (lambda a, b, error: a + b + 0.5 * error, None),
        (lambda a, b, _: a * b, None),
    ],
)
def test_columns_that_make_up_the_target_together_are_found(whole, words):
    casual, registered, error, noise = RNG.integers(1, 300, 400), RNG.integers(1, 300, 400), RNG.normal(size=400), RNG.normal(size=400)
    other = {"noise": noise, "double": noise * 2, "gaps": [None if i % 3 else 1.0 * i for i in range(400)]}
    table = pa.table({**other, "casual": casual, "registered": registered, "y": whole(casual, registered, error)})
    found = dict(leak_suspects(table, "y"))
    assert set(found) == ({"casual", "registered"} if words else set())
    assert all(reason == f"with others it makes up the target, {words}" for reason in found.values())


def test_few_rows_of_many_columns_make_up_nothing():
    columns = {f"c{i}": RNG.normal(size=60) for i in range(40)}
    assert leak_suspects(pa.table({**columns, "y": RNG.normal(size=60)}), "y") == []


def test_a_sum_of_the_largest_numbers_is_one():
    a, b = RNG.normal(size=200) * 1e300, RNG.normal(size=200) * 1e300
    assert [name for name, _ in leak_suspects(pa.table({"a": a, "b": b, "y": a + b}), "y")] == ["a", "b"]


def test_images_beside_the_target_are_no_leak():
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((40, 2, 2), "u1"))
    assert leak_suspects(pa.table({"x": images, "y": [0, 1] * 20}), "y") == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{}", Kind.NUMBER), (" {}.5e-3 ", Kind.NUMBER), ("{},5", Kind.CATEGORY), ("1,{}", Kind.CATEGORY), ("{}%", Kind.CATEGORY)],
)
def test_text_is_a_number_only_where_it_can_be_read_as_one(text, kind):
    column = pa.chunked_array([[text.format(100 + row % 50) for row in range(200)]])
    assert infer_kind(column, "p")[0] is kind
    if kind is Kind.NUMBER:
        to_float64(column.combine_chunks(), "p")
    else:
        with pytest.raises(DataError):
            to_float64(column.combine_chunks(), "p")


def test_texts_with_letters_that_no_date_has_are_not_tried_as_dates(monkeypatch):
    """Every form that is tried costs as much as the whole look at a column of numbers, and tables have thousands of columns of codes."""
    read = timestamps.read_text
    tried = []
    monkeypatch.setattr(timestamps, "read_text", lambda texts, form=timestamps.ISO: tried.append(form) or read(texts, form))
    codes = pa.chunked_array([[f"id{number}-2024-01" for number in range(50)]])
    assert infer_kind(codes, "code")[0] is Kind.ID
    assert tried == []
    for text in ("2024-01-31T10:00:00Z", "Jan 31, 2024 10:00 PM", "31 september 2024", "20240131T100000"):
        timestamps.forms_of(pa.array([text]))
        assert tried
        tried.clear()

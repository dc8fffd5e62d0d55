import pyarrow as pa
import pytest

from deepseek.data.types import as_type, named_type, type_name


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.bool_(), pa.int64(), pa.float64(), pa.float32(), pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")],
)
def test_a_type_is_found_again_by_its_name(kind):
    assert named_type(type_name(kind)) == kind


def test_text_is_one_type_and_nested_types_have_no_name():
    assert type_name(pa.large_string()) == "string"
    assert type_name(pa.list_(pa.int64())) is None
    assert type_name(pa.fixed_shape_tensor(pa.uint8(), (2, 2))) is None


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (pa.array([True, False, None]), pa.int64(), [1, 0, None]),
        (pa.array([True, False, None]), pa.float64(), [1.0, 0.0, None]),
        (pa.array([1, 0, None]), pa.bool_(), [True, False, None]),
        (pa.array([1.0, 0.0, float("nan")]), pa.bool_(), [True, False, None]),
        (pa.array(["True", " false ", "1", ""]), pa.bool_(), [True, False, True, None]),
        (pa.array(["7", "007", " "]), pa.int64(), [7, 7, None]),
        (pa.array(["9007199254740993"]), pa.int64(), [9007199254740993]),
        (pa.array(["7.0"]), pa.int64(), [7]),
        (pa.array([7.0, float("nan")]), pa.int64(), [7, None]),
        (pa.array([7, None]), pa.string(), ["7", None]),
        (pa.array([7.0, None]), pa.string(), ["7", None]),
        (pa.array(["1.5"]).dictionary_encode(), pa.float64(), [1.5]),
        (pa.array([], pa.int64()), pa.bool_(), []),
    ],
)
def test_values_are_brought_to_the_type_of_training(values, kind, wanted):
    made = as_type(values, kind)
    assert made.type == kind
    assert made.to_pylist() == wanted


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([0, 1, 2]), pa.bool_()),
        (pa.array(["yes"]), pa.bool_()),
        (pa.array([1.5]), pa.int64()),
        (pa.array([1.5]), pa.string()),
        (pa.array(["abc"]), pa.float64()),
        (pa.array([[1]]), pa.string()),
        (pa.array(["2024-01-31"]), pa.timestamp("us")),
    ],
)
def test_what_would_change_is_left_as_it_is(values, kind):
    assert as_type(values, kind) is values

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.cleaning.duplicates import DuplicateCleaner
from deepseek.data.cleaning.missing import MissingCleaner
from deepseek.data.cleaning.outliers import OutlierCleaner
from deepseek.data.cleaning.text import TextCleaner, strip_html
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Field, Kind, Schema

NAN = float("nan")


def fit(cleaner, kinds, *batches, target=()):
    cleaner.begin(Schema(tuple(Field(name, kind) for name, kind in kinds.items()), target))
    for batch in batches:
        cleaner.observe(pa.record_batch(batch))
    cleaner.finish()
    return cleaner


def apply(cleaner, **columns):
    return cleaner.apply(pa.record_batch(columns)).to_pydict()


@pytest.mark.parametrize(("strategy", "value"), [("median", 2.5), ("mean", 4.0), ("mode", 2)])
def test_what_is_filled_in_comes_from_the_training_rows(strategy, value):
    cleaner = fit(MissingCleaner(strategy=strategy), {"a": Kind.NUMBER}, {"a": [2, 2, None]}, {"a": [3, 9]})
    assert apply(cleaner, a=pa.array([None, 100, 100], pa.int64())) == {"a": [value, 100, 100]}


def test_integers_become_floats_under_the_median_whether_or_not_one_is_missing():
    cleaner = fit(MissingCleaner(), {"a": Kind.NUMBER}, {"a": [1, 2]})
    assert cleaner.apply(pa.record_batch({"a": [1]})).schema.field("a").type == pa.float64()
    assert cleaner.apply(pa.record_batch({"a": pa.array([1.0], pa.float32())})).schema.field("a").type == pa.float32()
    assert apply(cleaner, a=pa.nulls(1)) == {"a": [1.5]}


def test_nan_is_missing_and_the_indicator_says_so():
    cleaner = fit(MissingCleaner(indicator=True), {"a": Kind.NUMBER}, {"a": [1.0, NAN, 3.0]})
    assert apply(cleaner, a=[NAN, None, 7.0]) == {"a": [2.0, 2.0, 7.0], "a_missing": [True, True, False]}
    assert cleaner.added == (Field("a_missing", Kind.BINARY, nullable=False),)
    with pytest.raises(ColumnError, match="a_missing"):
        fit(MissingCleaner(indicator=True), {"a": Kind.NUMBER, "a_missing": Kind.NUMBER}, {"a": [1.0]})


def test_forward_fill_carries_over_batches_only_within_a_pass():
    cleaner = fit(MissingCleaner(strategy="forward_fill"), {"a": Kind.NUMBER})
    cleaner.start()
    assert apply(cleaner, a=[None, 1.0, NAN])["a"] == [None, 1.0, 1.0]
    assert apply(cleaner, a=pa.array([None, 2.0, None]))["a"] == [1.0, 2.0, 2.0]
    cleaner.start()
    assert apply(cleaner, a=pa.array([None, 2.0]))["a"] == [None, 2.0]


def test_columns_are_chosen_by_kind_and_never_a_target():
    kinds = {"a": Kind.NUMBER, "c": Kind.CATEGORY, "y": Kind.NUMBER}
    cleaner = fit(MissingCleaner(strategy="constant", value=0), kinds, target=("y",))
    assert apply(cleaner, a=pa.array([None], pa.int8()), c=pa.array([None], pa.string())) == {"a": [0], "c": [None]}
    with pytest.raises(InputError, match="target 'y'"):
        fit(MissingCleaner(columns=["y"]), kinds, target=("y",))
    with pytest.raises(ColumnError, match="kind category"):
        fit(MissingCleaner(columns=["c"]), kinds)
    with pytest.raises(ColumnError, match="did you mean 'a'"):
        fit(MissingCleaner(columns=["A"]), kinds)


def test_what_cannot_be_filled_is_an_error():
    with pytest.raises(DataError, match=r"median of 'a'"):
        fit(MissingCleaner(), {"a": Kind.NUMBER}, {"a": [NAN, None]})
    with pytest.raises(ColumnError, match=r"'x'.*int64"):
        apply(fit(MissingCleaner(columns=["a"], strategy="constant", value="x"), {"a": Kind.NUMBER}), a=[None, 1])
    for given in ({"strategy": "constant"}, {"strategy": "mean", "value": 1}):
        with pytest.raises(InputError):
            MissingCleaner(**given)


def test_sigma_and_iqr_have_numpys_bounds():
    values = np.random.default_rng(0).normal(size=1_000)
    parts = [{"a": part} for part in np.split(values, 4)]
    sigma = fit(OutlierCleaner(k=2.0), {"a": Kind.NUMBER}, *parts).to_json()["bounds"]["a"]
    np.testing.assert_allclose(sigma, [values.mean() - 2 * values.std(), values.mean() + 2 * values.std()], rtol=1e-12)
    low, high = np.quantile(values, [0.25, 0.75])
    iqr = fit(OutlierCleaner(method="iqr"), {"a": Kind.NUMBER}, *parts).to_json()["bounds"]["a"]
    np.testing.assert_allclose(iqr, [low - 1.5 * (high - low), high + 1.5 * (high - low)], rtol=1e-12)


@pytest.mark.parametrize("action", ["clip", "null", "drop"])
def test_a_column_without_any_value_has_no_outliers(action):
    cleaner = fit(OutlierCleaner(action=action), {"a": Kind.NUMBER}, {"a": [1.0, 2.0, 9.0]})
    assert apply(cleaner, a=pa.nulls(2)) == {"a": [None, None]}


@pytest.mark.parametrize(("action", "wanted"), [("clip", [1, None, 4, -1]), ("null", [1, None, None, None]), ("drop", [1, None, 4, -1])])
def test_what_happens_to_outliers(action, wanted):
    cleaner = fit(OutlierCleaner(action=action, method="iqr"), {"a": Kind.NUMBER}, {"a": [1, 2, 1, 2, 2, 1]})
    assert cleaner.to_json() == {"bounds": {"a": [-0.5, 3.5]}}
    batch = pa.record_batch({"a": pa.array([1, None, 100, -100], pa.int16())})
    assert cleaner.apply(batch).schema == batch.schema
    assert cleaner.apply(batch).to_pydict()["a"] == [value if value in {None, 1} else {4: 3, -1: 0}[value] for value in wanted]
    dropped = cleaner.drop(batch)
    assert (dropped.tolist() if action == "drop" else dropped) == ([False, False, True, True] if action == "drop" else None)


def test_bounds_stay_within_the_type():
    cleaner = fit(OutlierCleaner(k=100.0), {"a": Kind.NUMBER}, {"a": pa.array([1, 2], pa.uint8())})
    assert apply(cleaner, a=pa.array([0, 255], pa.uint8())) == {"a": [0, 51]}


def test_a_column_without_spread_is_left_alone():
    cleaner = fit(OutlierCleaner(method="iqr"), {"a": Kind.NUMBER}, {"a": [0.0] * 9 + [5.0]})
    assert cleaner.to_json() == {"bounds": {"a": None}}
    assert apply(cleaner, a=[5.0]) == {"a": [5.0]}


@pytest.mark.parametrize(
    ("settings", "text", "wanted"),
    [
        ({}, "<p>Tom &amp; <b>Jer</b>ry<br>2 &lt; 3</p>", "Tom & Jerry 2 < 3"),
        ({}, "<script>var a = '<b>';</script><style>p {}</style>x<!-- y -->", "x"),
        ({}, "a < b and c > d", "a < b and c > d"),
        ({"html": False}, "<b>x</b>", "<b>x</b>"),
        ({"urls": True}, "see https://a.b/c?d=e now", "see now"),
        ({}, "a\x00b\u200bc\td\r\ne", "abc d e"),
        ({"control": False, "whitespace": False}, "a\x01b  c ", "a\x01b  c "),
        ({}, "e\u0301 ﬁ", "é ﬁ"),
        ({"unicode": "NFKC"}, "ﬁ", "fi"),
        ({"unicode": None}, "e\u0301", "e\u0301"),
        ({"lower": True}, "ÀB", "àb"),
        ({"pattern": r"(\d)\d+", "replacement": r"\1#"}, "tel 12345", "tel 1#"),
    ],
)
def test_each_text_step(settings, text, wanted):
    cleaner = fit(TextCleaner(**settings), {"t": Kind.TEXT})
    assert apply(cleaner, t=[text, None]) == {"t": [wanted, None]}


def test_text_that_cannot_be_cleaned():
    for settings in ({"pattern": "("}, {"replacement": "x"}, {"pattern": "a", "replacement": r"\2"}):
        with pytest.raises(InputError):
            TextCleaner(**settings)
    with pytest.raises(ColumnError, match="int64"):
        apply(fit(TextCleaner(columns=["t"]), {"t": Kind.TEXT}), t=[1])
    assert strip_html("</script>x") == "x"


def test_duplicates_are_dropped_across_batches_and_forgotten_with_a_new_pass():
    cleaner = fit(DuplicateCleaner(), {"a": Kind.NUMBER, "b": Kind.TEXT})
    first, second = pa.record_batch({"a": [1, 1, 1], "b": ["x", "x", "y"]}), pa.record_batch({"a": [1, None, None], "b": ["y", "z", "z"]})
    for _ in range(2):
        cleaner.start()
        assert cleaner.drop(first).tolist() == [False, True, False]
        assert cleaner.drop(second).tolist() == [True, False, True]
    numbered = fit(DuplicateCleaner(), {"id": Kind.ID, "a": Kind.NUMBER, "y": Kind.NUMBER}, target=("y",))
    assert numbered.drop(pa.record_batch({"id": [1, 2, 3], "a": [5, 5, 5], "y": [0, 0, 1]})).tolist() == [False, True, False]
    some = fit(DuplicateCleaner(columns=["a"]), {"a": Kind.NUMBER, "b": Kind.TEXT})
    assert some.drop(first).tolist() == [False, True, True]

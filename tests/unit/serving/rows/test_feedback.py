"""Outcomes as clients tell them: typed by the model's target, all of a request or none."""

import json

import pytest

from deepseek.data.targets import TargetSpec
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.rows.feedback import FeedbackReader

CLASSES = TargetSpec("classes", ("kind",), ("a", "b", "c"))
NUMBERS = TargetSpec("binary", ("kind",), ("0", "1"), integer_classes=True)
LABELS = TargetSpec("labels", ("tags",), ("x", "y"))
VALUE = TargetSpec("values", ("price",), mean=(0.0,), std=(1.0,))
VALUES = TargetSpec("values", ("low", "high"), mean=(0.0, 0.0), std=(1.0, 1.0))


class Target:
    def __init__(self, spec):
        self.spec = spec


def reader(spec, **settings):
    return FeedbackReader(None if spec is None else Target(spec), **settings)


def read(spec, value):
    return reader(spec).read(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("spec", "given", "taken"),
    [
        (CLASSES, "b", "b"), (NUMBERS, 1, 1), (NUMBERS, 1.0, 1), (LABELS, ["x", "y"], ["x", "y"]), (LABELS, [], []), (VALUE, 3, 3.0),
        (VALUES, {"high": 2, "low": 1.5}, [1.5, 2.0]),
    ],
)  # fmt: skip
def test_a_label_has_the_type_of_the_target(spec, given, taken):
    found = read(spec, {"id": "a", "label": given})
    assert (found.ids, found.labels, found.rewards) == (["a"], [taken], None)
    assert type(found.labels[0]) is type(taken)


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        (CLASSES, "d"), (CLASSES, 1), (CLASSES, None), (CLASSES, ["a"]), (CLASSES, {"a": 1}), (CLASSES, True), (NUMBERS, 2), (NUMBERS, "1"),
        (NUMBERS, True), (NUMBERS, 0.5), (LABELS, "x"), (LABELS, ["z"]), (LABELS, ["x"] * 3), (VALUE, "3"), (VALUE, True), (VALUE, None),
        (VALUES, {"low": 1}), (VALUES, [1, 2]), (VALUES, {"low": 1, "high": None}), (None, "a"),
    ],
)  # fmt: skip
def test_any_other_label_is_refused_with_what_is_allowed(spec, given):
    with pytest.raises(RefusedError) as caught:
        read(spec, [{"id": "a", "reward": 1}, {"id": "b", "label": given}])
    (error,) = caught.value.members["errors"]
    assert caught.value.status == 422
    assert (error["row"], error["field"]) == (1, "label")
    assert error["allowed"]
    assert "none was taken" in caught.value.message


def test_the_classes_are_named():
    with pytest.raises(RefusedError, match=r"one of 'a', 'b', 'c'"):
        read(CLASSES, {"id": "a", "label": "d"})
    many = TargetSpec("classes", ("kind",), tuple(f"c{n}" for n in range(500)))
    with pytest.raises(RefusedError, match="and 490 others"):
        read(many, {"id": "a", "label": "d"})


@pytest.mark.parametrize(
    "entry",
    [
        3, None, [], {"label": "a"}, {"id": "a"}, {"id": "", "label": "a"}, {"id": "x" * 101, "label": "a"}, {"id": 7, "label": "a"},
        {"id": "a\0", "label": "a"}, {"id": "a\nb", "label": "a"}, {"id": "\x7f", "label": "a"},
        {"id": "a", "lable": "a"}, {"id": "a", "reward": "1"}, {"id": "a", "reward": None}, {"id": "a", "reward": True},
    ],
)  # fmt: skip
def test_what_is_no_outcome_is_refused(entry):
    with pytest.raises(RefusedError) as caught:
        read(CLASSES, [{"id": "good", "label": "a"}, entry])
    assert caught.value.status == 422


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"id": "a", "reward": NaN}', b"\xff"])
def test_what_is_no_json_is_refused(body):
    with pytest.raises(RefusedError) as caught:
        reader(CLASSES).read(body)
    assert caught.value.status == 400


def test_mixed_entries_keep_their_places():
    found = read(CLASSES, [{"id": "a", "label": "b"}, {"id": "b", "reward": 0.5}, {"id": "c", "label": "c", "reward": -1}])
    assert (found.ids, found.labels, found.rewards) == (["a", "b", "c"], ["b", None, "c"], [None, 0.5, -1.0])


def test_too_many_and_none_are_refused():
    for value, status in ([], 422), ([{"id": "a", "reward": 1}] * 3, 413):
        with pytest.raises(RefusedError) as caught:
            reader(CLASSES, max_rows=2).read(json.dumps(value).encode())
        assert caught.value.status == status


def test_a_model_without_a_target_still_takes_rewards():
    assert read(None, {"id": "a", "reward": 1}).rewards == [1.0]


@pytest.mark.parametrize("spec", [CLASSES, NUMBERS, LABELS, VALUE, VALUES])
def test_its_schema_says_the_same(spec):
    schema = reader(spec).json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["id"]
    kinds = {CLASSES: ["a", "b", "c"], NUMBERS: [0, 1]}
    if spec in kinds:
        assert schema["properties"]["label"]["enum"] == kinds[spec]

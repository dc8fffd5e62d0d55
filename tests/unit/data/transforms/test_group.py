from __future__ import annotations

import pytest

from deepseek.data.preparation import Preparation
from deepseek.data.transforms import group_fields
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Field, Kind, Schema

SCHEMA = Schema(
    (
        Field("id", Kind.ID),
        Field("age", Kind.NUMBER),
        Field("size", Kind.NUMBER),
        Field("town", Kind.CATEGORY),
        Field("flag", Kind.BINARY),
        Field("at", Kind.TIMESTAMP),
        Field("front", Kind.IMAGE),
        Field("back", Kind.IMAGE),
        Field("note", Kind.TAGS),
        Field("y", Kind.NUMBER),
    ),
    ("y",),
)


def names(grouped):
    return {str(transform.name): [field.name for field in transform.fields] for transform in grouped.build()}


def test_a_kind_has_one_transform_and_an_image_its_own():
    grouped = group_fields(SCHEMA)
    assert names(grouped) == {
        "numbers": ["age", "size"],
        "categories": ["town", "flag"],
        "timestamps": ["at"],
        "front": ["front"],
        "back": ["back"],
    }
    assert grouped.left_out == {"note": "no transform turns tags columns into arrays"}


def test_the_user_s_word_goes_before():
    grouped = group_fields(
        SCHEMA, {"age": {"type": "number", "scaling": "robust"}, "number": {"type": "number", "clip": 3}, "note": "category"}
    )
    transforms = {str(transform.name): transform for transform in grouped.build()}
    assert transforms["age"].scaling == "robust"
    assert transforms["numbers"].clip == 3
    assert [field.name for field in transforms["numbers"].fields] == ["size"]
    assert "note" in transforms
    assert not grouped.left_out


def test_two_kinds_of_one_class_do_not_collide():
    assert names(group_fields(SCHEMA, {"binary": "category"}))["binary"] == ["flag"]


def test_a_text_has_a_transform_of_its_own_and_its_mask_s_name():
    words = [Field("title", Kind.TEXT), Field("body", Kind.TEXT)]
    assert names(group_fields(Schema(tuple(words)))) == {"title": ["title"], "body": ["body"]}
    longer = group_fields(Schema(tuple(words)), {"text": {"type": "text", "max_tokens": 7}, "body": {"type": "text", "max_tokens": 9}})
    assert {str(part.name): part.max_tokens for part in longer.build()} == {"title": 7, "body": 9}
    with pytest.raises(InputError, match="body_mask"):
        group_fields(Schema((words[1], Field("body_mask", Kind.IMAGE))))


def test_unknown_keys_and_nothing_to_use_are_errors():
    with pytest.raises(UnknownNameError, match="aeg"):
        group_fields(SCHEMA, {"aeg": "number"})
    with pytest.raises(InputError, match="'note' is left out"):
        group_fields(Schema((Field("note", Kind.TAGS),)))


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.IMAGE])
@pytest.mark.parametrize(("name", "weighted"), [("target", False), ("weight", True)])
def test_a_column_with_a_name_that_a_batch_needs_is_refused_and_the_column_named(kind, name, weighted):
    schema = Schema((Field(name, kind), Field("y", Kind.NUMBER)), ("y",))
    with pytest.raises(InputError, match=f"holds each row's {name}") as caught:
        group_fields(schema, weighted=weighted)
    assert f"rename the column '{name}'" in str(caught.value.hint)


def test_what_a_batch_does_not_need_is_free():
    assert names(group_fields(Schema((Field("weight", Kind.TEXT), Field("y", Kind.NUMBER)), ("y",)))) == {"weight": ["weight"]}
    assert names(group_fields(Schema((Field("target", Kind.TEXT),)))) == {"target": ["target"]}
    assert names(group_fields(Schema((Field("target", Kind.NUMBER), Field("a", Kind.NUMBER)), ("target",)))) == {"numbers": ["a"]}


def test_a_preparation_with_weights_knows_the_name_is_taken():
    schema = Schema((Field("weight", Kind.TEXT), Field("w", Kind.NUMBER), Field("y", Kind.NUMBER)), ("y",))
    Preparation(schema, target="values")
    with pytest.raises(InputError, match="holds each row's weight"):
        Preparation(schema, target="values", weight="w")

from typing import Annotated, Literal

import pytest
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from deepseek.errors import InputError
from deepseek.validation import checked, exact, problems_of, shown


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [1, -5], [1.0, True, "1", "010", None]),
        (float, [1, 0.5], [True, "1", float("nan"), float("inf"), None]),
        (bool, [True, "yes", "off"], [1, 0, "1", "maybe", None]),
        (list[int] | None, [[1], None], [["1"], [True]]),
        (dict[str, float], [{"a": 1}], [{"a": "1"}]),
        (tuple[int, ...], [(1, 2), [1]], [["1"]]),
        (Annotated[int, Ge(3)], [3], [2, "3"]),
        (Literal["auto"] | int, ["auto", 1], ["1", True, 1.5]),
    ],
)
def test_exact_types_take_nothing_in_their_place(annotation: object, good: list, bad: list) -> None:
    adapter = TypeAdapter(exact(annotation))
    for value in good:
        adapter.validate_python(value)
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_without_exact_pydantic_guesses() -> None:
    assert TypeAdapter(int).validate_python("010") == 10


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    depth: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    part: exact(bool) | Inner | Literal["auto"] = "auto"
    parts: Literal["auto"] | list[Inner] = "auto"
    named: dict[str, Inner] = {}
    size: Annotated[int, Ge(1)] | Literal["auto", "none"] = 1
    needed: int


def found(value: dict) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return {problem.path: str(problem) for problem in problems_of(caught.value, Outer, value, what="the thing")}


def test_a_union_has_one_problem_and_the_deepest_wins() -> None:
    assert set(found({"needed": 1, "part": {"deph": 2}})) == {"part.deph"}
    assert set(found({"needed": 1, "parts": [{"depth": 2}, {"depth": "x"}]})) == {"parts.1.depth"}
    assert set(found({"needed": 1, "part": 3})) == {"part"}


def test_messages_say_what_is_wanted_given_and_meant() -> None:
    message = "size: must be a whole number or 'auto' or 'none'; given: 'auot'; did you mean 'auto'?"
    assert found({"needed": 1, "size": "auot"}) == {"size": message}
    assert "must be at least 1 or 'auto' or 'none'; given: 0" in found({"needed": 1, "size": 0})["size"]
    assert found({}) == {"needed": "needed: the key 'needed' of the thing is required"}
    assert "allowed: depth; did you mean 'depth'?" in found({"needed": 1, "named": {"x": {"dept": 1}}})["named.x.dept"]


def test_an_input_error_travels_through_pydantic() -> None:
    def refuse(value: object) -> object:
        raise InputError("no", hint="try yes")

    with pytest.raises(ValueError, match="no"):
        checked(refuse)(3)


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 10_000)) < 200

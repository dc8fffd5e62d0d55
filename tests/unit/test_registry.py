import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le

from deepseek import registry as registry_module
from deepseek.errors import InputError, PluginError, RecipeError, UnknownNameError
from deepseek.registry import ArgumentsOf, Registry, component, describe, family, list_components, load_plugin, plugin_module

INNER = component("test_part")


class Part:
    """A part.

    More words.

    Args:
        size: How big it is,
            in metres.
    """

    def __init__(self, wiring: object = None, /, *, size: Annotated[int, Ge(1), Le(9)] = 2, mode: Literal["a", "b"] = "a") -> None:
        self.wiring, self.size, self.mode = wiring, size, mode


class Nail(Part):
    """A nail.

    Args:
        length: How long it is.
    """

    def __init__(self, *, length: Annotated[int, Ge(1)]) -> None:
        self.length = length


class Whole(Part):
    """A whole of parts.

    Args:
        inner: The part inside.
    """

    def __init__(self, *, inner: INNER = "small", parts: list[INNER] = [], size: int = 1) -> None:  # noqa: B006 - a schema's default
        self.inner, self.parts, self.size = inner, parts, size


class Joined(Part):
    """A part, and what it is joined with.

    Args:
        mode: Another way.
        glue: What holds them.
    """

    def __init__(self, *, glue: str = "tar", mode: Literal["c"] = "c", **arguments: Annotated[Any, ArgumentsOf(Part, Nail)]) -> None:
        self.glue, self.mode, self.arguments = glue, mode, arguments


class Half(Part):
    """Settles one of its part's arguments itself."""

    def __init__(self, **arguments: Annotated[Any, ArgumentsOf(Part, without=("mode",))]) -> None:
        super().__init__(mode="b", **arguments)


class Untyped(Part):
    """Lacks an annotation."""

    def __init__(self, *, size=1) -> None:
        self.size = size


def make(**builtin: str) -> Registry[Part]:
    return Registry("test_part", f"{__name__}:Part", builtin)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Registry[Part]:
    made = make(small=f"{__name__}:Part", whole=f"{__name__}:Whole", untyped=f"{__name__}:Untyped")
    monkeypatch.setattr(registry_module, "family", lambda name: made)
    return made


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Pretend that distributions with these entry points are installed."""

    def install(**points: str | tuple[str, ...]) -> None:
        values = {name: (value,) if isinstance(value, str) else value for name, value in points.items()}
        every = [EntryPoint(name, value, "deepseek.test_part") for name, several in values.items() for value in several]
        monkeypatch.setattr(registry_module, "entry_points", lambda group: EntryPoints(every).select(group=group))

    registry_module._entry_points.cache_clear()
    yield install
    registry_module._entry_points.cache_clear()


sys.modules.setdefault(__name__, sys.modules[Part.__module__])


def test_build_fills_in_defaults_and_passes_the_wiring(parts: Registry[Part]) -> None:
    built = parts.build({"type": "small", "size": 5}, "wire")
    assert (built.wiring, built.size, built.mode) == ("wire", 5, "a")


def test_a_name_alone_is_a_spec(parts: Registry[Part]) -> None:
    assert parts.validate("small") == {"type": "small", "size": 2, "mode": "a"}


def test_validating_what_was_validated_changes_nothing(parts: Registry[Part]) -> None:
    once = parts.validate({"type": "whole", "inner": {"type": "small", "size": 3}, "parts": ["small"]})
    assert parts.validate(once) == once
    assert once["inner"] == {"type": "small", "size": 3, "mode": "a"}


@pytest.mark.parametrize(
    ("given", "path", "suggestion"),
    [
        ({"type": "small", "sise": 1}, "sise", "size"),
        ({"type": "small", "size": 0}, "size", None),
        ({"type": "small", "size": 10}, "size", None),
        ({"type": "small", "size": "3"}, "size", None),
        ({"type": "small", "size": True}, "size", None),
        ({"type": "small", "mode": "c"}, "mode", None),
        ({"type": "whole", "inner": {"type": "small", "sise": 1}}, "inner.sise", "size"),
        ({"type": "whole", "inner": "smal"}, "inner", "small"),
        ({"type": "whole", "parts": ["small", {"type": "small", "sise": 1}]}, "parts.1.sise", "size"),
    ],
)
def test_a_wrong_spec_names_the_place(parts: Registry[Part], given: dict, path: str, suggestion: str | None) -> None:
    with pytest.raises(RecipeError) as caught:
        parts.validate(given)
    (problem,) = caught.value.problems
    assert (problem.path, problem.suggestion) == (path, suggestion)


def test_arguments_that_are_handed_on_are_those_of_the_parts() -> None:
    parts = make(joined=f"{__name__}:Joined")
    model = parts.schema("joined")
    assert list(model.model_fields) == ["length", "glue", "mode", "size"]
    assert {key: field.description for key, field in model.model_fields.items()} == {
        "length": "How long it is.", "glue": "What holds them.", "mode": "Another way.", "size": "How big it is, in metres.",
    }  # fmt: skip
    assert parts.build({"type": "joined", "length": 3}).arguments == {"length": 3, "size": 2}


def test_an_argument_that_a_component_settles_itself_is_none_of_its_keys() -> None:
    parts = make(half=f"{__name__}:Half")
    assert list(parts.schema("half").model_fields) == ["size"]
    assert (parts.build({"type": "half", "size": 3}).size, parts.build("half").mode) == (3, "b")
    with pytest.raises(RecipeError, match="mode"):
        parts.validate({"type": "half", "mode": "a"})


@pytest.mark.parametrize(("given", "path"), [({}, "length"), ({"length": 0}, "length"), ({"length": 1, "mode": "a"}, "mode")])
def test_arguments_that_are_handed_on_are_checked_as_the_parts_check_them(given: dict, path: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make(joined=f"{__name__}:Joined").validate({"type": "joined", **given})
    assert [problem.path for problem in caught.value.problems] == [path]


def test_every_problem_is_told_at_once(parts: Registry[Part]) -> None:
    with pytest.raises(RecipeError) as caught:
        parts.validate({"type": "small", "sise": 1, "size": 0, "mode": 3})
    assert {problem.path for problem in caught.value.problems} == {"sise", "size", "mode"}


@pytest.mark.parametrize("spec", [3, None, [], {}, {"type": 3}, {"size": 1}])
def test_what_is_no_spec_is_refused(parts: Registry[Part], spec: object) -> None:
    with pytest.raises(InputError, match="test_part is given as"):
        parts.validate(spec)


def test_an_unknown_name_lists_the_known_ones(parts: Registry[Part]) -> None:
    with pytest.raises(UnknownNameError, match=r"allowed: small, untyped, whole") as caught:
        parts.get("smal")
    assert caught.value.suggestion == "small"


def test_an_argument_without_a_type_is_refused(parts: Registry[Part]) -> None:
    with pytest.raises(PluginError, match="'size' has no type annotation"):
        parts.schema("untyped")


def test_help_comes_from_the_docstring_and_its_bases() -> None:
    assert describe(Part) == ("A part.", {"size": "How big it is, in metres."})
    assert describe(Half)[1] == describe(Part)[1]
    assert describe(Whole) == ("A whole of parts.", {"size": "How big it is, in metres.", "inner": "The part inside."})


def test_the_schema_carries_the_help(parts: Registry[Part]) -> None:
    assert parts.schema("small").model_fields["size"].description == "How big it is, in metres."


def test_words_stand_beside_components(parts: Registry[Part]) -> None:
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(component("test_part", "auto"))
    assert adapter.validate_python("auto") == "auto"
    assert adapter.validate_python("small")["type"] == "small"
    with pytest.raises(ValidationError, match="allowed: auto, small"):
        adapter.validate_python("auot")


def test_register_adds_a_name(parts: Registry[Part]) -> None:
    @parts.register("mine")
    class Mine(Part):
        """Mine."""

    assert parts.get("mine") is Mine
    assert "mine" in parts.names()
    assert parts.origin("mine") == __name__
    parts.register("mine")(Mine)


@pytest.mark.parametrize("name", ["small", "Small", "my-part", "", "1st"])
def test_a_taken_or_malformed_name_is_refused(parts: Registry[Part], name: str) -> None:
    with pytest.raises(PluginError):
        parts.register(name)(type("Other", (Part,), {"__doc__": "x"}))


@pytest.mark.parametrize("thing", [dict, 3, lambda: None])
def test_what_breaks_the_contract_is_refused(parts: Registry[Part], thing: object) -> None:
    with pytest.raises(PluginError, match="derived from"):
        parts.register("thing")(thing)


def test_installed_packages_bring_components(parts: Registry[Part], installed) -> None:
    installed(extra=f"{__name__}:Whole")
    assert "extra" in parts.names()
    assert parts.get("extra") is Whole
    assert parts.origin("extra") == f"the entry point {__name__}:Whole"
    assert parts.build("extra").size == 1


@pytest.mark.parametrize(
    ("points", "name", "message"),
    [
        ({"extra": "no_such_module:X"}, "extra", "cannot be imported: ModuleNotFoundError"),
        ({"extra": "json:no_such_name"}, "extra", "cannot be imported: AttributeError"),
        ({"extra": "json:JSONDecoder"}, "extra", "must be a class derived from"),
        ({"extra": ("json:a", "json:b")}, "extra", "offered by the entry point json:a and the entry point json:b"),
        ({"small": "json:JSONDecoder"}, "small", "offered by deepseek itself and the entry point"),
    ],
)
def test_a_bad_or_doubled_entry_point_is_refused(parts: Registry[Part], installed, points: dict, name: str, message: str) -> None:
    installed(**points)
    with pytest.raises(PluginError) as caught:
        parts.get(name)
    assert message in str(caught.value)


PLUGIN = """
from deepseek.registry import family
from deepseek.data.checks.base import Check

@family("check").register("{name}")
class Mine(Check):
    '''Mine.'''
    version = {version}
    columns = ()
    reason = "no"
    def bad(self, batch): ...
"""


@pytest.fixture
def checks(plugins_forgotten):
    return family("check")


def test_a_plugin_file_registers_what_it_defines(checks, tmp_path: Path) -> None:
    (tmp_path / "my_checks.py").write_text(PLUGIN.format(name="from_file", version=1))
    name = load_plugin("my_checks.py", tmp_path)
    assert name == load_plugin("my_checks.py", tmp_path)
    assert checks.origin("from_file") == name


def test_an_edited_plugin_file_takes_the_place_of_the_old_one(checks, tmp_path: Path) -> None:
    for version in (1, 2):
        (tmp_path / "my_checks.py").write_text(PLUGIN.format(name="edited", version=version))
        load_plugin("my_checks.py", tmp_path)
        assert checks.get("edited").version == version


def test_two_files_that_claim_one_name_are_refused(checks, tmp_path: Path) -> None:
    for file in ("one.py", "two.py"):
        (tmp_path / file).write_text(PLUGIN.format(name="claimed", version=1) + f"\n# {file}")
    load_plugin("one.py", tmp_path)
    with pytest.raises(PluginError, match="'claimed' is taken by deepseek_plugin_one"):
        load_plugin("two.py", tmp_path)


def test_a_plugin_may_be_an_installed_module(checks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_plugin_module.py").write_text(PLUGIN.format(name="from_module", version=1))
    monkeypatch.syspath_prepend(tmp_path)
    assert load_plugin("some_plugin_module", Path("/nowhere")) == "some_plugin_module"
    assert "from_module" in checks.names()


def test_only_what_was_loaded_as_a_plugin_is_found_by_its_name(tmp_path: Path, plugins_forgotten: None) -> None:
    (tmp_path / "my_nets.py").write_text("def build():\n    return 1\n")
    assert plugin_module("my_nets.py") is None
    name = load_plugin("my_nets.py", tmp_path)
    assert plugin_module("my_nets.py") is plugin_module("folder/my_nets.py") is sys.modules[name]
    assert plugin_module("os") is plugin_module("my_nets") is None
    load_plugin("colorsys", tmp_path)
    assert plugin_module("colorsys") is sys.modules["colorsys"]


@pytest.mark.parametrize(("text", "message"), [("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError"), (None, "FileNotFoundError")])
def test_a_plugin_that_fails_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "bad.py").write_text(text)
    with pytest.raises(PluginError, match=message) as caught:
        load_plugin("bad.py", tmp_path)
    assert "bad.py" in caught.value.message
    assert not [name for name in sys.modules if name.startswith("deepseek_plugin_bad")]


def test_an_unknown_family_is_an_error() -> None:
    with pytest.raises(UnknownNameError) as caught:
        list_components("optimzer")
    assert caught.value.suggestion == "optimizer"


def test_list_components_names_every_family() -> None:
    assert "adamw" in list_components()["optimizer"]
    assert list_components("fusion") == {"fusion": ["concat", "cross_attention", "gated", "late"]}

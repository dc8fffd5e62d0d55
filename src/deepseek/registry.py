"""Names to components: the one mechanism by which a recipe, the command line and Python build the same objects.

A *family* is a contract (a base class) and the components that keep it. A component is a class; **its constructor is its schema**:
positional-only parameters are wiring that the framework passes (a field, a folder), keyword-only parameters are the keys of a recipe.
Names, types, ranges and defaults are read from the signature, help from the docstring's `Args:` section; there is no second tree of
configuration classes. A component that is put together from others says whose arguments it hands on (`ArgumentsOf`).

Components come from three places: the table of built-ins in `deepseek.components` (import strings, so that a name costs nothing until
used), installed packages (entry points in the group `deepseek.FAMILY`), and files or modules that a recipe lists under `plugins:`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast, get_type_hints

from deepseek.components import FAMILIES
from deepseek.errors import InputError, PluginError, RecipeError, UnknownNameError
from deepseek.validation import checked, exact, problems_of, shown

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")
Spec = str | Mapping[str, Any]
"""How a recipe names a component: its name, or a mapping with the key `type` and the component's arguments."""

_PLUGINS: dict[str, str] = {}
"""The plugins that were loaded: a file's name or a module's, and the name among Python's modules."""
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class ArgumentsOf:
    """Says, in the annotation of a constructor's `**arguments`, whose keyword-only arguments these are.

    What a component hands on to its parts is so written, and documented, where it is used alone. Those without a default come first.

    Args:
        components: The parts.
        without: The names of those of their arguments that it settles itself.

    Example:
        ```python
        def __init__(self, folder: Path, /, **arguments: Annotated[Any, ArgumentsOf(KafkaStream, SnapshotSource)]) -> None: ...
        ```
    """

    def __init__(self, *components: type, without: Sequence[str] = ()) -> None:
        self.components, self.without = components, tuple(without)

    def __repr__(self) -> str:
        return f"ArgumentsOf({', '.join(component.__name__ for component in self.components)})"


class Registry(Generic[T]):
    """The components of one family, by name.

    Args:
        family: The family's name, for example `"check"`.
        contract: Import string `module:Class` of the base class that every component derives from.
        builtin: Name to import string of the built-in components.

    Example:
        >>> from deepseek.registry import family
        >>> "adamw" in family("optimizer").names()
        True
    """

    def __init__(self, family: str, contract: str, builtin: Mapping[str, str]) -> None:
        self.family = family
        self._contract = contract
        self._builtin = dict(builtin)
        self._added: dict[str, type[T]] = {}

    def names(self) -> list[str]:
        """Return every name that can be built, sorted."""
        return sorted({*self._builtin, *_entry_points(self.family), *self._added})

    def origin(self, name: str) -> str:
        """Say where a component comes from: `built-in`, a distribution's name and version, or a plugin's module."""
        if name in self._added:
            return self._added[name].__module__
        if name in self._builtin:
            return "built-in"
        points = _entry_points(self.family).get(name)
        if points is None:
            raise UnknownNameError(self.family, name, self.names())
        return " and ".join(map(_owner, points))

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Add a component under a name, as a class decorator; this is what a plugin calls.

        Args:
            name: Lower-case letters, digits and underscores; not taken yet.

        Raises:
            PluginError: The name is malformed or taken, or the class does not keep the family's contract.
        """

        def add(component: type[T]) -> type[T]:
            self._check(name, component)
            known = self._added.get(name)
            if not (_same_place(known, component) if known else self._is_free(name, component)):
                raise PluginError(f"the {self.family} name {name!r} is taken by {self.origin(name)}", hint="choose another name")
            self._added[name] = component
            return component

        return add

    def get(self, name: str) -> type[T]:
        """Return the class behind a name, importing it now.

        Raises:
            UnknownNameError: No component has this name.
            PluginError: It cannot be imported, or does not keep the contract.
        """
        if name in self._added:
            return self._added[name]
        points = _entry_points(self.family).get(name, ())
        if name in self._builtin and not points:
            return cast("type[T]", import_string(self._builtin[name]))
        if not points:
            raise UnknownNameError(self.family, name, self.names(), hint="a plugin's file or module must be listed under plugins:")
        if len(points) > 1 or name in self._builtin:
            owners = " and ".join([*(["deepseek itself"] if name in self._builtin else []), *map(_owner, points)])
            raise PluginError(f"the {self.family} name {name!r} is offered by {owners}", hint="uninstall all but one of them")
        component = _load_entry_point(points[0], f"the {self.family} {name!r} of {self.origin(name)}")
        self._check(name, component)
        return cast("type[T]", component)

    def schema(self, name: str) -> type[BaseModel]:
        """Return the pydantic model of a component's keyword-only arguments; unknown keys are forbidden."""
        return _schema_of(cast(Any, self.get(name)), name)

    def validate(self, spec: Spec) -> dict[str, Any]:
        """Check a spec and return it whole: `type` first, then every argument with its default filled in.

        Raises:
            RecipeError: With one problem for each unknown key, wrong type or value out of range; paths are relative to the spec.
            UnknownNameError: There is no such component.
        """
        from pydantic import ValidationError

        name, arguments = split_spec(self.family, spec)
        model = self.schema(name)
        try:
            filled = model.model_validate(arguments)
        except ValidationError as error:
            raise RecipeError(problems_of(error, model, arguments, what=f"{self.family} {name!r}")) from None
        return {"type": name, **filled.model_dump(mode="python", by_alias=True)}

    def build(self, spec: Spec, /, *wiring: object) -> T:
        """Make a component from its spec.

        Args:
            spec: The component's name, or a mapping of `type` and arguments.
            wiring: The positional-only arguments of the family's contract.
        """
        arguments = self.validate(spec)
        return self.get(arguments.pop("type"))(*wiring, **arguments)

    def _is_free(self, name: str, component: type) -> bool:
        """Whether a name is nobody's, or the entry point behind it names this very class."""
        points = _entry_points(self.family).get(name, ())
        return name not in self._builtin and all(point.value == f"{component.__module__}:{component.__qualname__}" for point in points)

    def _check(self, name: str, component: object) -> None:
        contract = import_string(self._contract)
        if not _NAME.match(name):
            raise PluginError(f"{name!r} is no name for a {self.family}", hint="use lower-case letters, digits and underscores")
        if not (inspect.isclass(component) and issubclass(component, contract)):
            raise PluginError(f"the {self.family} {name!r} is {component!r}", hint=f"it must be a class derived from {self._contract}")


@cache
def family(name: str) -> Registry[Any]:
    """Return the registry of a family.

    Raises:
        UnknownNameError: There is no such family.
    """
    if name not in FAMILIES:
        raise UnknownNameError("family of components", name, FAMILIES)
    contract, builtin = FAMILIES[name]
    return Registry(name, contract, builtin)


def list_components(name: str | None = None) -> dict[str, list[str]]:
    """Return the names that can be used in a recipe, by family: of one family, or of all."""
    return {key: family(key).names() for key in ([name] if name else sorted(FAMILIES))}


def component(name: str, *words: str) -> Any:
    """Return the annotation of a recipe key that names a component of a family.

    A constructor or a section of the recipe that takes another component writes `block: component("block") = "residual"`. The value is a
    validated spec (see `Registry.validate`), ready for `Registry.build`, or one of the words as it stands.

    Args:
        name: The family.
        words: What the key takes besides, for example `"auto"`.
    """
    from pydantic import BeforeValidator, WithJsonSchema

    def check(spec: object) -> object:
        if spec in words:
            return spec
        registry = family(name)
        if isinstance(spec, str) and words and spec not in registry.names():
            raise UnknownNameError(name, spec, [*words, *registry.names()])
        return registry.validate(cast(Spec, spec))

    shape: dict[str, Any] = {"x-family": name, **({"x-words": list(words)} if words else {})}
    return Annotated[Any if words else dict[str, Any], BeforeValidator(checked(check)), WithJsonSchema(shape)]


def split_spec(what: str, spec: Spec) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of a spec.

    Raises:
        InputError: It is neither a name nor a mapping with a name under `type`.
    """
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
        raise InputError(f"a {what} is given as {shown(spec)}", hint="write its name, or a mapping with its name under 'type'")
    return spec["type"], {key: value for key, value in spec.items() if key != "type"}


def import_string(target: str) -> Any:
    """Return the object that an import string `module:name` names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def load_plugin(target: str, folder: Path) -> str:
    """Import a plugin, a Python file or a module's name, so that what it registers can be named.

    Args:
        target: `path/to/file.py` (relative to `folder`) or an installed module's dotted name.
        folder: The folder of the recipe.

    Returns:
        The name of the module that was imported.

    Raises:
        PluginError: The file or module is not there, or fails while it is imported.
    """
    try:
        if not target.endswith(".py"):
            _PLUGINS[target] = importlib.import_module(target).__name__
            return _PLUGINS[target]
        path = (folder / target).resolve()
        name = f"deepseek_plugin_{path.stem}_{sha256(path.read_bytes()).hexdigest()[:12]}"
        if name not in sys.modules:
            _import_file(path, name)
        _PLUGINS[path.name] = name
        return name
    except PluginError:
        raise
    except Exception as error:  # the edge to foreign code: whatever it raises is the plugin's failure
        raise PluginError(
            f"the plugin {target!r} cannot be imported: {type(error).__name__}: {error}",
            hint=f"plugins are Python files relative to {folder}, or names of installed modules",
        ) from error


def plugin_module(target: str) -> ModuleType | None:
    """Return the module of a plugin that was loaded, or nothing where none was: what is not listed as a plugin is never imported by name.

    Args:
        target: A file's name, without its folder or with it, or an installed module's dotted name.
    """
    name = _PLUGINS.get(Path(target).name if target.endswith(".py") else target)
    return None if name is None else sys.modules.get(name)


def describe(component: type) -> tuple[str, dict[str, str]]:
    """Return a component's first sentence and the help of each argument, from its docstring and those of its bases and parts."""
    summary = (inspect.getdoc(component) or "").split("\n\n", 1)[0].replace("\n", " ").strip()
    help_of: dict[str, str] = {}
    for part in _parts_of(component)[0]:
        help_of |= describe(part)[1]
    for base in reversed(component.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
        entries = re.findall(r"^ {4}(\w+): ((?:.*\n?)(?:^ {6,}.*\n?)*)", section.group(1), re.MULTILINE) if section else []
        help_of |= {name: " ".join(words.split()) for name, words in entries}
    return summary, help_of


@cache
def _schema_of(component: type, name: str) -> type[BaseModel]:
    from pydantic import ConfigDict, Field, create_model

    summary, help_of = describe(component)
    fields: dict[str, Any] = {
        key: (exact(kind), Field(default, description=help_of.get(key))) for key, (kind, default) in _arguments_of(component).items()
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True, protected_namespaces=())
    return cast("type[BaseModel]", create_model(name, __config__=config, __doc__=summary, **fields))


def _arguments_of(component: type) -> dict[str, tuple[Any, Any]]:
    """Return the type and the default of each keyword-only argument; of one that has to be given the default is `...`."""
    constructor = cast(Any, component).__init__
    hints = get_type_hints(constructor, include_extras=True)
    arguments: dict[str, tuple[Any, Any]] = {}
    for key, parameter in inspect.signature(constructor).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if key not in hints:
            raise PluginError(f"{component.__qualname__}: the argument {key!r} has no type annotation", hint="recipe keys are typed")
        arguments[key] = (hints[key], ... if parameter.default is inspect.Parameter.empty else parameter.default)
    parts, without = _parts_of(component)
    for part in parts:
        for key, argument in _arguments_of(part).items():
            if key not in without:
                arguments.setdefault(key, argument)
    return dict(sorted(arguments.items(), key=lambda one: one[1][1] is not ...)) if parts else arguments


def _parts_of(component: type) -> tuple[tuple[type, ...], frozenset[str]]:
    """Return the components whose arguments a constructor takes and hands on, and which of the arguments it does not take."""
    constructor = cast(Any, component).__init__
    for key, parameter in inspect.signature(constructor).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            marks = getattr(get_type_hints(constructor, include_extras=True).get(key), "__metadata__", ())
            found = [mark for mark in marks if isinstance(mark, ArgumentsOf)]
            return tuple(part for mark in found for part in mark.components), frozenset(name for mark in found for name in mark.without)
    return (), frozenset()


def _import_file(path: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"the plugin {str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _same_place(known: type, component: type) -> bool:
    """Whether two classes are one and the same, imported twice: a plugin's file was edited, or a module reloaded."""
    files = {getattr(sys.modules.get(one.__module__), "__file__", one.__module__) for one in (known, component)}
    return known.__qualname__ == component.__qualname__ and len(files) == 1


@cache
def _entry_points(family_name: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Return the installed components of a family by name; looked for once, since every distribution's metadata is read."""
    points = entry_points(group=f"deepseek.{family_name}")
    return {name: tuple(point for point in points if point.name == name) for name in points.names}


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else f"the entry point {point.value}"


def _load_entry_point(point: EntryPoint, what: str) -> object:
    try:
        return point.load()
    except Exception as error:  # the edge to foreign code: whatever it raises is the plugin's failure
        raise PluginError(f"{what} cannot be imported: {type(error).__name__}: {error}", hint="reinstall or uninstall it") from error

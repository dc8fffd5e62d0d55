"""What the pages name exists, and what exists is named."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import deepseek
from deepseek.cli.app import _GROUPS, _VERBS, _command
from deepseek.components import FAMILIES
from deepseek.recipe.sections import (
    AlarmSection,
    BatchingSection,
    CanarySection,
    ClusterSection,
    DataSection,
    ExperimentSection,
    FreshRowsSection,
    GuardSection,
    LearnSection,
    LiveSection,
    MonitorSection,
    OnAlarmSection,
    OnlineSection,
    RecipeSections,
    SelfTrainingSection,
    ServeSection,
    ShadowSection,
    SplitSection,
    SuspectsSection,
    TrainSection,
    TuneSection,
    WindowSection,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@cache
def text_of_docs():
    return "\n".join(page.read_text() for page in [*DOCS.rglob("*.md"), ROOT / "README.md"])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_component_is_in_the_docs(name):
    missing = [component for component in FAMILIES[name][1] if f"`{component}`" not in text_of_docs()]
    assert not missing


def parameters_of(command):
    """Return the parameters of a verb, and of its actions where it has some."""
    return [*command.params, *(parameter for action in getattr(command, "commands", {}).values() for parameter in action.params)]


def test_every_option_of_the_command_line_is_on_its_page():
    page = (DOCS / "reference" / "cli.md").read_text()
    sections = dict(re.findall(r"^## `deepseek (\w+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == {*_VERBS, *_GROUPS}
    for verb, command in _command().commands.items():
        names = [name for parameter in parameters_of(command) if parameter.param_type_name == "option" for name in parameter.opts]
        assert [name for name in [*names, *getattr(command, "commands", ())] if f"`{name}" not in sections[verb]] == []


def test_every_option_on_the_page_exists():
    page = (DOCS / "reference" / "cli.md").read_text()
    for verb, section in re.findall(r"^## `deepseek (\w+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        parameters = parameters_of(_command().commands[verb])
        known = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        assert set(re.findall(r"`(--?[a-z][a-z-]*)", section)) <= known


@pytest.mark.parametrize(
    "section",
    [
        *(RecipeSections, DataSection, SplitSection, SuspectsSection, TrainSection, TuneSection, ClusterSection),
        *(ServeSection, BatchingSection, ExperimentSection, GuardSection, MonitorSection, AlarmSection, WindowSection),
        *(OnAlarmSection, FreshRowsSection, ShadowSection, CanarySection, OnlineSection, LearnSection, LiveSection, SelfTrainingSection),
    ],
)
def test_every_key_of_a_recipe_is_on_its_page(section):
    page = (DOCS / "guides" / "recipe.md").read_text()
    assert [name for name in section.model_fields if f"`{name}`" not in page] == []


def test_every_test_that_the_capabilities_name_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)(?:::(\w+))?`", (DOCS / "capabilities.md").read_text())
    assert len(named) > 30
    missing = [f"{file}::{name}" for file, *names in named for name in filter(None, names) if name not in _names_in(file)]
    assert missing == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_link_of_the_front_pages_leads_somewhere(name):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", (ROOT / name).read_text())
    for path, anchor in links:
        page = ROOT / (path or name)
        assert page.is_file(), path
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor


def test_every_section_of_the_benchmarks_has_figures_or_says_that_it_has_none():
    page = (DOCS / "benchmarks.md").read_text()
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    shown = re.compile(r"^<!-- figures: \w+ -->\n\n(Not measured yet\.|.*?^\|.*?\|$)", re.MULTILINE | re.DOTALL)
    assert [name for name, text in sections.items() if "```bash" in text and not shown.search(text)] == []


def test_every_family_is_on_the_page_of_plugins():
    page = (DOCS / "guides" / "plugins.md").read_text()
    assert [name for name in FAMILIES if f"`{name}`" not in page] == []


def test_the_first_page_links_every_guide():
    page = (DOCS / "index.md").read_text()
    assert [guide.name for guide in (DOCS / "guides").glob("*.md") if f"(guides/{guide.name})" not in page] == []


def test_every_benchmark_has_its_section():
    page = (DOCS / "benchmarks.md").read_text()
    assert [file.name for file in (ROOT / "benchmarks").glob("*.py") if f"benchmarks/{file.name}" not in page] == []


@cache
def _names_in(file):
    """Return the tests of a file, and those that its classes inherit from the public suites."""
    nodes = list(ast.walk(ast.parse((ROOT / file).read_text())))
    suites = {base.id for node in nodes if isinstance(node, ast.ClassDef) for base in node.bases if isinstance(base, ast.Name)}
    for contract in (ROOT / "src" / "deepseek").rglob("contract.py"):
        for node in ast.walk(ast.parse(contract.read_text())):
            if isinstance(node, ast.ClassDef) and node.name in suites:
                nodes += ast.walk(node)
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_every_public_name_is_in_the_python_reference():
    page = (DOCS / "reference" / "python.md").read_text()
    assert [name for name in deepseek.__all__ if f"deepseek.{name}\n" not in page and name != "__version__"] == ["DeepSeekError"]
    assert "DeepSeekError" in page

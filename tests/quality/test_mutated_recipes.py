"""Recipes that went wrong in every way a hand or a program can think of: each is followed, or refused with a reason."""

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from deepseek.cli import main
from deepseek.cli.output import error_json
from deepseek.errors import InputError, RecipeError
from deepseek.pipeline.preparing.sources import check_sources
from deepseek.recipe import Recipe, load_recipe
from deepseek.recipe.document import dump_document

MUTANTS = 3000
THROUGH_THE_COMMAND = 50
RECIPE = {
    "name": "churn",
    "seed": 3,
    "plugins": [],
    "data": {
        "source": {"type": "csv", "path": "customers.csv"},
        "target": "churned",
        "fields": {"age": "number", "city": "category"},
        "drop": ["id"],
        "checks": [{"type": "range", "column": "age", "min": 0, "max": 120}],
        "clean": [{"type": "missing"}],
        "split": {"train": 0.7, "validation": 0.15, "test": 0.15, "stratify": True},
        "max_rejected": 0.1,
    },
    "train": {
        "epochs": 30,
        "batch_size": 64,
        "learning_rate": 0.001,
        "optimizer": {"type": "adamw", "weight_decay": 0.01},
        "schedule": "cosine",
        "clip_norm": 1.0,
        "early_stopping": {"patience": 5, "min_delta": 0.0},
        "checkpoint": {"every_s": "60s", "keep": 2},
        "time_limit": "5m",
        "deterministic": True,
    },
}
ODD = [
    None, True, False, 0, -1, 1, 10**30, -(10**400), 1e308, 5e-324, "", " ", "auto", "no", "010", "12:30", "ünïcödé ✓", "\u202e",
    "\U0001f600", "x" * 10_000, [], {}, [[]], {"type": "csv"}, {"type": 3}, {"": ""}, [None], {"a": {"b": {"c": []}}}, "../..", "${ENV:X}",
    "*", "'", "- a",
]  # fmt: skip
SCRAPS = [
    "\t",
    "  ",
    "{",
    "]",
    ":",
    "- ",
    "&a ",
    "*a",
    "!!int ",
    "---\n",
    "\x00",
    "\ufeff",
    "'",
    '"',
    "#",
    "|",
    "? ",
    "<<: *x",
    "\u2028",
    "%",
    "@",
    "`",
]


def places(value: object, path: tuple = ()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*path, key), *places(item, (*path, key)))]


def parent_of(recipe: dict, place: tuple):
    for key in place[:-1]:
        recipe = recipe[key]
    return recipe


def misspelt(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word) + 1)
    return rng.choice([word[:at] + rng.choice("qxz_ é") + word[at:], word[:at] + word[at + 1 :], word[::-1], word.upper()])


def mutated_value(rng: random.Random) -> dict:
    recipe = copy.deepcopy(RECIPE)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        known = places(recipe)
        if not known:
            break
        place = rng.choice(known)
        parent, key = parent_of(recipe, place), place[-1]
        kind = rng.randrange(6)
        if kind == 0 and isinstance(key, str):
            parent[misspelt(key, rng)] = parent.pop(key)
        elif kind == 1:
            del parent[key]
        elif kind == 2:
            other = rng.choice(known)
            parent[key] = copy.deepcopy(parent_of(recipe, other)[other[-1]])
        elif kind == 3:
            for _ in range(rng.randrange(1, 60)):
                parent[key] = rng.choice([lambda inner: [inner], lambda inner: {"type": inner}])(parent[key])
        else:
            parent[key] = copy.deepcopy(rng.choice(ODD))
    return recipe


def mutated_text(rng: random.Random) -> str:
    lines = dump_document(RECIPE).splitlines(keepends=True)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0:
            lines.insert(at, lines[at])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            lines[at], lines[0] = lines[0], lines[at]
        elif kind == 3:
            lines[at] = " " * rng.randrange(5) + lines[at]
        else:
            middle = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:middle] + rng.choice(SCRAPS) + lines[at][middle:]
    return "".join(lines)


def verdict(recipe: object) -> Recipe | InputError:
    try:
        return load_recipe(recipe)
    except InputError as error:
        return error


def check(found: Recipe | InputError, given: object) -> bool:
    """Whether the recipe was accepted; either way the answer must be a good one."""
    if isinstance(found, Recipe):
        again = Recipe.from_value(found.to_value())
        assert again.to_value() == found.to_value()
        return True
    assert found.message
    if isinstance(found, RecipeError):
        assert all(problem.message and (problem.path or problem.line) for problem in found.problems)
        assert len(str(found)) < 30_000
    return False


def keys_of(value: object) -> set[str]:
    return {part for place in places(value) for part in place if isinstance(part, str)}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_recipe_itself_is_right() -> None:
    assert check(verdict(RECIPE), RECIPE)


def test_mutated_values_are_followed_or_refused() -> None:
    rng, accepted = random.Random(7), 0
    free = {"fields", "transforms"}
    for _ in range(MUTANTS // 2):
        given = mutated_value(rng)
        found = verdict(given)
        if check(found, given):
            accepted += 1
            known = keys_of(found.to_value())
            assert keys_of({key: value for key, value in given.items() if key not in free}) <= known | {"type"}
    assert 0 < accepted < MUTANTS / 4


def test_mutated_texts_are_followed_or_refused(tmp_path: Path) -> None:
    rng, accepted, file = random.Random(11), 0, tmp_path / "mutant.yaml"
    for _ in range(MUTANTS // 2):
        file.write_text(mutated_text(rng), encoding="utf-8")
        accepted += check(verdict(file), file)
    assert 0 < accepted < MUTANTS / 2


def test_nothing_unknown_is_ever_accepted() -> None:
    """A key that no section has, put into every mapping of the recipe in turn, is refused there and nowhere else."""
    mappings = [(), *(place for place in places(RECIPE) if isinstance(value_at(place), dict))]
    for place in mappings:
        if place[-1:] == ("fields",):
            continue
        recipe = copy.deepcopy(RECIPE)
        parent_of(recipe, (*place, "key"))["zzz_unknown"] = 1
        found = verdict(recipe)
        assert isinstance(found, RecipeError)
        assert ".".join(map(str, (*place, "zzz_unknown"))) in {problem.path for problem in found.problems}


def value_at(place: tuple) -> object:
    return parent_of(RECIPE, (*place, ""))


def refused(file: Path) -> InputError | None:
    """Return why the command must refuse this recipe, which may be right and name a source or a column that is not there."""
    try:
        check_sources(load_recipe(file))
    except InputError as error:
        return error
    return None


@pytest.mark.slow
def test_the_command_refuses_like_the_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty mutants through `deepseek run`, every tenth in a process of its own: status 2 and one object that says what is wrong."""
    rng, file, tried = random.Random(13), tmp_path / "mutant.yaml", 0
    while tried < THROUGH_THE_COMMAND:
        file.write_text(mutated_text(rng), encoding="utf-8")
        wanted = refused(file)
        assert wanted is not None  # there is no customers.csv here
        tried += 1
        arguments = ["run", str(file), "--json"]
        if tried % 10 == 0:
            done = subprocess.run([sys.executable, "-m", "deepseek", *arguments], capture_output=True, text=True, check=False)
            status, output = done.returncode, done.stdout
            assert "Traceback" not in done.stderr
        else:
            status, output = main(arguments), capsys.readouterr().out
        assert status == 2
        assert json.loads(output) == {"error": error_json(wanted)}
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_mutants_of_a_recipe_that_can_be_followed_end_well_or_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole road behind mutated values: a run with metrics, or an error of ours; never anything else."""
    rng, statuses = random.Random(17), []
    rows = ["age,city,churned", *(f"{20 + i % 50},{'Rome' if i % 3 else 'Oslo'},{'yes' if i * 7 % 11 > 5 else 'no'}" for i in range(80))]
    (tmp_path / "customers.csv").write_text("\n".join(rows))
    followed = copy.deepcopy(RECIPE)
    followed["data"]["drop"] = []
    followed["model"] = {"type": "mlp", "depth": 1, "width": 8}
    followed["train"] |= {"epochs": 1, "precision": "fp32"}
    for _ in range(THROUGH_THE_COMMAND):
        recipe = copy.deepcopy(followed)
        for _ in range(rng.choice([1, 2])):
            place = rng.choice([place for place in places(recipe["data"]) if place[0] not in ("source", "target")])
            if rng.random() < 0.5:
                del parent_of(recipe["data"], place)[place[-1]]
            else:
                parent_of(recipe["data"], place)[place[-1]] = copy.deepcopy(
                    rng.choice([*ODD, "age", "city", 0.5, 2, True, "number", "category"])
                )
        file = tmp_path / "mutant.yaml"
        file.write_text(dump_document(recipe), encoding="utf-8")
        statuses.append(main(["run", str(file), "--json"]))
        output = json.loads(capsys.readouterr().out)
        assert ("metrics" in output, "error" in output) == (statuses[-1] == 0, statuses[-1] != 0)
    assert set(statuses) <= {0, 1, 2}
    assert 0 < statuses.count(0) < len(statuses)

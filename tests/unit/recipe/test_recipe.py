import json
from pathlib import Path

import pytest

from deepseek.errors import InputError, RecipeError
from deepseek.recipe import Recipe, json_schema, load_recipe, resolve_secret
from deepseek.recipe.quantities import parse_duration_s
from deepseek.recipe.sections import (
    CheckpointSection,
    CompressSection,
    DataSection,
    EarlyStoppingSection,
    QuantizeSection,
    RecipeSections,
    SplitSection,
    TrainSection,
)

TEXT = """\
data:
  source: customers.csv
  target: churned
  split: {train: 0.8, validation: 0.1, test: 0.1, stratify: yes}
model: fake
train:
  epochs: 30
  early_stopping: {patience: 5}
  time_limit: 5m
"""
MINIMAL = {"data": {"source": "a.csv", "target": "y"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "churn.yaml"
    path.write_text(TEXT)
    return path


def problems(recipe: object, *overrides: str):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides=overrides)
    return caught.value.problems


def test_a_recipe_is_typed(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe.name == "churn"
    assert recipe.folder == file.parent
    assert recipe.data.split.shares == pytest.approx((0.8, 0.1, 0.1))
    assert recipe.data.split.stratify is True
    assert recipe.model == {"type": "fake", "width": 3, "rate": 0.1}
    assert recipe.train.early_stopping.patience == 5
    assert recipe.train.time_limit == 300.0
    assert recipe.data.targets == ("churned",)


def test_every_value_has_an_origin(file: Path) -> None:
    origins = load_recipe(file, overrides=["model.width=7", "data.drop=[a]", "train.batch_size=32"]).origins
    assert origins["train.epochs"] == "churn.yaml:7"
    assert origins["model.type"] == "churn.yaml:5"
    assert origins["model.width"] == origins["data.drop"] == origins["train.batch_size"] == "--set"
    assert origins["model.rate"] == origins["name"] == origins["seed"] == "default"
    assert load_recipe(MINIMAL).origins["data.source"] == "given"


def test_decisions_are_checked_and_keep_their_reason(file: Path) -> None:
    recipe = load_recipe(file)
    decided = recipe.with_decisions({"train.batch_size": (256, "largest that fits"), "train.optimizer": ({"type": "fake"}, "default")})
    assert decided.train.batch_size == 256
    assert decided.train.optimizer["width"] == 3
    assert decided.origins["train.batch_size"] == "auto: largest that fits"
    assert decided.origins["train.epochs"] == "churn.yaml:7"
    assert recipe.train.batch_size == "auto"
    dotted = recipe.with_decisions({("data", "fields", "a.b"): ("number", "looks like one")})
    assert dotted.data.fields == {"a.b": "number"}
    with pytest.raises(RecipeError):
        recipe.with_decisions({"train.batch_size": (0, "a defect")})


def test_a_resolved_recipe_loads_as_the_same_recipe(file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(file, overrides=["data.split.folds=5", "data.checks=[{type: fake}]"])
    (tmp_path / "resolved.yaml").write_text(recipe.to_yaml())
    again = load_recipe(tmp_path / "resolved.yaml")
    assert again.to_value() == recipe.to_value()
    assert "default" not in set(again.origins.values())


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data.checks=[{type: fake}, {type: fake, width: 7}]", "train.optimizer=fake"],
        ["data.drop=[]", 'data.fields={"a.b": number}', "data.source=[a.csv, b.csv]"],
        ["train.callbacks=[]"],
    ],
)
def test_the_short_form_says_what_was_said_and_loads_as_the_same_recipe(file: Path, tmp_path: Path, overrides: list[str]) -> None:
    recipe = load_recipe(file, overrides=overrides)
    short = recipe.to_short_yaml()
    assert "batch_size" not in short
    assert len(short) < len(recipe.to_yaml()) / 2
    (tmp_path / "short.yaml").write_text(short)
    assert load_recipe(tmp_path / "short.yaml").to_value() == recipe.to_value()


def test_show_prints_each_value_with_its_origin(file: Path) -> None:
    lines = load_recipe(file).show().splitlines()
    assert any(line.split() == ["train.epochs", "30", "churn.yaml:7"] for line in lines)
    assert len(lines) == len(load_recipe(file).origins)


def test_all_problems_come_at_once_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "data:\n  sorce: a.csv\n  target: 1\ntrain:\n  epochs: many\n  optimizer: {type: fake, widt: 2}\ncompress: {quantise: int8}\n"
    )
    found = {one.path: one for one in problems(tmp_path / "bad.yaml", "train.l1=-1")}
    assert set(found) == {
        "data.source",
        "data.sorce",
        "data.target",
        "train.epochs",
        "train.optimizer.widt",
        "compress.quantise",
        "train.l1",
    }
    assert (found["data.sorce"].line, found["data.sorce"].suggestion) == (2, "source")
    assert (found["data.source"].line, found["data.source"].file) == (1, "bad.yaml")
    assert found["train.epochs"].message == "must be a whole number or 'auto'; given: 'many'"
    assert (found["train.optimizer.widt"].line, found["train.optimizer.widt"].suggestion) == (6, "width")
    assert (found["train.l1"].file, found["train.l1"].line) == ("--set", None)


@pytest.mark.parametrize(
    ("compress", "path", "said"),
    [
        ({}, "compress", "says nothing that could be done"),
        ({"quantize": {"method": "dynamic", "backend": "openvino"}}, "compress.quantize.method", "no dynamic INT8"),
        ({"quantize": {"max_drop": 2}}, "compress.quantize.max_drop", "must be at most 1"),
        ({"quantize": "int4"}, "compress.quantize", "int8"),
    ],
)
def test_compression_that_cannot_be_is_refused(compress: object, path: str, said: str) -> None:
    (found,) = problems({**MINIMAL, "compress": compress})
    assert (found.path, said in found.message) == (path, True), found.message


def test_the_bare_word_is_the_section_with_its_defaults() -> None:
    recipes = [Recipe.from_value({**MINIMAL, "compress": {"quantize": value}}) for value in ("int8", {"precision": "int8"})]
    assert recipes[0].compress is not None
    assert recipes[1].compress is not None
    assert recipes[0].compress.int8 == recipes[1].compress.int8


SECTIONS = {
    "": RecipeSections, "data": DataSection, "data.split": SplitSection, "train": TrainSection,
    "train.early_stopping": EarlyStoppingSection, "train.checkpoint": CheckpointSection, "compress": CompressSection,
    "compress.quantize": QuantizeSection,
}  # fmt: skip
KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_a_typo_of_any_key_is_refused_with_the_right_suggestion(section: str, key: str) -> None:
    typo = key[:1] + "x" + key[1:] if len(key) > 3 else key + "x"
    path = ".".join(filter(None, (section, typo)))
    found = {one.path: one for one in problems(MINIMAL, f"{path}=1")}
    assert found[path].suggestion == key
    assert found[path].file == "--set"


@pytest.mark.parametrize(
    ("override", "path", "words"),
    [
        ("train.epochs", "", "not of the form PATH=VALUE"),
        ("=3", "", "not of the form"),
        ("train..epochs=3", "", "not of the form"),
        ("train.epochs=[1", "train.epochs", "no valid YAML"),
        ("train.epochs.x=1", "train.epochs.x", "has no keys"),
        ("data.checks.0.width=1", "data.checks.0.width", "index"),
        ("seed=010", "seed", "must be a whole number"),
        ("seed=true", "seed", "must be a whole number"),
        ("train.deterministic=1", "train.deterministic", "true or false"),
        ("train.l1=.inf", "train.l1", "finite"),
    ],
)
def test_a_wrong_override_is_named(override: str, path: str, words: str) -> None:
    recipe = {"data": {"source": "a.csv", "target": "y", "checks": []}, "train": {"epochs": 2}}
    (found,) = problems(recipe, override)
    assert found.path == path
    assert words in found.message


def test_overrides_reach_lists_and_names_with_dots() -> None:
    recipe = {"data": {"source": "a.csv", "target": "y", "checks": ["fake", {"type": "fake"}]}}
    loaded = load_recipe(recipe, overrides=["data.checks.1.width=9", 'data.fields."a.b"=number', "data.target=[y, z]"])
    assert [check["width"] for check in loaded.data.checks] == [3, 9]
    assert loaded.data.fields == {"a.b": "number"}
    assert loaded.data.targets == ("y", "z")
    assert recipe["data"]["checks"][1] == {"type": "fake"}


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        (["data.split.train=0.9"], "data.split"),
        (["data.split={train: 0, validation: 0.5, test: 0.5}"], "data.split.train"),
        (["data.split={column: s, folds: 3}"], "data.split.folds"),
        (["data.split={time: t, stratify: true}"], "data.split.stratify"),
        (["data.split={column: s, stratify: true}"], "data.split.stratify"),
        (["data.split={time: t, group: g}"], "data.split.time"),
        (["data.split={folds: 2}"], "data.split.folds"),
        (["data.split={train: 200, validation: 50, test: 50}"], "data.split"),
        (["data.split={group: g, stratify: true}"], "data.split.stratify"),
        (["data.split.fold=1"], "data.split.fold"),
        (["data.split={folds: 3, fold: 3}"], "data.split.fold"),
        (["data.test=t.csv", "data.split={train: 0.7, validation: 0.1, test: 0.2}"], "data.split.test"),
        (["data.target=[y, y]"], "data.target"),
        (["data.drop=[y]"], "data.drop"),
        (["data.weight=y"], "data.weight"),
        (["data.split.group=y"], "data.split.group"),
        (["data.drop=[a]", "data.fields={a: number}"], "data.fields.a"),
        (["data.transforms={y: fake}"], "data.transforms.y"),
        (["task=fake", "data.target=null"], "data.target"),
        (["train.batch_size=4", "train.accumulate=8"], "train.accumulate"),
        (["train.batch_size=10", "train.accumulate=4"], "train.accumulate"),
        (["train.compile=step", "train.accumulate=2"], "train.accumulate"),
        (["train.compile=step", "train.activation_checkpointing=1"], "train.activation_checkpointing"),
        (["train.compile=model", "train.activation_checkpointing=auto"], "train.activation_checkpointing"),
        (["train.cuda_graphs=true"], "train.cuda_graphs"),
        (["train.compile=step", "train.optimizer=fake"], "train.optimizer"),
        (["train.compile=step", "train.precision=bf16"], "train.precision"),
        (["train.compile=step", "train.clip_value=1"], "train.clip_value"),
        (["train.compile=step", "train.l1=0.1"], "train.l1"),
        (["train.compile=step", "train.l2=0.1"], "train.l2"),
        (["train.compile=step", "train.max_norm=1"], "train.max_norm"),
        (["train.compile=step", "train.devices=2"], "train.devices"),
        (["train.compile=step", "train.on_nonfinite=skip"], "train.on_nonfinite"),
        (["train.communication=qsgd"], "train.communication"),
        (["train.shares=auto"], "train.shares"),
        (["train.shares=[3, 1]"], "train.shares"),
        (["train.devices=3", "train.shares=[3, 1]"], "train.shares"),
        (["train.devices=2", "train.communication={type: parameter_server, server: 2}"], "train.communication.server"),
        (["train.devices=6", "train.communication={type: hierarchical, group: 4}"], "train.communication.group"),
        (["train.devices=2", "train.communication={type: hierarchical, group: 2}"], "train.communication.group"),
        (["cluster.workers=4", "train.communication=hierarchical"], "train.communication.group"),
        (["train.devices=2", "train.communication={type: qsgd, bits: 4, norm: l2, error_feedback: true}"], "train.communication.norm"),
        (["train.devices=2", "train.communication=power_sgd", "train.precision=fp16"], "train.precision"),
        (["train.devices=2", "train.communication={type: power_sgd, error_feedback: false}", "train.precision=fp16"], "train.precision"),
        (["train.devices=2", "train.strategy=fsdp", "train.communication=power_sgd"], "train.communication"),
        (["cluster.workers=2", "train.strategy=horovod", "train.communication=power_sgd"], "train.communication"),
        (["train.devices=2", "train.strategy=fsdp", "train.shares=auto"], "train.shares"),
        (["train.devices=2", "train.strategy=pipeline", "train.shares=[3, 1]"], "train.shares"),
        (["train.devices=2", "train.strategy=tensor", "train.clip=[autoclip]"], "train.clip"),
        (["train.devices=2", "train.strategy=fsdp", "train.layer_rates=gradient_variance"], "train.layer_rates"),
        (["train.devices=2", "train.strategy=pipeline", "train.precision=bf16"], "train.precision"),
        (["train.devices=2", "train.strategy=fsdp", "train.precision=fp16"], "train.precision"),
        (["train.devices=2", "train.strategy=fsdp", "train.compile=model"], "train.compile"),
        (["train.devices=2", "train.strategy=tensor", "train.channels_last=true"], "train.channels_last"),
        (["train.devices=2", "train.strategy=fsdp", "train.activation_checkpointing=1"], "train.activation_checkpointing"),
        (["train.devices=2", "train.strategy=pipeline", "train.accumulate=2", "train.batch_size=4"], "train.accumulate"),
        (["train.devices=2", "train.strategy=tensor", "train.max_norm=1.0"], "train.max_norm"),
        (["cluster.workers=2", "train.compile=step"], "train.devices"),
        (["cluster.workers=3", "train.shares=[3, 1]"], "train.shares"),
        (["train.compile=step", "train.clip=agc"], "train.clip"),
        (["train.compile=step", "train.layer_rates=gradient_variance"], "train.layer_rates"),
        (["train.clip=agc", "train.clip_norm=1"], "train.clip_norm"),
        (["train.clip=[agc, autoclip]", "train.clip_value=1"], "train.clip_value"),
        (["train.clip=[]"], "train.clip"),
        (["train.ema=1"], "train.ema"),
        (["train.validate_every_epochs=1", "train.validate_every_steps=5"], "train.validate_every_steps"),
        (["train.early_stopping=yes", "data.split={train: 1, validation: 0, test: 0}"], "train.early_stopping"),
        (["train.early_stopping=yes", "train.callbacks=[early_stopping]"], "train.callbacks.0"),
    ],
)
def test_each_cross_field_rule_bites(overrides: list[str], path: str) -> None:
    assert path in {one.path for one in problems(MINIMAL, *overrides)}


def test_a_model_in_parts_is_not_fine_tuned() -> None:
    for strategy, wanted in (("fsdp", True), ("ddp", False)):
        found = problems(MINIMAL, "train.devices=2", f"train.strategy={strategy}", "fine_tune={freeze: all}")
        assert any(one.path == "fine_tune" and f"strategy: {strategy}" in one.message for one in found) == wanted


@pytest.mark.parametrize("shares", ["{train: 7, validation: 1, test: 2}", "{train: 70, validation: 15, test: 15}", "{folds: 5, fold: 4}"])
def test_shares_may_be_proportions(shares: str) -> None:
    split = load_recipe(MINIMAL, overrides=[f"data.split={shares}"]).data.split
    assert sum(split.shares) == pytest.approx(1)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("250ms", 0.25), ("15", 15), (7, 7), (0.5, 0.5)])
def test_durations_have_units(text: object, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5x", "-5s", "0s", 0, -1, True, None, float("inf"), "m"])
def test_other_durations_are_refused(text: object) -> None:
    with pytest.raises(InputError):
        parse_duration_s(text)


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("- a\n")
    assert "not a list" in problems(tmp_path / "r.yaml")[0].message
    (tmp_path / "r.yaml").write_text("")
    assert problems(tmp_path / "r.yaml")[0].path == "data"
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        Recipe.from_value(3)


def test_plugins_are_imported_before_the_names_are_checked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from deepseek.registry import family\nfrom deepseek.data.checks.base import Check\n"
        "@family('check').register('plugged')\nclass Plugged(Check):\n    '''Plugged.'''\n"
        "    def __init__(self, *, depth: int = 1) -> None: ...\n"
    )
    (tmp_path / "r.yaml").write_text("plugins: [mine.py]\ndata: {source: a.csv, target: y, checks: [plugged]}\n")
    assert load_recipe(tmp_path / "r.yaml").data.checks == [{"type": "plugged", "depth": 1}]
    (tmp_path / "r.yaml").write_text("plugins:\n- gone.py\ndata: {source: a.csv, target: y}\n")
    (found,) = problems(tmp_path / "r.yaml")
    assert (found.path, found.line) == ("plugins.0", 2)


def test_secrets_stay_references_until_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    recipe = load_recipe({"data": {"source": "db://me:${ENV:DB_PASSWORD}@host", "target": "y"}})
    assert "${ENV:DB_PASSWORD}" in recipe.to_yaml()
    assert "hunter2" not in recipe.to_yaml() + recipe.show()
    assert resolve_secret(recipe.data.source) == "db://me:hunter2@host"
    monkeypatch.delenv("DB_PASSWORD")
    with pytest.raises(InputError, match="'DB_PASSWORD' is not set"):
        resolve_secret(recipe.data.source)


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe(MINIMAL).train.epochs = 3


def test_the_json_schema_names_every_component_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek.recipe.schema.FAMILIES", {"optimizer": ("", {}), "model": ("", {})})
    monkeypatch.setattr("deepseek.registry.Registry.names", lambda self: ["fake"])
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    enum, fake = schema["$defs"]["component-optimizer"]["oneOf"]
    assert enum == {"enum": ["fake"]}
    assert fake["properties"]["type"] == {"const": "fake"}
    assert fake["properties"]["width"]["description"] == "A width."
    assert fake["additionalProperties"] is False
    train = schema["$defs"]["TrainSection"]["properties"]
    assert train["optimizer"]["anyOf"] == [{"enum": ["auto"]}, {"$ref": "#/$defs/component-optimizer"}]
    assert train["epochs"]["description"]
    assert "x-family" not in json.dumps(schema)


def test_every_key_of_every_section_has_help() -> None:
    assert not [f"{section}.{key}" for section, key in KEYS if not SECTIONS[section].model_fields[key].description]


def test_mappings_from_python_are_left_as_they_were() -> None:
    value = json.loads(json.dumps(MINIMAL))
    load_recipe(value, overrides=["seed=3"])
    assert value == MINIMAL

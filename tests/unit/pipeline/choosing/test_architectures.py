"""The table of architectures: `auto` goes by it, the guide shows it, `recommend` prints the row that applies."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.cli import main
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.pipeline.choosing.architectures import ARCHITECTURES, Situation, architecture_of, architectures_table
from deepseek.pipeline.choosing.choices import choose
from deepseek.recipe import Recipe
from deepseek.registry import family

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "models-and-tasks.md"
BINARY = TargetSpec("binary", ("y",), ("no", "yes"), (5, 5), 10)
TABLE = {"numbers": InputSpec("numbers", Kind.NUMBER, ("x",), (1,), "float32")}
TEXT = {"note": InputSpec("note", Kind.TEXT, ("note",), (), "int32", (900,), ragged=True)}
SMALL = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (28, 96, 1), "uint8")}
LARGE = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (97, 28, 3), "uint8")}
SCAN = {"scan": InputSpec("scan", Kind.VOLUME, ("scan",), (8, 8, 8, 1), "float32")}
SOUND = {"call": InputSpec("call", Kind.AUDIO, ("call",), (), "int16", ragged=True)}
SECOND = {"reply": InputSpec("reply", Kind.AUDIO, ("reply",), (), "int16", ragged=True)}
CURVE = {"curve": InputSpec("curve", Kind.SERIES, ("curve",), (1,), "float32", ragged=True)}
STEPS = {"history": InputSpec("history", Kind.SERIES, ("load",), (48, 1), "float32", horizon=12)}
LOAD = TargetSpec("values", ("load",), (), (), 10, (5.0,), (2.0,))
TOKENS = TargetSpec("tokens", ("note",), rows=3, lengths=(0, 1, 1))
TAGS = TargetSpec("tags", ("tags",), ("O", "B-PER"), (9, 3), 5)
BOXES = TargetSpec("boxes", ("boxes",), ("cat", "dog"), (20, 20), 40, shape=(28, 96))
MASK = TargetSpec("mask", ("mask",), ("0", "1"), (20, 10), 20, integer_classes=True, shape=(28, 96))
CASES = [
    (TABLE, BINARY, "a table; points", "tabm"),
    (TEXT, BINARY, "texts", "text_bag"),
    (SMALL, BINARY, "images up to 96", "cnn"),
    (LARGE, BINARY, "larger images", "resnet"),
    ({**TABLE, **SMALL}, BINARY, "images up to 96", "cnn"),
    ({**TABLE, **TEXT}, BINARY, "texts beside a table", "network"),
    ({**TEXT, **LARGE}, BINARY, "texts and images", "network"),
    ({**TABLE, **TEXT, **SMALL}, BINARY, "texts and images", "network"),
    (SOUND, BINARY, "sounds", "audio_cnn"),
    ({**SOUND, **SECOND}, BINARY, "several sounds", "network"),
    ({**SOUND, **TABLE, **TEXT}, BINARY, "several sounds", "network"),
    (CURVE, BINARY, "a series of numbers", "network"),
    ({**CURVE, **TABLE}, BINARY, "several sounds or series", "network"),
    (STEPS, LOAD, "steps of series", "dlinear"),
    ({**STEPS, **TABLE}, LOAD, "steps of series", "dlinear"),
    (TEXT, TOKENS, "one long text", "text_decoder"),
    (TEXT, TAGS, "texts as words", "text_sequence"),
    (SMALL, BOXES, "images with boxes", "detector"),
    (LARGE, MASK, "images with masks", "unet"),
    (SCAN, MASK, "volumes with masks", "unet3d"),
]


def situation(inputs, target, rows=500):
    return Situation(inputs=inputs, target=target, rows=rows, columns=len(inputs))


@pytest.mark.parametrize(("inputs", "target", "row", "model"), CASES)
def test_what_auto_comes_to_is_what_the_table_says(inputs, target, row, model):
    found = architecture_of(situation(inputs, target))
    assert found.inputs.startswith(row)
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}})
    spec, why = choose(recipe, inputs, target, rows=500, columns=len(inputs))["model"]
    assert (spec, why) == found.choose(situation(inputs, target))
    assert spec["type"] == model


def test_every_row_applies_somewhere_and_names_components_that_exist():
    assert {row.inputs for row in ARCHITECTURES} == {architecture_of(situation(inputs, target)).inputs for inputs, target, _, _ in CASES}
    for row in ARCHITECTURES:
        for other in row.alternatives:
            assert other.model is None or family("model").validate(other.model)
            assert other.shown.split("`")[1] in family("model").names()
        assert set(row.tasks) <= set(family("task").names())


def test_what_no_row_is_for_falls_to_the_last():
    assert architecture_of(situation(SCAN, BINARY)) is ARCHITECTURES[-1]


def test_every_reason_says_where_it_was_measured_or_who_says_so():
    """A reason that was measured names a section of the benchmarks that holds figures."""
    pages = GUIDE.parent
    for row in ARCHITECTURES:
        assert row.evidence, row.inputs
        for one in row.evidence:
            assert one.said in {"measured", "tested", "nanoGPT"} or re.fullmatch(r"[^,]+, \d{4}", one.said)
            if one.link.startswith("https://"):
                continue
            page, _, section = one.link.partition("#")
            headings = re.split(r"^#+ ", (pages / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
            bodies = {part.partition("\n")[0].lower().replace(" ", "-"): part for part in headings}
            assert section in bodies, one.link
            assert "Not measured yet" not in bodies[section], one.link


def test_of_several_images_the_largest_decides():
    small, large = SMALL["photo"], replace(LARGE["photo"], name="plan", columns=("plan",))
    for inputs in ({"photo": small, "plan": large}, {"plan": large, "photo": small}):
        found = architecture_of(situation(inputs, BINARY))
        assert found.inputs.startswith("larger images")
        assert found.choose(situation(inputs, BINARY))[0]["type"] == "resnet"
        assert "beside a table" not in found.choose(situation(inputs, BINARY))[1]


def test_columns_that_the_forecasts_default_is_blind_to_are_named():
    columns = ("price", "date", "date_day_sin")
    ahead = InputSpec("known_numbers", Kind.SERIES, columns, (60, 3), "float32", horizon=12)
    for inputs, said in (({**STEPS, "known_numbers": ahead}, "; price, date: not looked at"), (STEPS, "")):
        _, why = architecture_of(situation(inputs, LOAD)).choose(situation(inputs, LOAD))
        assert ("not looked at" in why) == bool(said)
        assert said in why


def test_where_words_begin_is_part_of_their_text():
    starts = InputSpec("note_words", Kind.ID, ("note",), (), "int32", ragged=True)
    assert situation({**TEXT, "note_words": starts}, TAGS).senses == {"text"}


def test_the_guide_shows_the_table():
    assert architectures_table() in GUIDE.read_text(encoding="utf-8"), "print(architectures_table()) of that module gives it anew"


class TestRecommend:
    @pytest.fixture
    def source(self, tmp_path):
        draw = np.random.default_rng(0)
        columns = {"age": draw.normal(40, 9, 200), "city": draw.choice(["Oslo", "Rome"], 200), "left": draw.choice(["no", "yes"], 200)}
        pa.csv.write_csv(pa.table(columns), tmp_path / "people.csv")
        return tmp_path / "people.csv"

    def test_it_says_what_a_run_would_take_and_what_it_weighs(self, source, tmp_path):
        advice = deepseek.recommend(source, target="left", out=tmp_path / "runs")
        assert (advice["model"]["type"], advice["inputs"], advice["rows"], advice["task"]) == ("tabm", ["table"], 140, "binary")
        assert advice["training_bytes"] == 16 * advice["parameters"] > 0
        others = {other["shown"]: other for other in advice["alternatives"]}
        assert set(others) == {"wide_deep", "mlp", "residual"}
        seen = deepseek.preview(
            {"data": {"source": str(source), "target": "left"}, "model": "wide_deep"},
            out=tmp_path / "runs",
            overrides=["train.batch_size=16"],
        )
        assert others["wide_deep"]["parameters"] == seen["network"]["parameters"]

    def test_a_recipe_is_taken_and_a_missing_target_is_told(self, source, tmp_path):
        (tmp_path / "people.yaml").write_text("data: {source: people.csv, target: left}\n", encoding="utf-8")
        assert deepseek.recommend(tmp_path / "people.yaml", out=tmp_path / "runs")["rows"] == 140
        with pytest.raises(InputError, match="the column to predict"):
            deepseek.recommend(source, out=tmp_path / "runs")

    def test_the_verb_prints_the_row_and_the_alternatives(self, source, tmp_path, capsys):
        assert main(["recommend", str(source), "-t", "left", "--out", str(tmp_path / "runs")]) == 0
        shown = capsys.readouterr().out
        assert "tabm: a table of 2 columns and 140 training rows" in shown
        assert "wide_deep" in shown
        assert "single combinations" in shown
        assert "(measured, benchmarks.md#tables; Gorishniy et al., 2024, https://" in shown

"""What `auto` comes to must be something that the rest of the recipe allows."""

import pytest

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.pipeline.choosing.choices import choose
from deepseek.recipe import Recipe

NUMBERS = {"numbers": InputSpec("numbers", Kind.NUMBER, ("x",), (1,), "float32")}
TARGET = TargetSpec("binary", ("y",), ("no", "yes"), (5, 5), 10)


@pytest.mark.parametrize(
    ("metrics", "chosen"),
    [(None, True), (["log_loss", "f1"], True), ([{"type": "log_loss"}], True), (["accuracy", "f1"], False), ([], False)],
)
def test_only_a_metric_that_is_computed_is_monitored(metrics, chosen):
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}, "task": {"type": "binary", "metrics": metrics}})
    assert ("train.monitor" in choose(recipe, NUMBERS, TARGET, rows=10, columns=1)) is chosen


def test_without_validation_rows_nothing_stops_early_and_nothing_is_monitored():
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}})
    with_rows, without = (choose(recipe, NUMBERS, TARGET, rows=10, columns=1, validated=validated) for validated in (True, False))
    assert with_rows["train.early_stopping"][0] == {"patience": 8}
    assert without["train.early_stopping"] == (False, "there are no validation rows")
    assert "train.monitor" in with_rows
    assert "train.monitor" not in without


TEXT = {"note": InputSpec("note", Kind.TEXT, ("note",), (), "int32", (900,), ragged=True)}
PHOTO = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (28, 28, 1), "uint8")}
CLASSES = TargetSpec("classes", ("y",), tuple("abcdefg"), (5,) * 7, 35)


def chosen(inputs, target=TARGET, rows=5_000):
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}})
    return {key: value for key, (value, _) in choose(recipe, inputs, target, rows=rows, columns=len(inputs)).items()}


def test_texts_alone_are_a_bag_of_ngrams_whose_sizes_go_by_the_rows():
    few, many = (chosen(TEXT, rows=rows) for rows in (300, 100_000))
    assert (few["model"]["type"], few["model"]["ngrams"], few["model"]["pool"]) == ("text_bag", 3, "root")
    assert (few["model"]["buckets"], many["model"]["buckets"]) == (1 << 15, 1 << 20)
    assert (few["train.batch_size"], many["train.batch_size"]) == (16, 128)
    assert (few["train.epochs"], many["train.epochs"]) == (40, 5)
    assert few["train.monitor"] == "log_loss"


def test_a_bag_has_room_for_each_class():
    assert chosen(TEXT)["model"]["width"] == 2
    assert chosen(TEXT, CLASSES)["model"]["width"] == 7


@pytest.mark.parametrize(
    ("others", "encoders", "trunk"),
    [
        (NUMBERS, {"text": "text_bag", "table": "table"}, "tabm"),
        (PHOTO, {"text": "text_bag", "image": "cnn"}, "identity"),
        ({**NUMBERS, **PHOTO}, {"text": "text_bag", "image": "cnn", "table": "table"}, "identity"),
    ],
)
def test_beside_texts_each_kind_has_the_encoder_that_it_has_alone(others, encoders, trunk):
    model = chosen({**TEXT, **others})["model"]
    assert {name: spec["type"] for name, spec in model["encoders"].items()} == encoders
    assert model["trunk"]["type"] == trunk


def test_ngrams_learn_at_one_rate_in_any_company():
    rates = {}
    for name, others in {"alone": {}, "table": NUMBERS, "photo": PHOTO}.items():
        choices = chosen({**TEXT, **others})
        bag = choices["model"] if name == "alone" else choices["model"]["encoders"]["text"]
        rates[name] = bag["learning_rate_factor"] * choices["train.learning_rate"]
    assert rates == {name: pytest.approx(1e-2) for name in rates}


def test_images_beside_texts_are_not_trained_with_plain_gradient_steps():
    choices = chosen({**TEXT, **PHOTO}, CLASSES)
    assert choices["train.optimizer"]["type"] == "adamw"
    assert "task.loss.label_smoothing" not in choices
    assert choices["train.early_stopping"] == {"patience": 8}
    assert choices["train.monitor"] == "log_loss"


def test_few_images_are_trained_in_bounded_steps_and_many_in_large_ones():
    few, many = (chosen(PHOTO, CLASSES, rows) for rows in (19_999, 20_000))
    assert (few["train.optimizer"]["type"], few["train.learning_rate"], few["train.ema"]) == ("adamw", 2e-3, 0.99)
    assert (few["train.clip_norm"], few["train.early_stopping"]) == (1.0, {"patience": 8})
    assert (many["train.optimizer"]["type"], many["train.learning_rate"], many["train.ema"]) == ("sgd", 0.4, None)
    assert (many["train.batch_size"], many["train.epochs"], many["train.early_stopping"]) == (256, 22, False)


@pytest.mark.parametrize(("rows", "batch", "epochs"), [(100, 32, 40), (1_200, 32, 25), (5_000, 64, 12), (19_999, 256, 12)])
def test_the_fewer_images_the_smaller_the_batches_and_the_more_epochs(rows, batch, epochs):
    choices = chosen(PHOTO, CLASSES, rows)
    assert (choices["train.batch_size"], choices["train.epochs"]) == (batch, epochs)


def test_few_images_beside_a_table_are_trained_as_few_images_alone():
    alone, beside = (chosen(inputs, CLASSES, 1_500) for inputs in (PHOTO, {**PHOTO, **NUMBERS}))
    training = {key for key in alone if key.startswith("train.")}
    assert {key: alone[key] for key in training} == {key: beside[key] for key in training}


def test_the_reason_for_a_tables_model_counts_the_columns_of_the_file():
    derived = {"times": InputSpec("times", Kind.NUMBER, tuple(f"day_{part}" for part in range(8)), (5,), "float32")}
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}})
    _, reason = choose(recipe, derived, TARGET, rows=10, columns=1)["model"]
    assert reason.startswith("a table of 1 column and 10 training rows")


@pytest.mark.parametrize(
    ("task", "target", "monitored"),
    [
        ({"type": "multiclass", "class_weights": "balanced"}, CLASSES, "balanced_accuracy"),
        ({"type": "multiclass", "resample": "over"}, CLASSES, "balanced_accuracy"),
        ({"type": "multiclass", "resample": "over", "probabilities": "of_data"}, CLASSES, "log_loss"),
        ({"type": "multiclass"}, CLASSES, "log_loss"),
        ({"type": "multiclass", "class_weights": "balanced", "metrics": ["accuracy"]}, CLASSES, None),
        ({"type": "binary", "class_weights": "balanced"}, TARGET, None),
        ({"type": "binary"}, TARGET, "log_loss"),
    ],
    ids=str,
)
def test_what_is_monitored_does_not_undo_what_evens_classes(task, target, monitored):
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}, "task": task})
    assert choose(recipe, NUMBERS, target, rows=5_000, columns=1).get("train.monitor", (None,))[0] == monitored


CALL = {"call": InputSpec("call", Kind.AUDIO, ("call",), (), "int16", ragged=True)}


def test_sounds_alone_have_a_network_of_their_own_and_beside_others_each_its_own():
    alone, beside = chosen(CALL), chosen({**CALL, **TEXT, **NUMBERS})
    assert alone["model"]["type"] == "audio_cnn"
    assert (beside["model"]["type"], beside["model"]["fusion"]["type"]) == ("network", "concat")
    for one in (alone, beside):
        assert one["train.optimizer"]["type"] == "adamw"
        assert one["train.early_stopping"] is False
        assert one["data.augment"][0]["type"] == "spec_augment"
    assert chosen({**CALL, **PHOTO})["data.augment"][0]["type"] == "shift"

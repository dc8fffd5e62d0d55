from __future__ import annotations

import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms import InputSpec
from deepseek.errors import InputError, RecipeError, UnknownNameError
from deepseek.fields import Kind
from deepseek.models.network import FeatureNetwork
from deepseek.registry import family
from deepseek.tasks import FORECASTING, TASK_OF_KIND
from deepseek.tasks.binary import BinaryTask
from deepseek.tasks.model import TaskModel
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.tasks.multilabel import MultilabelTask
from deepseek.tasks.regression import RegressionTask

BINARY = TargetSpec("binary", ("y",), ("no", "yes"), (30, 10), 40)
CLASSES = TargetSpec("classes", ("y",), ("3", "5", "7"), (20, 10, 10), 40, integer_classes=True)
LABELS = TargetSpec("labels", ("y",), ("red", "green"), (10, 30), 40)
VALUES = TargetSpec("values", ("price", "rent"), (), (), 40, (100.0, -2.0), (10.0, 0.5))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def batch(target, weight=None):
    return Batch({"x": torch.zeros(len(target), 1)}, {"target": target}, weight)


def test_each_kind_of_target_has_its_task():
    for target in (
        BINARY,
        CLASSES,
        LABELS,
        VALUES,
        TargetSpec("tokens", ("text",)),
        TargetSpec("tags", ("tags",)),
        TargetSpec("features", ()),
    ):
        assert family("task").get(TASK_OF_KIND[target.kind]).kind == target.kind
    assert {*TASK_OF_KIND.values(), FORECASTING} == set(family("task").names())  # a forecast is asked for by name


def test_a_task_refuses_targets_of_another_kind():
    with pytest.raises(InputError, match=r"BinaryTask.*y is 'classes'"):
        BinaryTask(CLASSES)


def test_binary_averages_probabilities_of_members():
    out = torch.tensor([[[2.0], [-1.0]], [[30.0], [30.0]]])
    probability = BinaryTask(BINARY).decode(out)["probability"]
    assert probability[0, 1].item() == pytest.approx(out[0].sigmoid().mean().item())
    assert probability[0].sum().item() == pytest.approx(1)
    assert 0 < probability[1, 0] < 1e-12  # 1 - p would be zero


def test_multiclass_averages_probabilities_of_members():
    out = torch.randn(4, 3, 3)
    torch.testing.assert_close(MulticlassTask(CLASSES).decode(out)["probability"], out.softmax(-1).mean(1))


def test_class_weights_are_torchs():
    out, target = torch.randn(9, 1, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 0])
    numerator, denominator = MulticlassTask(CLASSES, class_weights={"5": 3.0, "7": 0.5}).loss(out, batch(target))
    wanted = functional.cross_entropy(out[:, 0], target, weight=torch.tensor([1.0, 3.0, 0.5]))
    torch.testing.assert_close(numerator / denominator, wanted)


@pytest.mark.parametrize(("make", "spec"), [(BinaryTask, BINARY), (MulticlassTask, CLASSES)])
def test_balanced_classes_weigh_alike(make, spec):
    target = torch.repeat_interleave(torch.arange(len(spec.classes)), torch.tensor(spec.counts))
    target = target.float() if spec.kind == "binary" else target
    weight = make(spec, class_weights="balanced").row_weights(target)
    sums = [weight[target == k].sum().item() for k in range(len(spec.classes))]
    assert sums == pytest.approx([40 / len(spec.classes)] * len(spec.classes))
    assert make(spec).row_weights(target) is None


def test_class_weights_of_soft_targets_are_mixed():
    weights = {"3": 1.0, "5": 3.0, "7": 5.0}
    mixed = MulticlassTask(CLASSES, class_weights=weights).row_weights(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    assert mixed.tolist() == [2.0, 5.0]
    soft = BinaryTask(BINARY, class_weights={"yes": 3.0}).row_weights(torch.tensor([0.0, 0.25, 1.0]))
    assert soft.tolist() == [1.0, 1.5, 3.0]


def test_class_weights_multiply_the_rows_own():
    out, target, weight = torch.randn(4, 1, 1), torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([1.0, 2.0, 0.0, 4.0])
    _, denominator = BinaryTask(BINARY, class_weights={"yes": 3.0}).loss(out, batch(target, weight))
    assert denominator.item() == 11.0


def test_label_weights_are_torchs_positive_weights():
    out, target = torch.randn(6, 1, 2), torch.randint(0, 2, (6, 2)).float()
    numerator, denominator = MultilabelTask(LABELS, class_weights="balanced").loss(out, batch(target))
    wanted = functional.binary_cross_entropy_with_logits(out[:, 0], target, pos_weight=torch.tensor([3.0, 1 / 3]))
    torch.testing.assert_close(numerator / denominator, wanted)


def test_class_weights_are_checked():
    with pytest.raises(InputError, match="maybe"):
        BinaryTask(BINARY, class_weights={"maybe": 2.0})
    with pytest.raises(UnknownNameError, match="blue"):
        MultilabelTask(LABELS, class_weights={"blue": 2.0})
    with pytest.raises(InputError, match="above 0"):
        MultilabelTask(LABELS, class_weights={"red": 0.0})


def test_answers_have_the_class_names_in_their_own_type():
    table = MulticlassTask(CLASSES).answer({"probability": torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])})
    assert table.column_names == ["prediction", "probability_3", "probability_5", "probability_7"]
    assert table["prediction"].to_pylist() == [7, 3]
    binary = BinaryTask(BINARY).answer({"probability": torch.tensor([[0.1, 0.9]])})
    assert binary["prediction"].to_pylist() == ["yes"]
    assert binary["probability_yes"].to_pylist() == pytest.approx([0.9])


def test_labels_are_answered_as_lists():
    table = MultilabelTask(LABELS).answer({"probability": torch.tensor([[0.9, 0.2], [0.1, 0.2], [0.5, 0.7]])})
    assert table["prediction"].to_pylist() == [["red"], [], ["red", "green"]]
    assert table["probability_green"].to_pylist() == pytest.approx([0.2, 0.2, 0.7])


def test_regression_learns_standardised_and_answers_in_units():
    task = RegressionTask(VALUES)
    target = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    exact = target[:, None]
    assert task.loss(exact, batch(target))[0].item() == 0
    assert task.loss(torch.zeros(2, 1, 2), batch(target))[0].item() == pytest.approx((1 + 0) / 2 + (0 + 4) / 2)
    table = task.answer(task.decode(exact))
    assert table.to_pydict() == {"prediction_price": [110.0, 100.0], "prediction_rent": [-2.0, -1.0]}
    one = RegressionTask(TargetSpec("values", ("price",), mean=(100.0,), std=(10.0,)))
    assert one.answer(one.decode(exact[..., :1])).column_names == ["prediction"]
    assert one.loss(torch.ones(2, 1, 1), batch(torch.tensor([1.0, 1.0])))[0].item() == 0


def test_answers_beside_a_large_mean_keep_their_digits():
    task = RegressionTask(TargetSpec("values", ("time",), mean=(1.7e9,), std=(10.0,)))
    answers = task.answer(task.decode(torch.tensor([[[0.25]], [[-0.5]]])))["prediction"]
    assert answers.type == pa.float64()
    assert answers.to_pylist() == [1.7e9 + 2.5, 1.7e9 - 5]


def test_metrics_are_those_named_beside_loss_and_monitor():
    assert list(BinaryTask(BINARY).metrics()) == ["loss", "auc", "accuracy", "balanced_accuracy", "f1", "log_loss", "brier"]
    spec = family("task").validate({"type": "multiclass", "metrics": ["auc"]})
    assert list(family("task").build(spec, CLASSES).metrics()) == ["loss", "accuracy", "auc"]
    with pytest.raises(InputError, match="RootMeanSquaredError"):
        BinaryTask(BINARY, metrics=["rmse"]).metrics()


def test_loss_and_its_settings_come_from_the_recipe():
    spec = family("task").validate({"type": "multiclass", "loss": {"type": "cross_entropy", "label_smoothing": 0.1}})
    out, target = torch.randn(4, 1, 3), torch.tensor([0, 1, 2, 0])
    numerator, denominator = family("task").build(spec, CLASSES).loss(out, batch(target))
    torch.testing.assert_close(numerator / denominator, functional.cross_entropy(out[:, 0], target, label_smoothing=0.1))
    with pytest.raises(RecipeError, match="label_smothing"):
        family("task").validate({"type": "multiclass", "loss": {"type": "cross_entropy", "label_smothing": 0.1}})
    with pytest.raises(InputError, match="MeanSquaredLoss"):
        MulticlassTask(CLASSES, loss="mse")


def test_answers_are_arrow_tables():
    assert isinstance(BinaryTask(BINARY).answer({"probability": torch.rand(2, 2)}), pa.Table)


class Maps(FeatureNetwork):
    features = "map"
    width = 3

    def forward(self, inputs):
        return inputs["x"]


def test_a_network_whose_features_the_task_does_not_take_is_refused():
    network = Maps({"x": InputSpec("x", Kind.IMAGE, ("x",), (3, 4, 4), "float32")}, {})
    task = family("task").build("binary", TargetSpec("binary", ("y",), ("no", "yes"), (3, 3), 6))
    with pytest.raises(InputError, match="Maps returns a vector for each place of a picture, and BinaryTask takes a vector a row"):
        TaskModel(network, task)

"""What weights, resampling and adjusted logits do to a loss, and that their shift can be taken out of probabilities again."""

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec, class_weights, effective_number
from deepseek.errors import InputError
from deepseek.tasks.binary import BinaryTask
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.tasks.multilabel import MultilabelTask

BINARY = TargetSpec("binary", ("y",), ("no", "yes"), (900, 100), 1_000)
CLASSES = TargetSpec("classes", ("y",), ("a", "b", "c"), (600, 300, 100), 1_000)
LABELS = TargetSpec("labels", ("y",), ("red", "green"), (100, 800), 1_000)
KINDS = {"binary": (BinaryTask, BINARY), "classes": (MulticlassTask, CLASSES)}


def batch(target, weight=None):
    return Batch({"x": torch.zeros(len(target), 1)}, {"target": target}, weight)


def fitted_logits(task, target, weight=None):
    """Minimise the loss over one vector of logits for all rows: what a network learns where inputs tell nothing."""
    out = nn.Parameter(torch.zeros(1, 1, task.outputs, dtype=torch.float64))
    optimizer = torch.optim.LBFGS([out], lr=1.0, max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        numerator, denominator = task.loss(out.expand(len(target), -1, -1), batch(target, weight))
        (numerator / denominator).backward()
        return (numerator / denominator).detach()

    optimizer.step(closure)
    return out.detach()


def codes_of(spec):
    codes = torch.repeat_interleave(torch.arange(len(spec.classes)), torch.tensor(spec.counts))
    return codes.double() if spec.kind == "binary" else codes


def resampled(spec):
    """Targets as `over` draws them."""
    codes = torch.arange(len(spec.classes)).repeat(300)
    return codes.double() if spec.kind == "binary" else codes


def share(spec):
    return np.array(spec.counts) / spec.rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        ({"class_weights": "balanced"}, False),
        ({"class_weights": "effective"}, False),
        ({"class_weights": "named"}, False),
        ({"resample": "over"}, True),
        ({"resample": "under", "class_weights": "named"}, True),
        ({"logit_adjustment": 1.0}, False),
        ({"logit_adjustment": 0.5, "class_weights": "named"}, False),
    ],
    ids=str,
)
def test_probabilities_of_data_are_the_datas_and_as_trained_they_are_not(kind, settings, drawn):
    make, spec = KINDS[kind]
    if settings.get("class_weights") == "named":
        settings = {**settings, "class_weights": {spec.classes[-1]: 7.0}}
    target = resampled(spec) if drawn else codes_of(spec)
    trained = make(spec, **settings)
    corrected = make(spec, **settings, probabilities="of_data")
    logits = fitted_logits(trained, target)
    np.testing.assert_allclose(corrected.decode(logits)["probability"][0], share(spec), atol=1e-4)
    assert np.abs(trained.decode(logits)["probability"][0].numpy() - share(spec)).max() > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_balancing_by_weights_draws_or_logits_comes_to_the_same(kind):
    make, spec = KINDS[kind]
    even = np.full(len(spec.classes), 1 / len(spec.classes))
    for settings, target in (
        ({"class_weights": "balanced"}, codes_of(spec)),
        ({"resample": "over"}, resampled(spec)),
        ({"logit_adjustment": 1.0}, codes_of(spec)),
    ):
        task = make(spec, **settings)
        np.testing.assert_allclose(task.decode(fitted_logits(task, target))["probability"][0], even, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_of_it_nothing_is_taken_off(kind):
    make, spec = KINDS[kind]
    out = torch.randn(5, 2, 1 if kind == "binary" else 3)
    plain, of_data = make(spec), make(spec, probabilities="of_data")
    assert torch.equal(plain.decode(out)["probability"], of_data.decode(out)["probability"])
    assert plain.resample is None


def test_adjusted_logits_are_menons():
    """Equation 10: the cross-entropy of the logits plus tau times the log-priors."""
    out, target = torch.randn(7, 1, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    losses = MulticlassTask(CLASSES, logit_adjustment=1.5).row_losses(out, target)
    prior = torch.tensor(share(CLASSES), dtype=torch.float32)
    wanted = nn.functional.cross_entropy(out[:, 0] + 1.5 * prior.log(), target, reduction="none")
    torch.testing.assert_close(losses, wanted)


def test_adjusted_logits_take_soft_targets_too():
    out, soft = torch.randn(4, 1, 3), torch.tensor([[0.5, 0.5, 0.0]] * 4)
    task = MulticlassTask(CLASSES, logit_adjustment=1.0)
    hard = [task.row_losses(out, torch.full((4,), code)) for code in (0, 1)]
    torch.testing.assert_close(task.row_losses(out, soft), (hard[0] + hard[1]) / 2)


def test_effective_weights_are_cuis():
    weights = class_weights(CLASSES, "effective", beta=0.99)
    number = (1 - 0.99 ** np.array(CLASSES.counts)) / (1 - 0.99)
    assert weights / weights[0] == pytest.approx((1 / number) / (1 / number)[0])
    assert (weights * CLASSES.counts).sum() == pytest.approx(CLASSES.rows)
    balanced = class_weights(CLASSES, "balanced")
    assert class_weights(CLASSES, "effective", beta=0.0) == pytest.approx([1, 1, 1])
    assert class_weights(CLASSES, "effective", beta=1 - 1e-9) == pytest.approx(balanced, rel=1e-5)
    assert 1 < weights[2] / weights[0] < balanced[2] / balanced[0]


def test_the_effective_number_of_one_row_is_one():
    assert effective_number(np.array([1.0, 2.0]), 0.9) == pytest.approx([1.0, 1.9])


def test_effective_weights_of_labels():
    task = MultilabelTask(LABELS, class_weights="effective", effective_beta=0.99)
    true, false = effective_number(np.array([100.0, 800.0]), 0.99), effective_number(np.array([900.0, 200.0]), 0.99)
    assert task._positive_weights.tolist() == pytest.approx((false / true).tolist())


def test_label_probabilities_of_data_are_the_datas():
    target = torch.zeros(1_000, 2, dtype=torch.float64)
    target[:100, 0] = 1
    target[:800, 1] = 1
    trained = MultilabelTask(LABELS, class_weights="balanced")
    logits = fitted_logits(trained, target)
    np.testing.assert_allclose(trained.decode(logits)["probability"][0], [0.5, 0.5], atol=1e-4)
    of_data = MultilabelTask(LABELS, class_weights="balanced", probabilities="of_data")
    np.testing.assert_allclose(of_data.decode(logits)["probability"][0], [0.1, 0.8], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"class_weights": "balanced", "resample": "over"}, "class_weights and resample"),
        ({"class_weights": "effective", "logit_adjustment": 1.0}, "class_weights and logit_adjustment"),
        ({"resample": "under", "logit_adjustment": 1.0}, "resample and logit_adjustment"),
        ({"loss": "focal", "probabilities": "of_data"}, "focal loss"),
        ({"class_weights": {"b": 0.0}, "probabilities": "of_data"}, "weighs nothing"),
    ],
)
def test_what_contradicts_itself_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        MulticlassTask(CLASSES, **settings)


def test_members_are_corrected_each():
    out = torch.randn(3, 4, 3)
    task = MulticlassTask(CLASSES, class_weights="balanced", probabilities="of_data")
    weights = torch.tensor(class_weights(CLASSES, "balanced"), dtype=torch.float32)
    scaled = out.softmax(-1) / weights
    torch.testing.assert_close(task.decode(out)["probability"], (scaled / scaled.sum(-1, keepdim=True)).mean(1))


def test_metrics_do_not_know_of_weights():
    target = codes_of(CLASSES)
    decoded = {"probability": torch.rand(1_000, 3).softmax(-1)}
    for name in ("accuracy", "log_loss"):
        values = []
        for settings in ({}, {"class_weights": "balanced"}, {"resample": "over"}):
            metric = MulticlassTask(CLASSES, **settings).metrics()[name]
            metric.update(decoded, batch(target))
            values.append(metric.compute())
        assert values[0] == values[1] == values[2]

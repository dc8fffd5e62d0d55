from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError
from deepseek.tasks.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    FocalLoss,
    HuberLoss,
    MeanAbsoluteLoss,
    MeanSquaredLoss,
)

BINARY = TargetSpec("binary", ("y",), ("no", "yes"), (3, 1), 4)
CLASSES = TargetSpec("classes", ("y",), ("a", "b", "c"), (2, 1, 1), 4)
LABELS = TargetSpec("labels", ("y",), ("a", "b", "c"), (2, 1, 1), 4)
VALUES = TargetSpec("values", ("x", "z"), mean=(0.0, 0.0), std=(1.0, 1.0))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def over_members(out, one):
    return torch.stack([one(out[:, member]) for member in range(out.shape[1])]).mean(dim=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_for_codes_and_shares(smoothing):
    out, codes = torch.randn(6, 2, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = CrossEntropyLoss(CLASSES, label_smoothing=smoothing)
    wanted = over_members(out, lambda x: functional.cross_entropy(x, codes, reduction="none", label_smoothing=smoothing))
    torch.testing.assert_close(loss.rows(out, codes), wanted)
    shares = torch.rand(6, 3).softmax(dim=1)
    wanted = over_members(out, lambda x: functional.cross_entropy(x, shares, reduction="none", label_smoothing=smoothing))
    torch.testing.assert_close(loss.rows(out, shares), wanted)


def test_binary_cross_entropy_is_torchs():
    out, target = torch.randn(6, 2, 1), torch.tensor([0.0, 1.0, 1.0, 0.0, 0.3, 1.0])
    wanted = over_members(out, lambda x: functional.binary_cross_entropy_with_logits(x[:, 0], target, reduction="none"))
    torch.testing.assert_close(BinaryCrossEntropyLoss(BINARY).rows(out, target), wanted)
    many, labels = torch.randn(6, 2, 3), torch.randint(0, 2, (6, 3)).float()
    wanted = over_members(many, lambda x: functional.binary_cross_entropy_with_logits(x, labels, reduction="none").mean(dim=1))
    torch.testing.assert_close(BinaryCrossEntropyLoss(LABELS).rows(many, labels), wanted)


def test_label_smoothing_punishes_certainty():
    # Ablation: without smoothing the surer answer is the better one.
    sure, unsure, target = torch.tensor([[[20.0]]]), torch.tensor([[[3.0]]]), torch.ones(1)
    plain, smooth = BinaryCrossEntropyLoss(BINARY), BinaryCrossEntropyLoss(BINARY, label_smoothing=0.1)
    assert plain.rows(sure, target) < plain.rows(unsure, target)
    assert smooth.rows(sure, target) > smooth.rows(unsure, target)
    out, codes = torch.tensor([[[20.0, 0.0, 0.0]]]), torch.tensor([0])
    assert CrossEntropyLoss(CLASSES, label_smoothing=0.1).rows(out, codes) > CrossEntropyLoss(CLASSES).rows(out, codes) + 1


def test_focal_is_the_papers_formula():
    out, target = torch.randn(6, 2, 1), torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    p = out.sigmoid().squeeze(-1)
    sure = torch.where(target[:, None] == 1, p, 1 - p)
    balance = torch.where(target[:, None] == 1, 0.25, 0.75)
    wanted = (-balance * (1 - sure) ** 2 * sure.log()).mean(dim=1)
    torch.testing.assert_close(FocalLoss(BINARY, alpha=0.25).rows(out, target), wanted)


def test_focal_without_gamma_is_cross_entropy_and_fades_easy_rows_with_it():
    out, codes = torch.randn(6, 2, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(FocalLoss(CLASSES, gamma=0.0).rows(out, codes), CrossEntropyLoss(CLASSES).rows(out, codes))
    shares = functional.one_hot(codes, 3).float()
    torch.testing.assert_close(FocalLoss(CLASSES).rows(out, shares), FocalLoss(CLASSES).rows(out, codes))
    easy, hard = torch.tensor([[[4.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 4.0, 0.0]]])
    zero = torch.tensor([0])
    plain = CrossEntropyLoss(CLASSES)
    focal = FocalLoss(CLASSES)
    assert focal.rows(easy, zero) / focal.rows(hard, zero) < 0.01 * plain.rows(easy, zero) / plain.rows(hard, zero)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_finite_for_extreme_outputs(gamma):
    out = torch.tensor([[[90.0]], [[-90.0]], [[90.0]], [[-90.0]]], requires_grad=True)
    FocalLoss(BINARY, gamma=gamma).rows(out, torch.tensor([1.0, 1.0, 0.0, 0.0])).sum().backward()
    assert torch.isfinite(out.grad).all()


def test_losses_of_values_are_torchs():
    out, target = torch.randn(6, 2, 2) * 3, torch.randn(6, 2)
    for loss, reference in (
        (MeanSquaredLoss(VALUES), functional.mse_loss),
        (MeanAbsoluteLoss(VALUES), functional.l1_loss),
        (HuberLoss(VALUES), functional.huber_loss),
    ):
        wanted = over_members(out, lambda x, reference=reference: reference(x, target, reduction="none").mean(dim=1))
        torch.testing.assert_close(loss.rows(out, target), wanted)
    wide = over_members(out, lambda x: functional.huber_loss(x, target, reduction="none", delta=3.0).mean(dim=1))
    torch.testing.assert_close(HuberLoss(VALUES, delta=3.0).rows(out, target), wide)


def test_a_loss_refuses_targets_of_another_kind():
    with pytest.raises(InputError, match=r"CrossEntropyLoss.*'values'"):
        CrossEntropyLoss(VALUES)
    with pytest.raises(InputError, match="alpha"):
        FocalLoss(CLASSES, alpha=0.5)

"""Losses and metrics of masks, against definitions written out place by place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.data.targets.mask import IGNORED
from deepseek.errors import InputError
from deepseek.registry import family
from deepseek.tasks.answers import mask_table, masks_in
from deepseek.tasks.losses import CrossEntropyLoss, FocalLoss
from deepseek.tasks.mask_losses import DiceCrossEntropyLoss, DiceLoss
from deepseek.tasks.mask_metrics import Dice, IntersectionOverUnion, PixelAccuracy

TARGET = TargetSpec("mask", ("mask",), ("0", "100", "200"), (9, 9, 5), 9, integer_classes=True, shape=(4, 5))


@pytest.fixture
def case():
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, (6, 4, 5))
    truth[0] = 0  # a picture without any foreground
    truth[1][truth[1] == 2] = 0
    truth[2, :2] = IGNORED
    out = random.normal(size=(6, 3, 4, 5))
    return torch.from_numpy(out).float(), torch.from_numpy(truth.astype(np.uint8))


def probability(out):
    shifted = np.exp(out - out.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_the_dice_loss_is_its_formula_row_by_row_and_class_by_class(case):
    out, target = case
    for background in (False, True):
        likely, truth = probability(out.double().numpy()), target.numpy()
        wanted = []
        for row in range(len(truth)):
            known = truth[row] != IGNORED
            parts = []
            for code in range(0 if background else 1, 3):
                p, g = likely[row, code][known], (truth[row] == code)[known]
                parts.append(1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5))
            wanted.append(np.mean(parts))
        made = DiceLoss(TARGET, background=background).rows(out, target)
        np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-5)


def test_cross_entropy_is_the_mean_over_places_that_are_known(case):
    out, target = case
    for smoothing in (0.0, 0.1):
        made = CrossEntropyLoss(TARGET, label_smoothing=smoothing).rows(out, target)
        for row in range(len(target)):
            known = target[row] != IGNORED
            wanted = functional.cross_entropy(out[row][:, known].T, target[row][known].long(), label_smoothing=smoothing)
            torch.testing.assert_close(made[row], wanted)


def test_focal_without_focus_is_cross_entropy(case):
    out, target = case
    torch.testing.assert_close(FocalLoss(TARGET, gamma=0.0).rows(out, target), CrossEntropyLoss(TARGET).rows(out, target))
    assert (FocalLoss(TARGET, gamma=2.0).rows(out, target) < CrossEntropyLoss(TARGET).rows(out, target)).all()


def test_both_losses_add_with_their_weights(case):
    out, target = case
    made = DiceCrossEntropyLoss(TARGET, dice_weight=0.5, cross_entropy_weight=2.0).rows(out, target)
    torch.testing.assert_close(made, 0.5 * DiceLoss(TARGET).rows(out, target) + 2 * CrossEntropyLoss(TARGET).rows(out, target))


def test_a_row_of_which_nothing_is_known_teaches_nothing(case):
    out, _ = case
    out = out[:2].requires_grad_()
    target = torch.full((2, 4, 5), IGNORED, dtype=torch.uint8)
    for name in ("dice_cross_entropy", "cross_entropy", "focal"):
        loss = family("loss").build(name, TARGET).rows(out, target)
        (gradient,) = torch.autograd.grad(loss.sum(), out)
        assert torch.isfinite(loss).all()
        assert not gradient.any()


def measured(metric, out, target, weight=None):
    for start in (0, 2):
        part = slice(start, 2 if start == 0 else None)
        rows = Batch({"x": out[part]}, {"target": target[part]}, None if weight is None else weight[part])
        metric.update({"probability": out[part].softmax(dim=1)}, rows)
    return metric.compute()


@pytest.mark.parametrize("weighted", [False, True])
def test_dice_is_per_picture_then_averaged_and_absent_classes_say_nothing(case, weighted):
    out, target = case
    weight = torch.rand(6, generator=torch.Generator().manual_seed(1)) if weighted else torch.ones(6)
    answer, truth = out.argmax(dim=1).numpy(), target.numpy()
    answer[0] = 0
    out[0] = 0
    out[0, 0] = 5
    by_class = []
    for code in (1, 2):
        values, weights = [], []
        for row in range(6):
            known = truth[row] != IGNORED
            said, true = (answer[row] == code) & known, (truth[row] == code) & known
            if said.sum() + true.sum():
                values.append(2 * (said & true).sum() / (said.sum() + true.sum()))
                weights.append(float(weight[row]))
        assert len(values) < 6, "row 0 has neither class in truth nor in answer"
        by_class.append(np.average(values, weights=weights))
    metric = Dice(TARGET)
    assert measured(metric, out, target, weight if weighted else None) == pytest.approx(np.mean(by_class))
    assert metric.by_column() == {"100": pytest.approx(by_class[0]), "200": pytest.approx(by_class[1])}


def test_intersection_over_union_counts_places_of_all_pictures(case):
    out, target = case
    answer, truth = out.argmax(dim=1).numpy(), target.numpy()
    known = truth != IGNORED
    wanted = []
    for code in range(3):
        said, true = (answer == code) & known, truth == code
        wanted.append((said & true).sum() / (said | true).sum())
    metric = IntersectionOverUnion(TARGET)
    assert measured(metric, out, target) == pytest.approx(np.mean(wanted))
    assert metric.by_column()["200"] == pytest.approx(wanted[2])
    assert measured(PixelAccuracy(TARGET), out, target) == pytest.approx((answer == truth)[known].mean())


def test_an_answer_that_is_no_number_is_not_passed_over(case):
    out, target = case
    out[3, 0, 0, 0] = math.nan
    for metric in (Dice(TARGET), IntersectionOverUnion(TARGET), PixelAccuracy(TARGET)):
        assert math.isnan(measured(metric, out, target))


def test_masks_of_unequal_size_go_through_a_table_with_the_tables_own_numbers():
    codes = [np.array([[0, 1], [2, 1]]), np.array([[2, 0, 1]])]
    table = mask_table(TARGET, codes)
    first, second = masks_in(table)
    assert first.tolist() == [[0, 100], [200, 100]]
    assert second.tolist() == [[200, 0, 100]]
    assert first.dtype == np.uint8
    assert [mask.shape for mask in masks_in(table.slice(1))] == [(1, 3)]
    assert masks_in(mask_table(TARGET, [])) == []
    with pytest.raises(InputError, match="masks come from"):
        masks_in(table.rename_columns(["answer"]))

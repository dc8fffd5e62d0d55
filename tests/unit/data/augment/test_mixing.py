from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.data.augment import Augment, Draw, Known
from deepseek.data.augment.mixing import CutMix, MixUp, mix_targets
from deepseek.data.augment.one_of import OneOf
from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.tasks.base import TARGET
from deepseek.tasks.binary import BinaryTask
from deepseek.tasks.metrics import Accuracy
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.tasks.multilabel import MultilabelTask
from deepseek.tasks.regression import RegressionTask

PHOTO = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (10, 14, 3), "uint8")}
CLASSES = TargetSpec("classes", ("y",), ("3", "5", "7"), (6, 4, 2), 12)
BINARY = TargetSpec("binary", ("y",), ("no", "yes"), (8, 4), 12)
LABELS = TargetSpec("labels", ("y",), ("red", "blue"), (3, 9), 12)
VALUES = TargetSpec("values", ("y",), rows=12, mean=(0.0,), std=(1.0,))
ROWS = 12


def batch(rows=ROWS, weight=None):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (rows, 10, 14, 3), dtype=np.uint8))
    return Batch({"photo": pixels}, {TARGET: torch.arange(rows) % 3}, weight, torch.arange(rows))


def draw(seed=0, rows=ROWS):
    return Draw(torch.Generator().manual_seed(seed), 0, rows)


def begun(augmentation, target=CLASSES):
    augmentation.begin(Known(target))
    return augmentation


@pytest.mark.parametrize("each", ["batch", "row"])
@pytest.mark.parametrize("seed", range(4))
def test_mixup_is_the_weighted_sum_of_a_pair(each, seed):
    given = batch()
    made = begun(MixUp(PHOTO, each=each)).apply(given, draw(seed))
    shares = made.targets[TARGET].gather(1, given.targets[TARGET][:, None])[:, 0]
    x = given.inputs["photo"].double()
    for row in range(ROWS):
        partner = row ^ 1
        wanted = shares[row].double() * x[row] + (1 - shares[row].double()) * x[partner]
        assert (made.inputs["photo"][row].double() - wanted).abs().max() <= 0.51
    assert len({round(float(share), 5) for share in shares}) == (1 if each == "batch" else ROWS // 2)
    torch.testing.assert_close(made.targets[TARGET].sum(dim=1), torch.ones(ROWS))


@pytest.mark.parametrize("each", ["batch", "row"])
@pytest.mark.parametrize("seed", range(6))
def test_cutmix_pastes_one_rectangle_and_counts_its_area(each, seed):
    given = batch()
    made = begun(CutMix(PHOTO, each=each)).apply(given, draw(seed))
    x, out = given.inputs["photo"], made.inputs["photo"]
    for row in range(ROWS):
        foreign = (out[row] != x[row]).any(-1)
        assert torch.equal(out[row][foreign], x[row ^ 1][foreign])
        ys, xs = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
        if len(ys):
            assert foreign.sum() >= 0.97 * len(ys) * len(xs)
            assert len(ys) == ys[-1] - ys[0] + 1
        area = len(ys) * len(xs) / (10 * 14)
        assert float(made.targets[TARGET][row, row % 3]) == pytest.approx(1 - area, abs=0.005)


def test_shares_are_drawn_from_the_beta_distribution():
    shares = draw(rows=20_000).beta(20_000, 0.4)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.005)
    assert torch.isfinite(draw(rows=20_000).beta(20_000, 0.001)).all()


@pytest.mark.parametrize(
    ("make", "target", "settings"),
    [
        (MulticlassTask, CLASSES, {}),
        (MulticlassTask, CLASSES, {"class_weights": {"3": 1.0, "5": 3.0, "7": 0.2}}),
        (MulticlassTask, CLASSES, {"class_weights": "balanced", "loss": {"type": "cross_entropy", "label_smoothing": 0.2}}),
        (MulticlassTask, CLASSES, {"loss": "focal"}),
        (BinaryTask, BINARY, {}),
        (BinaryTask, BINARY, {"class_weights": {"yes": 3.0}}),
        (BinaryTask, BINARY, {"class_weights": "balanced", "loss": {"type": "focal", "alpha": 0.3}}),
        (MultilabelTask, LABELS, {}),
        (MultilabelTask, LABELS, {"class_weights": "balanced"}),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_a_mixture_is_the_weighted_sum_of_both_losses(make, target, settings, weighted):
    torch.manual_seed(0)
    task = make(target, **settings)
    hard = {
        "classes": torch.randint(0, 3, (ROWS,)),
        "binary": torch.randint(0, 2, (ROWS,)).float(),
        "labels": torch.randint(0, 2, (ROWS, 2)).float(),
    }[target.kind]
    weight = torch.rand(ROWS) * 3 if weighted else None
    share, partner = torch.rand(ROWS), torch.arange(ROWS).roll(1)
    out = torch.randn(ROWS, 2, task.outputs)
    soft = mix_targets(Batch({"x": out}, {TARGET: hard}, weight), share, partner, classes=3)
    numerator = denominator = 0.0
    for rows, part in ((torch.arange(ROWS), share), (partner, 1 - share)):
        for row in range(ROWS):
            own = Batch({}, {TARGET: hard[rows[row : row + 1]]}, None if weight is None else weight[rows[row : row + 1]])
            above, below = task.loss(out[row : row + 1], own)
            numerator, denominator = numerator + part[row] * above, denominator + part[row] * below
    torch.testing.assert_close(task.loss(out, soft), (numerator, denominator), rtol=1e-4, atol=1e-5)


def test_numbers_are_mixed_and_areas_of_numbers_refused():
    given = Batch(batch().inputs, {TARGET: torch.arange(float(ROWS))[:, None]})
    made = begun(MixUp(PHOTO), VALUES).apply(given, draw())
    assert made.targets[TARGET].shape == (ROWS, 1)
    assert (made.targets[TARGET][::2] + made.targets[TARGET][1::2]).flatten().tolist() == pytest.approx([4 * k + 1 for k in range(6)])
    assert RegressionTask(VALUES).loss(torch.zeros(ROWS, 1, 1), made)[0] > 0
    with pytest.raises(InputError, match="the target is a number"):
        begun(CutMix(PHOTO), VALUES)


def test_who_weighs_nothing_has_no_say():
    weight = torch.ones(ROWS)
    weight[1] = 0
    made = begun(MixUp(PHOTO)).apply(batch(weight=weight), draw())
    assert made.targets[TARGET][0].tolist() == [1, 0, 0]
    assert made.targets[TARGET][1].tolist() == [1, 0, 0]
    assert 0 < made.weight[1] < 1


def test_even_shares_of_ranks_mix_what_one_would_and_a_cut_pair_finds_other_partners():
    given, augment = batch(), Augment([{"type": "mixup", "each": "row"}, "cutmix"], PHOTO, seed=3, known=Known(CLASSES))
    whole = augment.apply(given, 5)
    even = [augment.apply(part, 5, start=start, total=ROWS) for part, start in zip(given.cut([4, 8]), (0, 4), strict=True)]
    assert torch.equal(torch.cat([part.inputs["photo"] for part in even]), whole.inputs["photo"])
    assert torch.equal(torch.cat([part.targets[TARGET] for part in even]), whole.targets[TARGET])
    odd = [augment.apply(part, 5, start=start, total=ROWS) for part, start in zip(given.cut([5, 7]), (0, 5), strict=True)]
    assert all(torch.isfinite(part.targets[TARGET]).all() for part in odd)
    assert torch.equal(odd[0].inputs["photo"][:4], whole.inputs["photo"][:4])
    assert not torch.equal(odd[0].inputs["photo"][4], given.inputs["photo"][4])
    alone = augment.apply(given.cut([1, 11])[0], 5, start=0, total=1)
    assert torch.equal(alone.inputs["photo"], given.inputs["photo"][:1])


def test_shuffled_pairs_are_random_and_nobody_meets_himself():
    partners = [MixUp(PHOTO, pairs="shuffled")._partners(draw(seed), ROWS) for seed in range(5)]
    assert all((partner != torch.arange(ROWS)).all() for partner in partners)
    assert all(sorted(partner.tolist()) == list(range(ROWS)) for partner in partners)
    assert len({tuple(partner.tolist()) for partner in partners}) == 5


def test_what_cannot_be_mixed_is_refused():
    words = InputSpec("note", Kind.TEXT, ("note",), (), "int32", ragged=True)
    with pytest.raises(InputError, match="cannot mix the input 'note'"):
        MixUp({**PHOTO, "note": words})
    numbers = InputSpec("n", Kind.NUMBER, ("a",), (1,), "float32")
    MixUp({**PHOTO, "n": numbers})
    with pytest.raises(InputError, match="cutmix cannot mix the input 'n'"):
        CutMix({**PHOTO, "n": numbers})
    with pytest.raises(InputError, match="how many classes there are is not known"):
        MixUp(PHOTO).apply(batch(), draw())
    assert MixUp(PHOTO, classes=5).apply(batch(), draw()).targets[TARGET].shape == (ROWS, 5)


def test_metrics_take_the_larger_share_for_the_truth():
    metric = Accuracy(CLASSES)
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.4, 0.0, 0.6]])
    metric.update({"probability": torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])}, Batch({}, {TARGET: soft}))
    assert metric.compute() == 0.5
    binary = Accuracy(BINARY)
    binary.update({"probability": torch.tensor([[0.1, 0.9], [0.1, 0.9]])}, Batch({}, {TARGET: torch.tensor([0.7, 0.2])}))
    assert binary.compute() == 0.5


def test_choose_does_one_or_nothing_as_often_as_asked():
    chosen = OneOf(PHOTO, methods=["flip", "grayscale"], probabilities=[0.5, 0.3])
    chosen.parts[0].probability = chosen.parts[1].probability = 1.0
    given = batch()
    seen = {"flip": 0, "grayscale": 0, "nothing": 0}
    for seed in range(300):
        x = chosen.apply(given, draw(seed)).inputs["photo"]
        flipped = torch.equal(x, given.inputs["photo"].flip(2))
        seen["flip" if flipped else "nothing" if torch.equal(x, given.inputs["photo"]) else "grayscale"] += 1
    assert seen["flip"] == pytest.approx(150, abs=30)
    assert seen["grayscale"] == pytest.approx(90, abs=30)
    rows = OneOf(PHOTO, methods=["flip", "grayscale"], probabilities=[0.5, 0.5], each="row")
    rows.parts[0].probability = rows.parts[1].probability = 1.0
    x = rows.apply(given, draw()).inputs["photo"]
    flipped = (x == given.inputs["photo"].flip(2)).flatten(1).all(1)
    assert 0 < flipped.sum() < ROWS


def test_choose_gives_shares_whatever_was_chosen():
    chosen = begun(OneOf(PHOTO, methods=["mixup", "flip"], probabilities=[0.3, 0.3]))
    kinds = {chosen.apply(batch(), draw(seed)).targets[TARGET].dtype for seed in range(20)}
    assert kinds == {torch.float32}
    assert begun(OneOf(PHOTO, methods=["flip"])).apply(batch(), draw()).targets[TARGET].dtype == torch.int64


@pytest.mark.parametrize(
    ("probabilities", "words"), [([0.6, 0.6], "come to 1.2"), ([0.5], "1 probabilities"), ([1.5, -0.5], "each is 0 to 1")]
)
def test_wrong_probabilities_are_refused(probabilities, words):
    with pytest.raises(InputError, match=words):
        OneOf(PHOTO, methods=["flip", "mixup"], probabilities=probabilities)
    with pytest.raises(InputError, match="no methods"):
        OneOf(PHOTO, methods=[])

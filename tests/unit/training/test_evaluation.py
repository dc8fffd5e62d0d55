"""Evaluation against scikit-learn, its spill, and what it leaves as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from deepseek.data.loader import Loader
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training.evaluation import ScoreFile, evaluate, evaluate_exactly


def test_metrics_are_scikit_learns_and_the_model_keeps_its_mode(small):
    net, data = small.net(dropout=0.5).train(), small.data(77, weighted=True)
    metrics = evaluate(net, small.task(), Loader(data, batch_size=10, shuffle=False).batches(0))
    assert net.training
    whole = data.take(np.arange(77))
    probability = net.eval()(whole.inputs)[:, 0].softmax(-1).detach().numpy()
    truth, weight = whole.targets["target"].numpy(), whole.weight.numpy()
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, probability.argmax(1), sample_weight=weight))
    expected = log_loss(truth, probability, sample_weight=weight, labels=[0, 1, 2])
    assert metrics["log_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


def test_batches_do_not_change_the_numbers(small):
    net, data = small.net(norm=True), small.data(77, weighted=True)
    one, many = (evaluate(net, small.task(), Loader(data, batch_size=size).batches(0)) for size in (77, 8))
    assert one == pytest.approx(many, rel=1e-6)


def test_every_answer_is_spilled_once(small):
    net, data, rows = small.net(), small.data(77), []

    class Rows:
        def write(self, decoded, batch):
            assert len(decoded["probability"]) == len(batch.row)
            rows.extend(batch.row.tolist())

    evaluate(net, small.task(), Loader(data, batch_size=10).batches(0), spill=Rows())
    assert sorted(rows) == list(range(77))


def test_no_graph_is_kept(small):
    seen = []

    class Look:
        def write(self, decoded, batch):
            seen.append(decoded["probability"].requires_grad)

    evaluate(small.net(), small.task(), Loader(small.data(10), batch_size=5).batches(0), spill=Look())
    assert seen == [False, False]
    assert torch.is_grad_enabled()


def test_the_area_of_spilled_scores_is_exact(small):
    net, data = small.net(), small.data(77, weighted=True)
    with ScoreFile() as scores:
        evaluate(net, small.task(), Loader(data, batch_size=10).batches(0), spill=scores)
        area = scores.auc()
    whole = data.take(np.arange(77))
    probability = net(whole.inputs)[:, 0].softmax(-1).detach().double().numpy()
    truth, weight = whole.targets["target"].numpy(), whole.weight.numpy()
    areas = [roc_auc_score(truth == place, probability[:, place], sample_weight=weight) for place in range(3)]
    assert area == pytest.approx(np.mean(areas), abs=1e-6)
    task = MulticlassTask(small.task().target, metrics=["auc"])
    exact, binned = (measure(net, task, Loader(data, batch_size=10).batches(0))["auc"] for measure in (evaluate_exactly, evaluate))
    assert exact == area != binned
    with ScoreFile() as nothing:
        assert np.isnan(nothing.auc())

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError
from deepseek.registry import family
from deepseek.tasks.forecasting import ascending

TARGET = TargetSpec("values", ("load", "heat"), rows=9, mean=(100.0, -2.0), std=(10.0, 0.5))
HORIZON = 4
QUANTILES = {"type": "quantile", "levels": [0.1, 0.5, 0.9]}


def task(**given):
    return family("task").build({"type": "forecasting", "horizon": HORIZON, **given}, TARGET)


def measured(built, out, truth, **targets):
    metrics = built.metrics()
    batch = Batch({}, {"target": truth, **targets})
    for name, metric in metrics.items():
        if name != "loss":
            metric.update(built.decode(out), batch)
    return {name: metric.compute() for name, metric in metrics.items() if name != "loss"}


def test_errors_are_in_standard_deviations_and_in_units():
    torch.manual_seed(0)
    out, truth = torch.randn(5, 1, HORIZON * 2), torch.randn(5, HORIZON, 2)
    apart = (out.reshape(5, HORIZON, 2) - truth).double().numpy()
    found = measured(task(), out, truth, naive_error=torch.full((5, 2), 0.5))
    assert found["scaled_mse"] == pytest.approx((apart**2).mean())
    assert found["scaled_mae"] == pytest.approx(np.abs(apart).mean())
    assert found["mae"] == pytest.approx(np.mean([np.abs(apart[..., 0]).mean() * 10, np.abs(apart[..., 1]).mean() * 0.5]))
    assert found["mase"] == pytest.approx(np.abs(apart).mean() / 0.5)


def test_missing_targets_count_in_no_loss_and_no_metric():
    torch.manual_seed(1)
    out, truth = torch.randn(3, 1, HORIZON * 2), torch.randn(3, HORIZON, 2)
    truth[0, 2:, 0] = math.nan
    built = task()
    known = ~truth.isnan()
    apart = (out.reshape(3, HORIZON, 2) - truth)[0][known[0]]
    assert built.row_losses(out, truth)[0] == pytest.approx(float(apart.square().mean()), rel=1e-5)
    errors = (out.reshape(3, HORIZON, 2) - truth.nan_to_num()).abs()
    by_column = [float(errors[..., place][known[..., place]].mean()) for place in range(2)]
    assert measured(built, out, truth)["scaled_mae"] == pytest.approx(np.mean(by_column), rel=1e-6)
    truth[1] = math.nan
    assert built.row_losses(out, truth)[1] == 0
    assert torch.isfinite(torch.autograd.grad(built.row_losses(out.requires_grad_(), truth).sum(), out)[0]).all()


def test_the_pinball_loss_is_least_at_the_quantile():
    built = task(loss=QUANTILES)
    torch.manual_seed(0)
    truth = torch.randn(4000, HORIZON, 2)
    guesses = torch.linspace(-2.5, 2.5, 101)
    costs = [float(built.row_losses(torch.full((4000, 1, HORIZON * 2 * 3), float(guess)), truth).mean()) for guess in guesses]
    assert float(guesses[int(np.argmin(costs))]) == pytest.approx(0.0, abs=0.1)  # the mean over three levels around the median
    single = family("loss").build({"type": "quantile", "levels": [0.5, 0.9]}, TARGET)
    terms = single.terms(torch.zeros(1, 1, 4), torch.tensor([[2.0, -2.0]]))
    assert terms.flatten().tolist() == pytest.approx([1.0, 1.8, 1.0, 0.2])


def test_pinball_and_coverage_by_hand():
    built = task(loss=QUANTILES, metrics=["pinball", "coverage"])
    out = torch.tensor([-1.0, 0.0, 1.0]).repeat(HORIZON * 2).reshape(1, 1, -1)
    truth = torch.zeros(1, HORIZON, 2)
    truth[0, 0] = 2.0
    found = measured(built, out, truth)
    assert found["coverage"] == pytest.approx(6 / 8)
    inside, outside = (0.1 + 0 + 0.1) / 3, (0.3 + 1.0 + 0.9) / 3
    assert found["pinball"] == pytest.approx((6 * inside + 2 * outside) / 8)


def test_quantiles_never_cross():
    built = task(loss=QUANTILES)
    torch.manual_seed(0)
    decoded = built.decode(torch.randn(6, 2, HORIZON * 2 * 3))
    assert (decoded["quantiles"].diff(dim=-1) >= 0).all()
    assert torch.equal(decoded["standardized"], decoded["quantiles"][..., 1])
    values = torch.randn(50, 7)
    assert torch.equal(ascending(values), values.sort(dim=-1).values)


def test_answers_are_lists_in_units():
    built = task(loss=QUANTILES)
    out = torch.zeros(2, 1, HORIZON * 2 * 3)
    table = built.answer(built.decode(out))
    assert table.column_names == [
        *("prediction_load", "prediction_heat", "quantile_0.1_load", "quantile_0.1_heat"),
        *("quantile_0.5_load", "quantile_0.5_heat", "quantile_0.9_load", "quantile_0.9_heat"),
    ]
    assert table["prediction_load"].to_pylist() == [[100.0] * HORIZON] * 2
    assert table["quantile_0.9_heat"].to_pylist() == [[-2.0] * HORIZON] * 2


@pytest.mark.parametrize("levels", [[0.9, 0.5], [0.1, 0.9], [0.5, 0.5]])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(InputError, match=r"ascending, each once, 0.5 among them"):
        task(loss={"type": "quantile", "levels": levels})


def test_a_metric_of_some_levels_looks_at_these_and_no_others():
    """The pinball loss of the median is half the absolute error, whatever other quantiles are answered."""
    some = [{"type": "pinball", "levels": [0.5]}]
    torch.manual_seed(0)
    out, truth = torch.randn(50, 1, HORIZON * 2 * 3), torch.randn(50, HORIZON, 2)
    built = task(loss=QUANTILES, metrics=some)
    apart = (built.decode(out)["standardized"] - truth).abs().double().mean()
    assert measured(built, out, truth)["pinball"] == pytest.approx(float(apart) / 2)
    narrow = task(loss={"type": "quantile", "levels": [0.1, 0.3, 0.5, 0.7, 0.9]}, metrics=[{"type": "coverage", "levels": [0.3, 0.7]}])
    steps = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).repeat(HORIZON * 2).reshape(1, 1, -1)
    assert measured(narrow, steps, torch.full((1, HORIZON, 2), 1.5))["coverage"] == 0.0


@pytest.mark.parametrize(
    ("loss", "metric", "said"),
    [
        (QUANTILES, {"type": "coverage", "levels": [0.25, 0.5]}, r"the level 0.25, and the loss answers 0.1, 0.5, 0.9"),
        ("mse", "pinball", "the loss answers no quantiles"),
    ],
)
def test_levels_that_are_not_answered_cannot_be_measured(loss, metric, said):
    with pytest.raises(InputError, match=said):
        task(loss=loss, metrics=[metric]).metrics()


def test_a_single_number_has_no_quantiles():
    with pytest.raises(InputError, match="the loss quantile answers several numbers for each value, and the task regression one"):
        family("task").build({"type": "regression", "loss": QUANTILES}, TARGET)
    with pytest.raises(InputError, match="the metric coverage is one of forecasts, and the task is regression"):
        family("task").build({"type": "regression", "metrics": ["coverage"]}, TARGET)

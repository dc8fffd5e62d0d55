from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

from deepseek.data.transforms.modules import NumberModule
from deepseek.data.transforms.number import NumberTransform
from deepseek.errors import ColumnError, DataError, InputError
from deepseek.fields import Field, Kind


def fit(batch, **arguments):
    transform = NumberTransform([Field(name, Kind.NUMBER) for name in batch.schema.names], **arguments)
    transform.observe(batch)
    transform.finish()
    return transform


def run(transform, batch):
    return transform.module()(torch.from_numpy(transform.apply(batch)["numbers"])).numpy()


@pytest.mark.parametrize(
    ("scaling", "reference"), [("standard", StandardScaler()), ("min_max", MinMaxScaler()), ("robust", RobustScaler())]
)
def test_scaling_equals_scikit_learn(scaling, reference):
    values = np.random.default_rng(0).lognormal(size=(500, 2))
    batch = pa.record_batch({"a": values[:, 0], "b": values[:, 1]})
    np.testing.assert_allclose(run(fit(batch, scaling=scaling, clip=None), batch), reference.fit_transform(values), rtol=2e-5, atol=2e-6)


def test_quantile_scaling_is_near_scikit_learn():
    values = np.random.default_rng(0).lognormal(size=(5000, 1))
    out = run(fit(pa.record_batch({"a": values[:, 0]}), scaling="quantile", clip=None), pa.record_batch({"a": values[:, 0]}))
    reference = QuantileTransformer(output_distribution="normal", n_quantiles=256).fit_transform(values)
    inner = np.abs(reference) < 2
    np.testing.assert_allclose(out[inner], reference[inner], atol=0.02)
    assert np.abs(out).max() < 3


def test_tied_quantiles_share_their_mean_rank():
    batch = pa.record_batch({"a": [0.0] * 500 + list(np.linspace(1, 2, 500))})
    out = run(fit(batch, scaling="quantile"), batch)
    assert abs(out[0, 0] - (-0.674)) < 0.02  # the middle of the lower half
    assert np.isfinite(out).all()
    assert (np.diff(out[500:, 0]) >= 0).all()


def test_missing_and_infinite_numbers_become_the_training_median():
    transform = fit(pa.record_batch({"a": [1.0, 2.0, 9.0]}), scaling="none", clip=None)
    assert run(transform, pa.record_batch({"a": [None, float("inf"), float("nan"), 1e300]})).ravel().tolist() == [2, 2, 2, 2]


def test_indicators_follow_training():
    batch = pa.record_batch({"a": [1.0, None, 3.0], "b": [1.0, 2.0, 3.0]})
    assert fit(batch).inputs[0].columns == ("a", "b", "a_missing")
    assert fit(batch, indicator=False).inputs[0].columns == ("a", "b")
    assert fit(batch, indicator=True).inputs[0].columns == ("a", "b", "a_missing", "b_missing")
    assert run(fit(batch), batch)[:, 2].tolist() == [0, 1, 0]
    assert run(fit(batch), pa.record_batch({"a": [1.0], "b": [None]}, schema=batch.schema)).shape == (1, 3)


def test_clip_bounds_what_leaves():
    transform = fit(pa.record_batch({"a": [1.0, 2.0, 3.0]}), clip=2)
    given = np.array([-1e6, 1.9, 2.0, 2.1, 1e6])
    out = run(transform, pa.record_batch({"a": given})).ravel()
    scaled = given - 2.0  # the median is 2 and the interquartile range 1
    np.testing.assert_allclose(out, scaled / np.sqrt(1 + (scaled / 2) ** 2), rtol=1e-5)
    assert np.abs(out).max() <= 2


def test_a_large_offset_loses_nothing():
    values = 1_700_000_000 + np.arange(100) * 0.25
    out = run(fit(pa.record_batch({"a": values}), scaling="standard", clip=None), pa.record_batch({"a": values}))
    np.testing.assert_allclose(out[:, 0], (values - values.mean()) / values.std(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaling", ["robust", "quantile"])
def test_a_wild_value_beside_a_large_offset_does_not_blur_the_others(scaling):
    """A standard deviation is made as large as the offset by one sentinel, and float32 tells 1e9 from 1e9 + 9 no longer."""
    batch = pa.record_batch({"a": np.append(1e9 + np.arange(10).repeat(30), 0.0)})
    transform = fit(batch, scaling=scaling)
    assert len(np.unique(run(transform, batch))) == 11
    again = NumberTransform([Field("a", Kind.NUMBER)], scaling=scaling).load_json(transform.to_json())
    assert np.array_equal(run(again, batch), run(transform, batch))


def test_quantiles_are_in_the_units_that_leave_the_module():
    values = np.random.default_rng(0).normal(50, 10, 2000)
    spec = fit(pa.record_batch({"a": values}), bins=4, scaling="standard", clip=None).inputs[0]
    np.testing.assert_allclose(spec.quantiles[0], np.quantile((values - values.mean()) / values.std(), [0, 0.25, 0.5, 0.75, 1]), rtol=1e-4)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 0, 1], pa.int8()),
        pa.array([True, False, True]),
        pa.array(["1", " 0.0 ", "1e0"]),
        pa.array([decimal.Decimal("1.00"), decimal.Decimal("0.00"), decimal.Decimal("1.00")]),
        pa.array(["1", "0", "1"]).dictionary_encode(),
        pa.array([1.0, 0.0, 1.0], pa.float16()),
    ],
)
def test_every_type_that_is_a_number_is_read(column):
    transform = fit(pa.record_batch({"a": [0.0, 1.0]}))
    assert transform.apply(pa.record_batch({"a": column}))["numbers"].ravel().tolist() == [1, 0, 1]


def test_a_text_that_is_no_number_is_named():
    transform = fit(pa.record_batch({"age": [0.0, 1.0]}))
    with pytest.raises(DataError, match="'age' is a number, but row 1 of the batch holds 'old'"):
        transform.apply(pa.record_batch({"age": ["1", "old", ""]}))


@pytest.mark.parametrize(("text", "is_told"), [("1,5", True), ("-1,5e3", True), ("old", False), ("1,234,567", False)])
def test_a_decimal_comma_that_was_not_looked_for_is_told_of(text, is_told):
    transform = fit(pa.record_batch({"age": [0.0, 1.0]}))
    with pytest.raises(DataError) as caught:
        transform.apply(pa.record_batch({"age": ["1", text]}))
    assert ("decimal_point" in caught.value.hint) == is_told


def test_a_missing_column_is_named_with_a_guess():
    transform = fit(pa.record_batch({"height": [0.0, 1.0]}))
    with pytest.raises(ColumnError, match=r"lacks the column 'height'(.|\n)*did you mean 'heigth'"):
        transform.apply(pa.record_batch({"heigth": [1.0]}))


def test_nothing_seen_and_nothing_fitted_are_errors():
    transform = NumberTransform([Field("a", Kind.NUMBER)])
    with pytest.raises(InputError, match="not fitted"):
        _ = transform.inputs
    with pytest.raises(DataError, match="no training row"):
        transform.finish()


def test_the_smooth_clip_rises_up_to_the_largest_number_there_is():
    module = NumberModule([0.0], [0.0], scale=[1.0], clip=3.0)
    values = torch.tensor([[0.0], [1.0], [1e3], [1e18], [1e20], [3e38]])
    out = module(values).ravel()
    assert out[1].item() == pytest.approx(1 / np.sqrt(1 + 1 / 9))
    assert (out.diff() >= 0).all()
    assert out[2:].tolist() == pytest.approx([3.0] * 4, rel=1e-4)
    torch.testing.assert_close(module(-values).ravel(), -out)
    exported = torch.export.export(module, (values,), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},)).module()
    torch.testing.assert_close(exported(values), module(values))


@pytest.mark.parametrize("clip", [3.0, None])
def test_numbers_at_the_end_of_the_range_are_scaled_without_overflow(clip):
    module = NumberModule([0.0], [-2e38], scale=[1e38], clip=clip)
    wanted = np.array([5.0, -1.0])
    wanted = wanted if clip is None else wanted / np.sqrt(1 + (wanted / clip) ** 2)
    assert module(torch.tensor([[3e38], [-3e38]])).ravel().tolist() == pytest.approx(wanted.tolist())
    tiny = NumberModule([0.0], [0.0], scale=[1e-40], clip=3.0)
    assert tiny(torch.tensor([[0.0], [1.0], [3e38]])).ravel().tolist() == [0.0, pytest.approx(3.0), pytest.approx(3.0)]

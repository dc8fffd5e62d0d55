"""Pictures answered window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.inference.windows import in_windows, middle_weights, starts


def network_of(dimensions, reach):
    """Return a network whose answer at a place hangs on what lies so far around it."""
    torch.manual_seed(0)
    convolution, width = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions], 2 * reach + 1
    layers = nn.Sequential(convolution(1, 4, width, padding=reach), nn.Tanh(), convolution(4, 2, 1), nn.Softmax(dim=1)).eval()

    def run(values):
        with torch.inference_mode():
            return layers(torch.from_numpy(np.moveaxis(values, -1, 1))).numpy()

    return run


def seen_whole(side, window, reach):
    """Return bool `[side]`: whether every window that has a place sees all around it that there is to see."""
    clean = np.ones(side, dtype=bool)
    for start in starts(side, window):
        stop = start + window
        if start > 0:
            clean[start : start + reach] = False
        if stop < side:
            clean[stop - reach : stop] = False
    return clean


@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.parametrize(("size", "window"), [((23, 31), (12, 10)), ((13, 12, 17), (8, 8, 9)), ((9, 30), (9, 10))])
def test_windows_say_what_the_network_says_of_the_whole_where_they_see_as_much(size, window, reach):
    run = network_of(len(size), reach)
    values = np.random.default_rng(0).normal(size=(*size, 1)).astype(np.float32)
    whole, made = run(values[None])[0], in_windows(run, values, window, fill=0.0)
    clean = np.ones(size, dtype=bool)
    for axis, (side, wanted) in enumerate(zip(size, window, strict=True)):
        clean &= seen_whole(side, wanted, reach).reshape([-1 if one == axis else 1 for one in range(len(size))])
    assert clean.sum() > 100, "there are such places"
    np.testing.assert_allclose(made[:, clean], whole[:, clean], atol=1e-5)
    assert reach == 0 or not np.allclose(made[:, ~clean], whole[:, ~clean], atol=1e-5)


def test_a_picture_smaller_than_the_window_is_one_window_about_its_centre():
    seen = []

    def run(values):
        seen.append(values.copy())
        return np.moveaxis(values, -1, 1)

    values = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    made = in_windows(run, values, (7, 6), fill=-1.0)
    (window,) = seen
    assert window.shape == (1, 7, 6, 1)
    assert (window == -1).sum() == 7 * 6 - 12
    np.testing.assert_allclose(made[0], values[..., 0], rtol=1e-6)


def test_every_place_is_seen_and_the_answer_of_each_window_counts_by_its_place():
    def run(values):
        return np.ones((len(values), 1, 4, 4), dtype=np.float32) * values.max(axis=(1, 2, 3)).reshape(-1, 1, 1, 1)

    values = np.zeros((4, 10, 1), dtype=np.float32)
    values[:, :4] = 1.0
    made = in_windows(run, values, (4, 4), fill=0.0)[0, 0]
    assert made[0] == pytest.approx(1.0)
    assert made[9] == pytest.approx(0.0)
    assert ((made[:-1] - made[1:]) >= -1e-6).all(), "from the one window to the other the answer goes over without a step up"
    assert 0 < made[4] < 1


def test_weights_are_largest_in_the_middle_and_nowhere_nothing():
    weights = middle_weights((9, 5, 4))
    assert weights.max() == weights[4, 2, 1] == 1.0
    assert weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1, ::-1, ::-1], rtol=1e-6)


@pytest.mark.parametrize(("side", "window"), [(10, 10), (11, 10), (40, 10), (41, 7), (5, 1)])
def test_windows_cover_a_side_and_share_at_least_half(side, window):
    found = starts(side, window)
    assert found[0] == 0
    assert found[-1] == side - window
    steps = np.diff(found)
    assert (steps <= max(window // 2, 1)).all()

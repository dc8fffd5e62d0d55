"""What gradients are turned into on the wire, and back: without any other process."""

import numpy as np
import pytest
import torch

from deepseek.distributed import RankContext
from deepseek.distributed.exchange.packing import pack, packed_bytes, unpack
from deepseek.distributed.exchange.short_floats import Bf16Exchange, Fp16Exchange
from deepseek.errors import InputError, RecipeError
from deepseek.registry import family

CONTEXT = RankContext(0, 2)


def exchange(**arguments):
    return family("exchange").build({"type": "qsgd", **arguments}, CONTEXT)


def gaussian(rows, size, seed=0):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [8, 24, 512, 1000])
def test_packed_codes_come_back_and_fill_their_bytes(bits, count):
    codes = torch.randint(0, 1 << bits, (3, count), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)
    assert packed.shape == (3, packed_bytes(count, bits))
    assert packed.shape[1] * 8 == count * bits
    assert torch.equal(unpack(packed, bits), codes)
    ones = torch.full_like(codes, (1 << bits) - 1)
    assert (pack(ones, bits) == 255).all()  # no bit is left over


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("norm", ["max", "l2"])
def test_a_value_is_off_by_less_than_one_level_of_its_row(bits, norm):
    values = gaussian(2, 1304) * torch.logspace(-6, 6, 1304)
    code = exchange(bits=bits, norm=norm)
    off = (code.decode(code.encode(values, 5), 1304) - values).abs()
    for first in range(0, 1304, 512):
        row = values[:, first : first + 512]
        whole = row.abs().amax(dim=1) if norm == "max" else row.norm(dim=1)
        assert (off[:, first : first + 512].amax(dim=1) <= whole / code.levels * (1 + 1e-5)).all()
    assert off.max() > 0


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_rounding_is_right_on_average(bits):
    """4,000 roundings of 512 values: the mean's distance from the value, in standard errors, is that of a standard normal."""
    times, code = 4000, exchange(bits=bits)
    values = gaussian(1, 512, seed=bits)
    level = values.abs().max() / code.levels
    place = values / level
    chance = place - place.floor()
    error = (chance * (1 - chance) / times).sqrt() * level
    mean = code.decode(code.encode(values.expand(times, 512), 1), 512).double().mean(dim=0)
    sure = (chance * (1 - chance))[0] > 0.02
    z = ((mean - values[0]) / error[0])[sure].numpy()
    assert len(z) > 300
    assert np.abs(z).max() < 5
    assert abs(z.mean()) < 4 / len(z) ** 0.5
    assert 0.75 < (z**2).mean() < 1.3
    nearest = (place.round() * level)[0]
    assert np.abs(((nearest - values[0]) / error[0])[sure].numpy()).max() > 50  # what rounding to the nearest would look like


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_the_variance_keeps_the_papers_bound(bits):
    """Lemma 3.1 of Alistarh et al.: E|Q(v) - v|² is at most min(d / s², √d / s) |v|²."""
    code = exchange(bits=bits, norm="l2")
    values = gaussian(1, 512)
    off = code.decode(code.encode(values.expand(500, 512), 3), 512) - values
    bound = min(512 / code.levels**2, 512**0.5 / code.levels)
    assert off.square().sum(dim=1).mean() <= bound * values.square().sum()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_with_error_feedback_less_is_lost_than_was_to_be_sent(bits):
    """Else what is kept would grow from step to step; rounding at random loses more with 2 bits."""
    values = gaussian(1, 512)
    fed, random = exchange(bits=bits, error_feedback=True), exchange(bits=bits)
    lost, noise = (float((code.decode(code.encode(values, 1), 512) - values).norm() / values.norm()) for code in (fed, random))
    assert lost < 1
    assert lost < noise
    assert bits > 2 or noise > 1


def test_the_same_seed_draws_the_same_and_another_draws_others():
    code, values = exchange(bits=3), gaussian(1, 512)
    first, again, other = (code.encode(values, seed) for seed in (9, 9, 10))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_largest_values_and_zeros_are_kept_exactly():
    code = exchange(bits=8)
    values = torch.zeros(1, 1024)
    values[0, 3], values[0, 700] = 127.0, -1.5
    for seed in range(20):
        assert torch.equal(code.decode(code.encode(values, seed), 1024), values)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_spoils_its_row_and_no_other(poison):
    code, values = exchange(bits=4), gaussian(1, 1024)
    values[0, 17] = poison
    found = code.decode(code.encode(values, 1), 1024)
    assert not found[0, :512].isfinite().any()
    assert found[0, 512:].isfinite().all()


def test_half_floats_bear_sums_that_float16_does_not():
    values = gaussian(2, 64) * torch.tensor([[1e9], [1e-9]])
    half, brain = Fp16Exchange(CONTEXT), Bf16Exchange(CONTEXT)
    assert not values.half().float().isfinite().all()
    for code, most, size in ((half, 2**-11, 2 * 64 + 4), (brain, 2**-8, 2 * 64)):
        message = code.encode(values, 0)
        assert message.shape == (2, size)
        off = (code.decode(message, 64) - values).abs() / values.abs().amax(dim=1, keepdim=True)
        assert off.max() <= most
    zeros = torch.zeros(1, 8)
    assert torch.equal(half.decode(half.encode(zeros, 0), 8), zeros)
    assert half.decode(half.encode(zeros + float("nan"), 0), 8).isnan().all()
    assert half.decode(half.encode(zeros + float("inf"), 0), 8).isinf().all()


@pytest.mark.parametrize(("bits", "most"), [(3, 35), (4, 195), (6, 3843)])
def test_with_error_feedback_no_row_is_rounded_away_for_ever(bits, most):
    """Of like values each is the smallest part of their norm: what is kept would grow, and nothing be sent."""
    given = {"bits": bits, "norm": "l2", "error_feedback": True}
    code, size = exchange(bucket=most, **given), -(-most // 8) * 8
    assert code.decode(code.encode(torch.ones(1, size), 0), size)[:, :most].all()
    with pytest.raises(InputError, match="nothing for ever") as caught:
        exchange(bucket=most + 1, **given)
    assert f"at most {most}" in caught.value.hint
    exchange(bucket=most + 1, **{**given, "error_feedback": False})  # at random, nothing is rounded away for ever
    with pytest.raises(InputError, match="nothing for ever"):
        exchange(bits=2, norm="l2", bucket=8, error_feedback=True)


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"bits": 9}, {"bits": 4.5}, {"norm": "l1"}, {"bucket": 0}, {"bit": 4}])
def test_wrong_arguments_are_errors(wrong):
    with pytest.raises(RecipeError):
        exchange(**wrong)

"""What can be switched in networks: which normalisation, and every how many layers there is a way round."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.cnn import CnnEncoder, ResidualConvolutions
from deepseek.models.encoders.resnet import ResNetEncoder
from deepseek.models.encoders.series_rnn import SeriesRnnEncoder
from deepseek.models.encoders.text_rnn import TextRnnEncoder
from deepseek.models.layers import make_convolution_normalization, make_normalization
from deepseek.models.trunks.mlp import MlpTrunk
from deepseek.models.trunks.residual import ResidualTrunk

IMAGE = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (3, 16, 16), "float32")}
SERIES = {"run": InputSpec("run", Kind.SERIES, ("a", "b", "c", "d"), (9, 4), "float32")}
TEXT = {"text": InputSpec("text", Kind.TEXT, ("text",), (), "int32", cardinalities=(30,), ragged=True)}
ALL = ("batch", "layer", "group", "none")
MAKERS = {
    "mlp": lambda kind: MlpTrunk(5, width=16, dropout=0.0, normalization=kind),
    "residual": lambda kind: ResidualTrunk(5, width=16, dropout=0.0, normalization=kind),
    "cnn": lambda kind: CnnEncoder(IMAGE, channels=[8, 16], blocks=[0, 1], normalization=kind),
    "resnet": lambda kind: ResNetEncoder(IMAGE, depth=18, normalization=kind),
}


def answers(network: nn.Module, rows: int = 6) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    if isinstance(network, CnnEncoder | ResNetEncoder):
        return network({"photo": torch.randn(6, 3, 16, 16, generator=random)[:rows]}).tokens
    return network(torch.randn(6, 5, generator=random)[:rows])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("network", MAKERS)
def test_only_batch_normalisation_makes_rows_depend_on_each_other(network, kind):
    torch.manual_seed(0)
    made = MAKERS[network](kind).train()
    alone, beside = answers(made, 3), answers(made, 6)[:3]
    same = torch.allclose(alone, beside, rtol=1e-3, atol=1e-4)
    assert same == (kind != "batch")


@pytest.mark.parametrize("network", MAKERS)
def test_each_normalisation_is_another(network):
    found = []
    for kind in ALL:
        torch.manual_seed(0)
        found.append(answers(MAKERS[network](kind).train()).detach())
    assert all(not torch.allclose(a, b, atol=1e-3) for place, a in enumerate(found) for b in found[:place])


def test_vectors_and_maps_are_normalised_over_what_the_name_says():
    x, maps = torch.randn(4, 16) * 5 + 3, torch.randn(2, 16, 5, 5) * 5 + 3
    for group in make_normalization("group", 16)(x).view(4, 2, 8).unbind(1):
        torch.testing.assert_close(group.mean(1), torch.zeros(4), rtol=0, atol=1e-5)
    layer = make_convolution_normalization("layer", 16)(maps)
    torch.testing.assert_close(layer.mean((1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    groups = make_convolution_normalization("group", 16)(maps).view(2, 2, 8, 25)
    torch.testing.assert_close(groups.mean((2, 3)), torch.zeros(2, 2), rtol=0, atol=1e-5)
    assert layer.mean((2, 3)).abs().max() > 1e-2  # of a channel alone it is not 0
    assert make_convolution_normalization("none", 16)(maps) is maps


def test_public_weights_keep_batch_normalisation(tmp_path):
    with pytest.raises(InputError, match="normalization is 'layer' with pre-trained weights"):
        ResNetEncoder(IMAGE, normalization="layer", pretrained=str(tmp_path / "weights.safetensors"))


def test_a_cnn_has_a_way_round_every_so_many_convolutions():
    def blocks(every):
        torch.manual_seed(0)
        made = CnnEncoder(IMAGE, channels=[8], blocks=[2], residual_every=every)
        return [(len(part.branch) // 3, part.residual) for part in made.stages[0] if isinstance(part, ResidualConvolutions)]

    assert blocks(2) == [(2, True), (2, True)]
    assert blocks(1) == [(1, True)] * 4
    assert blocks(3) == [(3, True), (1, False)]
    assert blocks(0) == [(4, False)]
    torch.manual_seed(0)
    plain = ResidualConvolutions(8, "none", "relu", residual=False)
    x, branch = torch.randn(2, 8, 4, 4), plain.branch
    assert torch.equal(plain(x), branch(x))
    plain.residual = True
    assert torch.equal(plain(x), x + branch(x))


def recurrent(kind, every):
    torch.manual_seed(0)
    if kind == "series":
        made = SeriesRnnEncoder(SERIES, width=8, depth=5, residual_every=every, dropout=0.0)
        return made, {"run": torch.randn(3, 9, 4)}
    made = TextRnnEncoder(TEXT, token_width=8, width=8, depth=5, residual_every=every, dropout=0.0)
    return made, {"text": torch.randint(4, 30, (3, 7)), "text_mask": torch.ones(3, 7, dtype=torch.bool)}


@pytest.mark.parametrize("kind", ["series", "text"])
def test_recurrent_layers_have_ways_round(kind):
    def gradient(every):
        encoder, batch = recurrent(kind, every)
        encoder(batch).tokens.square().sum().backward()
        first = encoder.layers[0] if kind == "series" else encoder.layers[0].ahead
        return float(first.weight_ih_l0.grad.norm())

    plain, short = gradient(0), gradient(1)
    assert short > 3 * plain  # what ways round are for: the first layer of many learns
    assert gradient(2) not in (plain, short)
    with pytest.raises(InputError, match=r"residual_every is 2 with a depth of 3.*from 4 values to 8, have no way round"):
        SeriesRnnEncoder(SERIES, width=8, depth=3, residual_every=2)
    with pytest.raises(InputError, match=r"residual_every is 2 with a depth of 2.*from 4 values to 8"):
        TextRnnEncoder(TEXT, token_width=4, width=8, depth=2, residual_every=2)
    TextRnnEncoder(TEXT, token_width=8, width=8, depth=2, residual_every=2)
    with pytest.raises(InputError, match="residual_every is 3, and no stage has more than 2 convolutions"):
        CnnEncoder(IMAGE, channels=[8, 8], blocks=[0, 1], residual_every=3)
    CnnEncoder(IMAGE, channels=[8, 8], blocks=[0, 0], residual_every=3)
    with pytest.raises(InputError, match="residual_every is 9 with a depth of 1"):
        SeriesRnnEncoder(SERIES, residual_every=9)

"""U-Net, against its parts written out, and against MONAI's where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.maps.unet import AttentionGate, UNet, UNetModel, make_map_normalization
from deepseek.registry import family
from deepseek.tasks.model import TaskModel

IMAGE = InputSpec("photo", Kind.IMAGE, ("photo",), (3, 21, 30), "float32")
SCAN = InputSpec("scan", Kind.VOLUME, ("scan",), (1, 9, 10, 7), "float32")
CASES = {
    "unet": ({"type": "unet", "width": 4, "depth": 3}, IMAGE),
    "unet, gates": ({"type": "unet", "width": 4, "depth": 2, "attention_gates": True, "normalization": "group"}, IMAGE),
    "unet, layer": ({"type": "unet", "width": 4, "depth": 2, "normalization": "layer", "activation": "gelu"}, IMAGE),
    "unet3d": ({"type": "unet3d", "width": 4, "depth": 2}, SCAN),
    "unet3d, gates": ({"type": "unet3d", "width": 4, "depth": 2, "attention_gates": True, "most_width": 6}, SCAN),
    "unet3d, deep": ({"type": "unet3d", "width": 4, "depth": 2, "deep_supervision": 2}, SCAN),
    "unet3d, plain": ({"type": "unet3d", "width": 4, "depth": 1, "normalization": "none", "dropout": 0.3}, SCAN),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=CASES)
def network(request):
    spec, given = CASES[request.param]
    return family("model").build(spec, {given.name: given}, {})


def rows(network, count=2):
    (spec,) = network.inputs.values()
    return {spec.name: torch.randn(count, *spec.shape)}


def test_a_map_is_as_large_as_its_picture_whatever_that_is(network):
    out = network.eval()(rows(network))
    (spec,) = network.inputs.values()
    assert out.shape == (2, network.width, *spec.shape[1:])
    assert network.features == "map"
    larger = {name: functional.pad(x, [1, 2, 0, 3]) for name, x in rows(network).items()}
    assert network(larger).shape[2:] == next(iter(larger.values())).shape[2:]
    assert network({name: x[:0] for name, x in rows(network).items()}).shape[0] == 0


def test_rows_do_not_see_each_other(network):
    network.eval()
    batch = rows(network)
    torch.testing.assert_close(network(batch)[:1], network({name: x[:1] for name, x in batch.items()}), rtol=1e-4, atol=1e-5)


def test_every_parameter_learns(network):
    out = network.train()(rows(network))
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.any() or "bias" in name


def test_it_exports_for_any_number_of_rows(network):
    network.eval()
    batch = rows(network)
    program = torch.export.export(network, (batch,), dynamic_shapes=({key: {0: torch.export.Dim("rows", min=1)} for key in batch},))
    more = rows(network, 5)
    torch.testing.assert_close(program.module()(more), network(more), rtol=1e-4, atol=1e-5)


def test_gates_change_the_answer_and_cost_little():
    plain, gated = (
        UNet(1, dimensions=3, width=8, depth=2, most=64, normalization="instance", activation="relu", dropout=0.0, attention_gates=on)
        for on in (False, True)
    )
    gated.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 1, 8, 8, 8)
    assert not torch.allclose(plain(x), gated(x))
    with torch.no_grad():
        for gate in gated.gates:
            gate.factor.weight.zero_()
            gate.factor.bias.fill_(40.0)  # wide open
    torch.testing.assert_close(plain(x), gated(x))
    counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (plain, gated)]
    assert counts[0] < counts[1] < 1.01 * counts[0]


def test_an_attention_gate_is_its_formula():
    gate = AttentionGate(6, dimensions=2, normalization="instance").double()
    x, g = torch.randn(2, 6, 5, 4).double(), torch.randn(2, 6, 5, 4).double()

    def linear(layer, values):
        return torch.einsum("oi,bihw->bohw", layer.weight[:, :, 0, 0], values) + layer.bias[:, None, None]

    def normed(layer, values):
        mean, variance = values.mean(dim=(2, 3), keepdim=True), values.var(dim=(2, 3), keepdim=True, unbiased=False)
        return (values - mean) / (variance + layer.eps).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    inner = normed(gate.of_way[1], linear(gate.of_way[0], x)) + normed(gate.of_gate[1], linear(gate.of_gate[0], g))
    factors = 1 / (1 + (-linear(gate.factor, inner.clamp(min=0))).exp())
    torch.testing.assert_close(gate(x, g), x * factors)
    assert factors.shape == (2, 1, 5, 4)


@pytest.mark.parametrize("normalization", ["instance", "none"])
def test_gates_of_a_new_network_let_pass_what_comes_across_at_every_place(normalization):
    torch.manual_seed(0)
    settings = {"width": 8, "depth": 2, "most": 64, "normalization": normalization, "activation": "relu", "dropout": 0.0}
    network = UNet(1, dimensions=2, attention_gates=True, **settings)
    factors = []
    for gate in network.gates:
        gate.register_forward_hook(lambda gate, given, _: factors.append(gate.attention(*given)))
    network(torch.randn(2, 1, 16, 16))
    assert len(factors) == 2
    for each in factors:
        assert each.min() > 0.9  # half closed, they let about 0.5 pass, and at some places a tenth
        assert each.max() < 1.0


def test_normalisations_are_those_of_pytorch():
    x = torch.randn(3, 16, 4, 5)
    torch.testing.assert_close(make_map_normalization("instance", 16, 2)(x), nn.InstanceNorm2d(16)(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(make_map_normalization("layer", 16, 2)(x), functional.layer_norm(x, x.shape[1:]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(make_map_normalization("group", 16, 2)(x), functional.group_norm(x, 8), rtol=1e-4, atol=1e-5)
    assert isinstance(make_map_normalization("batch", 16, 3), nn.BatchNorm3d)
    assert make_map_normalization("none", 16, 2)(x) is x


def test_a_picture_may_be_halved_to_a_single_place():
    small = InputSpec("scan", Kind.VOLUME, ("scan",), (1, 4, 3, 4), "float32")
    network = family("model").build({"type": "unet3d", "width": 4, "depth": 2, "attention_gates": True}, {"scan": small}, {})
    assert torch.isfinite(network({"scan": torch.randn(1, 1, 4, 3, 4)})).all()


def test_what_is_no_single_picture_is_refused():
    number = InputSpec("age", Kind.NUMBER, ("age",), (1,), "float32")
    with pytest.raises(InputError, match=r"takes one image and nothing else, and there is 'age' \(number\)"):
        UNetModel({"photo": IMAGE, "age": number}, {})
    with pytest.raises(InputError, match=r"'scan' \(volume\)"):
        UNetModel({"scan": SCAN}, {})
    with pytest.raises(InputError, match="takes a vector for each place"):
        spec = TargetSpec("mask", ("mask",), ("0", "1"), (3, 3), 3, shape=(21, 30))
        TaskModel(family("model").build("resnet", {"photo": IMAGE}, {}), family("task").build("segmentation", spec))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_blocks_and_gates_are_monais_with_the_same_weights(dimensions):
    networks = pytest.importorskip("monai.networks.nets.basic_unet")
    attention = pytest.importorskip("monai.networks.nets.attentionunet")
    ours = UNet(
        2, dimensions=dimensions, width=4, depth=2, most=64, normalization="instance", activation="relu", dropout=0.0, attention_gates=False
    )
    act, norm = ("relu", {"inplace": False}), ("instance", {"affine": True})
    down = [
        networks.TwoConv(dimensions, 2, 4, act, norm, True),
        networks.Down(dimensions, 4, 8, act, norm, True),
        networks.Down(dimensions, 8, 16, act, norm, True),
    ]
    up = [networks.UpCat(dimensions, 16, 8, 8, act, norm, True), networks.UpCat(dimensions, 8, 4, 4, act, norm, True)]
    theirs = nn.ModuleList([*down, *up])
    ours_in_order = [
        tensor
        for block in [*ours.down, *(nn.ModuleList([a, b]) for a, b in zip(ours.up, ours.merge, strict=True))]
        for tensor in (parameter for module in block.modules() for parameter in ([] if list(module.children()) else module.parameters()))
    ]
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(0, 0.3)
        left = iter(ours_in_order)
        for module in theirs.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.weight.copy_(next(left))
                module.bias.zero_()
            elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d | nn.InstanceNorm2d | nn.InstanceNorm3d):
                module.weight.copy_(next(left))
                module.bias.copy_(next(left))
    assert next(left, None) is None
    x = torch.randn(2, 2, *[8, 12, 8][:dimensions])
    first = down[0](x)
    second = down[1](first)
    wanted = up[1](up[0](down[2](second), second), first)
    torch.testing.assert_close(ours(x), wanted, rtol=1e-5, atol=1e-5)

    gate = AttentionGate(8, dimensions=dimensions, normalization="batch")
    other = attention.AttentionBlock(dimensions, f_int=4, f_g=8, f_l=8)
    with torch.no_grad():
        for one, two in ((gate.of_way, other.W_x), (gate.of_gate, other.W_g)):
            two[0].conv.load_state_dict(one[0].state_dict())
            two[1].load_state_dict(one[1].state_dict())
        other.psi[0].conv.load_state_dict(gate.factor.state_dict())
        other.psi[1].weight.fill_(1.0)  # its normalisation of the one factor is ours of none: in evaluation it divides by 1
        other.psi[1].eps = 0.0
    ways, asks = torch.randn(2, 8, *[4, 5, 6][:dimensions]), torch.randn(2, 8, *[4, 5, 6][:dimensions])
    torch.testing.assert_close(gate.eval()(ways, asks), other.eval()(g=asks, x=ways), rtol=1e-5, atol=1e-5)


class TestDeepSupervision:
    """Coarser sizes answer too while training; answers are the finest's alone."""

    @staticmethod
    def model(count, classes=3):
        torch.manual_seed(0)
        target = TargetSpec("mask", ("mask",), tuple(map(str, range(classes))), (9,) * classes, 9, shape=(10, 12, 9))
        model = {"type": "unet3d", "width": 4, "depth": 2, "deep_supervision": count}
        return TaskModel(family("model").build(model, {"scan": SCAN}, {}), family("task").build("segmentation", target))

    def test_each_size_has_a_say_in_the_loss_half_as_much_as_the_next_finer_one(self):
        model, batch = self.model(2), {"scan": torch.randn(2, 1, 10, 12, 9)}
        target = torch.randint(0, 3, (2, 10, 12, 9), dtype=torch.uint8)
        out = model.train()(batch)
        assert out.shape == (2, 9, 10, 12, 9)
        each = [model.task.row_losses(part, target) for part in out.split(3, dim=1)]
        torch.testing.assert_close(model.task.row_losses(out, target), (4 * each[0] + 2 * each[1] + each[2]) / 7)
        model.task.row_losses(out, target).sum().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.network.body.supervised.parameters())

    def test_coarser_answers_are_those_of_their_own_maps(self):
        model = self.model(2).train()
        body, seen = model.network.body, []
        for merge in body.merge:
            merge.register_forward_hook(lambda _, __, out: seen.append(out))
        out = model({"scan": torch.randn(1, 1, 10, 12, 9)})
        coarse = body.supervised[1](seen[0])  # of the size before the finest
        wanted = model.head.heads[1](functional.interpolate(coarse, size=(12, 12, 12), mode="nearest"))[:, :, :10, :12, :9]
        torch.testing.assert_close(out[:, 3:6], wanted)

    def test_answers_are_those_of_a_network_without_it(self):
        deep, plain, batch = self.model(1), self.model(0), {"scan": torch.randn(2, 1, 10, 12, 9)}
        plain.network.body.load_state_dict(deep.network.body.state_dict(), strict=False)
        plain.head.load_state_dict(deep.head.heads[0].state_dict())
        torch.testing.assert_close(deep.eval()(batch), plain.eval()(batch), rtol=0, atol=0)
        assert not [name for name, _ in plain.named_parameters() if "supervised" in name]

    def test_more_sizes_than_there_are_are_refused(self):
        with pytest.raises(InputError, match="deep_supervision is 3"):
            self.model(3)

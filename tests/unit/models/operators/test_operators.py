"""Where operators stand in networks, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from deepseek.data.batch import Batch
from deepseek.errors import InputError, PluginError, RecipeError
from deepseek.models.encoders.text_transformer import TransformerBlock
from deepseek.models.layers import make_activation, make_map_activation, width_behind
from deepseek.models.operators.geglu import GegluOperator
from deepseek.models.operators.squared_relu import SquaredReluOperator
from deepseek.models.operators.tensor import give_onnx_form, onnx_forms, tensor_operator
from deepseek.registry import family, load_plugin

HERE = Path(__file__).parent


@pytest.mark.parametrize("trunk", ["mlp", "residual", "tabm"])
def test_a_trunk_takes_an_operator_for_its_activation(trunk):
    """It stands where the activation would, and what follows has the width that it leaves."""
    made = family("trunk").build({"type": trunk, "width": 8, "depth": 2, "activation": "geglu"}, 5)
    plain = family("trunk").build({"type": trunk, "width": 8, "depth": 2, "activation": "relu"}, 5)
    assert sum(isinstance(module, GegluOperator) for module in made.modules()) == (3 if trunk == "residual" else 2)
    assert not any(isinstance(module, GegluOperator) for module in plain.modules())
    assert made.width == 4
    assert made(torch.randn(3, 5)).shape == (3, made.members, 4)
    assert plain(torch.randn(3, 5)).shape == (3, plain.members, 8)


def test_residual_connections_fit_what_an_operator_leaves():
    made = family("trunk").build({"type": "mlp", "width": 8, "depth": 4, "residual_every": 2, "activation": "geglu"}, 5)
    assert made(torch.randn(3, 5)).shape == (3, 1, 4)


def test_a_transformers_block_takes_one():
    block = TransformerBlock(8, 2, expansion=2.0, activation={"type": "geglu"}, dropout=0.0)
    assert isinstance(block.activation, GegluOperator)
    assert block.feed_out.in_features == 8
    mask = torch.ones(2, 1, 1, 3, dtype=torch.bool)
    assert block(torch.randn(2, 3, 8), mask, None).shape == (2, 3, 8)


def test_convolutions_take_pointwise_ones_alone():
    assert isinstance(make_map_activation("squared_relu", 4), SquaredReluOperator)
    assert isinstance(make_map_activation("relu", 4), nn.ReLU)
    with pytest.raises(InputError, match=r"geglu.*channels of a convolution"):
        make_map_activation("geglu", 4)


def test_words_go_before_operators_and_widths_are_told():
    assert isinstance(make_activation("gelu", 4), nn.GELU)
    assert width_behind(make_activation("gelu", 4), 4) == 4
    assert width_behind(make_activation({"type": "geglu"}, 4), 4) == 2
    with pytest.raises(InputError, match="3 values, which have no halves"):
        make_activation("geglu", 3)


def test_a_wrong_name_is_told_with_words_and_operators():
    with pytest.raises(RecipeError) as caught:
        family("trunk").validate({"type": "mlp", "activation": "geglue"})
    assert "geglu" in str(caught.value)
    assert "relu" in str(caught.value)


def test_the_trunk_of_operators_works_on_the_vector_as_it_is():
    made = family("trunk").build({"type": "operators", "operators": ["geglu", "squared_relu"], "then": {"type": "mlp", "width": 3}}, 8)
    x = torch.randn(5, 8)
    expected = made.then(torch.relu(GegluOperator(8)(x)).square())
    torch.testing.assert_close(made.eval()(x), made.then.eval()(torch.relu(GegluOperator(8)(x)).square()))
    assert expected.shape == (5, 1, 3)
    with pytest.raises(RecipeError, match="operators"):
        family("trunk").validate({"type": "operators", "operators": []})


def test_geglu_is_its_kernel_where_gradients_are_wanted_and_plain_where_not():
    called = []
    x = torch.randn(3, 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: called.append(tensor.shape) or tensor, lambda tensor: tensor):
        GegluOperator(4)(x.requires_grad_())
    assert called == [(3, 4)]  # what came in, and nothing else


class TestOwners:
    """An operator's name belongs to the file that took it first."""

    def test_a_file_that_is_read_again_replaces_its_own(self, plugins_forgotten, tmp_path):
        file = tmp_path / "again.py"
        text = (HERE / "signed_log.py").read_text().replace("examples::", "again::").replace('register("signed_log")', 'register("again")')
        file.write_text(text)
        load_plugin(str(file), tmp_path)
        file.write_text(text.replace("np.log1p(np.abs(values))", "np.log1p(np.abs(values)) * 2"))
        load_plugin(str(file), tmp_path)
        torch.testing.assert_close(torch.ops.again.signed_log(torch.tensor([1.0])), torch.tensor([2 * 0.6931472]))

    def test_another_file_is_refused(self, plugins_forgotten, tmp_path):
        load_plugin("signed_log.py", HERE)
        (tmp_path / "other.py").write_text((HERE / "signed_log.py").read_text())
        with pytest.raises(PluginError, match=r"examples::signed_log.* is there already.*signed_log\.py"):
            load_plugin("other.py", tmp_path)

    def test_pytorchs_own_are_refused(self):
        with pytest.raises(PluginError, match="PyTorch or one of its extensions"):
            tensor_operator("aten::relu", fake=torch.empty_like)(_twice)

    @pytest.mark.parametrize("name", ["relu", "my-lib::relu", "a::b::c", "::x"])
    def test_a_name_has_a_namespace(self, name):
        with pytest.raises(PluginError, match="namespace::name"):
            tensor_operator(name, fake=torch.empty_like)

    def test_half_a_backward_pass_is_refused(self):
        with pytest.raises(PluginError, match="half a backward pass"):
            tensor_operator("tests::half", fake=torch.empty_like, backward=lambda ctx, gradient: gradient)


def _twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_an_operator_that_exists_can_be_given_an_onnx_form():
    made = tensor_operator("tests::existing", fake=torch.empty_like)(_twice)
    assert torch.ops.tests.existing.default not in onnx_forms()
    give_onnx_form("tests::existing", _twice)
    assert onnx_forms()[torch.ops.tests.existing.default] is _twice
    assert made(torch.ones(2)).tolist() == [2, 2]


def test_an_operator_trains_as_its_operations_do():
    """Ten steps of a network with the kernel and with plain operations end at the same weights."""
    from deepseek.training.step import TrainingStep

    class Plain(nn.Module):
        def forward(self, x):
            gate, value = x.chunk(2, dim=-1)
            return nn.functional.gelu(gate) * value

    ends = []
    for part in (GegluOperator(8), Plain()):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), part, nn.Linear(4, 1))
        step = TrainingStep(
            lambda inputs, net=net: net(inputs["x"]),
            lambda out, batch: ((out[:, 0] - batch.targets["y"]).square().sum(), torch.tensor(float(len(batch)))),
            torch.optim.SGD(net.parameters(), lr=0.1),
        )
        for _ in range(10):
            step(Batch({"x": torch.linspace(-1, 1, 12).view(4, 3)}, {"y": torch.arange(4.0)}))
        ends.append([parameter.detach() for parameter in net.parameters()])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deepseek.errors import InputError, RunError, UnknownNameError
from deepseek.models.adapters import (
    AdapterSettings,
    adapted_layers,
    adapter_parameters,
    add_adapters,
    load_adapters,
    merge_adapters,
    save_adapters,
)

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), lambda: torch.randn(7, 6)),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), lambda: torch.randn(2, 3, 6)),
    "series": (lambda: nn.Conv1d(4, 6, 3, padding=1), lambda: torch.randn(2, 4, 9)),
    "images": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2), lambda: torch.randn(2, 4, 9, 9)),
    "images, plain": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), lambda: torch.randn(2, 4, 9, 9)),
    "images in groups": (lambda: nn.Conv2d(4, 8, 3, groups=2, padding=1, padding_mode="reflect"), lambda: torch.randn(2, 4, 6, 6)),
    "each channel alone": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), lambda: torch.randn(2, 4, 6, 6)),
    "volumes": (lambda: nn.Conv3d(2, 3, 2), lambda: torch.randn(2, 2, 4, 4, 4)),
    "embedding": (lambda: nn.Embedding(11, 4, padding_idx=0), lambda: torch.randint(0, 11, (3, 5))),
}
BOTH = pytest.mark.parametrize("method", ["lora", "dora"])
ALL = pytest.mark.parametrize("case", LAYERS)


def adapted(case, method, **keys):
    torch.manual_seed(0)
    make, draw = LAYERS[case]
    net, x = nn.Sequential(make()), draw()
    plain = copy.deepcopy(net)
    add_adapters(net, AdapterSettings(method=method, rank=2, alpha=3.0, layers=("0",), **keys))
    return net, plain, x


def taught(net):
    """Move every adapter somewhere, as training would."""
    with torch.no_grad():
        for parameter in adapter_parameters(net):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net


@BOTH
@ALL
def test_a_fresh_adapter_changes_no_answer(case, method):
    net, plain, x = adapted(case, method)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-5, atol=1e-6)


@BOTH
@ALL
def test_merged_answers_are_those_of_before(case, method):
    net, plain, x = adapted(case, method)
    wanted = taught(net)(x)
    assert (wanted - plain(x)).abs().max() > 1e-2
    assert merge_adapters(net) == 1
    assert type(net[0]) is type(plain[0])
    assert set(net.state_dict()) == set(plain.state_dict())
    torch.testing.assert_close(net(x), wanted, rtol=1e-5, atol=1e-5)


@BOTH
@ALL
def test_only_adapters_have_gradients_and_all_of_them_do(case, method):
    net, _, x = adapted(case, method)
    taught(net)(x).square().sum().backward()
    trained = {name for name, parameter in net.named_parameters() if parameter.grad is not None and parameter.grad.abs().sum() > 0}
    wanted = {"0.lora_down", "0.lora_up"} | ({"0.magnitude"} if method == "dora" else set())
    assert trained - {"0.bias"} == wanted


@BOTH
def test_a_linear_adapter_is_the_formula_of_its_paper(method):
    net, plain, x = adapted("linear", method)
    layer, weight = taught(net)[0], plain[0].weight
    whole = weight + 3.0 / 2 * layer.lora_up @ layer.lora_down
    if method == "dora":
        whole = layer.magnitude[:, None] * whole / whole.norm(dim=1, keepdim=True)
    torch.testing.assert_close(net(x), x @ whole.T + plain[0].bias, rtol=1e-5, atol=1e-6)


def test_dora_begins_with_the_lengths_of_the_weights():
    net, plain, _ = adapted("images", "dora")
    torch.testing.assert_close(net[0].magnitude, plain[0].weight.flatten(1).norm(dim=1))


@BOTH
@pytest.mark.parametrize("case", ["linear", "images"])
def test_dropout_is_of_the_adapters_input_and_of_training_alone(case, method):
    net, _, x = adapted(case, method, dropout=0.5)
    taught(net)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    without, _, _ = adapted(case, method)
    without.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x), without(x), rtol=1e-5, atol=1e-5)


def test_what_stands_for_padding_stays():
    net, plain, _ = adapted("embedding", "lora")
    net(torch.tensor([[0, 3]])).sum().backward()
    assert net[0].lora_down.grad[:, 0].abs().sum() == 0
    torch.testing.assert_close(net(torch.tensor([0])), plain(torch.tensor([0])))


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.Embedding(9, 4)
        self.query, self.value = nn.Linear(4, 4), nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, ids):
        x = self.words(ids)
        return self.head(self.norm((self.query(x) * self.value(x)).mean(dim=1)))


def test_layers_are_chosen_by_pattern():
    assert add_adapters(Net()) == ["query", "value", "head"]
    assert add_adapters(Net(), AdapterSettings(layers=("qu*", "words"))) == ["words", "query"]
    net = nn.ModuleDict({"deep": Net()})
    assert add_adapters(net, AdapterSettings(layers=("value",))) == ["deep.value"]
    with pytest.raises(UnknownNameError, match="did you mean 'query'"):
        add_adapters(Net(), AdapterSettings(layers=("querry",)))
    with pytest.raises(InputError, match="no layer to put an adapter on"):
        add_adapters(nn.Sequential(nn.ReLU()))
    with pytest.raises(InputError, match="has an adapter already"):
        add_adapters(net, AdapterSettings(layers=("value",)))


def test_a_layer_whose_weight_is_used_past_its_forward_pass_is_no_choice():
    with pytest.raises(UnknownNameError):
        add_adapters(Net(), AdapterSettings(layers=("out_proj",)))


def test_parts_can_be_named():
    net = Net()
    assert add_adapters(net, within=[net.query]) == ["query"]


@BOTH
def test_adapters_are_saved_alone_and_put_on_again(method, tmp_path):
    net, ids = Net(), torch.randint(0, 9, (5, 3))
    settings = AdapterSettings(method=method, rank=2, layers=("query", "value"))
    net.requires_grad_(False)
    net.head.requires_grad_(True)
    add_adapters(net, settings)
    taught(net).eval()
    with torch.no_grad():
        net.head.weight.add_(1.0)
    file = save_adapters(net, tmp_path / "adapters.safetensors", settings)
    assert file.stat().st_size < 4_000
    fresh = Net().eval()
    assert load_adapters(fresh, file).method == method
    torch.testing.assert_close(fresh(ids), net(ids))
    merge_adapters(fresh)
    assert not list(adapted_layers(fresh))
    torch.testing.assert_close(fresh(ids), net(ids), rtol=1e-5, atol=1e-5)


def test_adapters_that_do_not_fit_are_refused(tmp_path):
    net = Net()
    with pytest.raises(InputError, match="no adapters to save"):
        save_adapters(net, tmp_path / "none", AdapterSettings())
    settings = AdapterSettings(rank=2, layers=("query",))
    add_adapters(net, settings)
    with pytest.raises(RunError, match=r"a\.safetensors cannot be written: No such file"):
        save_adapters(net, tmp_path / "nowhere" / "a.safetensors", settings)
    file = save_adapters(net, tmp_path / "adapters.safetensors", settings)
    with pytest.raises(InputError, match="no adapters at"):
        load_adapters(Net(), tmp_path / "absent")
    with pytest.raises(InputError, match="a layer 'query', which the model does not have"):
        load_adapters(nn.Sequential(nn.Linear(4, 4)), file)
    other = Net()
    other.query = nn.Linear(5, 4)
    with pytest.raises(InputError, match=r"query\.lora_down is \(2, 4\), not \(2, 5\)"):
        load_adapters(other, file)
    (tmp_path / "text").write_text("no adapters")
    with pytest.raises(InputError, match="cannot be read"):
        load_adapters(Net(), tmp_path / "text")


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"method": "ia3"}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        AdapterSettings(**wrong)


@BOTH
@pytest.mark.parametrize("case", ["linear", "images, plain", "series", "volumes", "embedding"])
def test_answers_and_gradients_are_pefts(case, method):
    peft = pytest.importorskip("peft")
    net, plain, x = adapted(case, method)
    taught(net)
    reference = peft.get_peft_model(plain, peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"], use_dora=method == "dora"))
    own = dict(reference.base_model.model[0].named_parameters())
    layer = net[0]
    with torch.no_grad():
        for name, parameter in own.items():
            if "lora_A" in name or "embedding_A" in name:
                parameter.copy_(layer.lora_down.view(parameter.shape))
            elif "lora_B" in name or "embedding_B" in name:
                parameter.copy_(layer.lora_up.view(parameter.shape))
            elif "magnitude" in name:
                parameter.copy_(layer.magnitude.view(parameter.shape))
    out, wanted = net(x), reference(x)
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)
    out.square().sum().backward()
    wanted.square().sum().backward()
    for name, parameter in own.items():
        mine = layer.lora_down if "_A" in name else layer.lora_up if "_B" in name else layer.magnitude if "magnitude" in name else None
        if mine is not None:
            torch.testing.assert_close(mine.grad.flatten(), parameter.grad.flatten(), rtol=1e-4, atol=1e-5)

import copy

import pytest
import torch
from torch import nn

from deepseek.compression.fusion import folded, kernels
from deepseek.models.encoders.resnet import BasicBlock


def trained(module):
    """Give every normalisation numbers of its own, as training does."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return module.eval()


class Twice(nn.Module):
    """What the convolution gives goes on beside the normalisation too."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.layer(x)
        return x + self.norm(x)


class Shared(nn.Module):
    """One convolution before two normalisations."""

    def __init__(self):
        super().__init__()
        self.layer, self.one, self.two = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.one(self.layer(x)) + self.two(self.layer(x + 1))


class Deep(nn.Module):
    """The normalised dimension is not the one that the linear map gives."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.layer(x[:, :1].reshape(-1, 3, 8)))


@pytest.mark.parametrize(
    ("module", "shape", "pairs"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()), (2, 3, 8, 8), 1),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)), (2, 4, 8, 8), 2),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 8), 1),
        (nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)), (5, 8), 1),
        (BasicBlock(3, 8, 2), (2, 3, 8, 8), 3),
    ],
)
def test_folding_changes_the_count_of_kernels_and_not_the_answers(module, shape, pairs):
    module = trained(module)
    x = torch.randn(*shape)
    made = folded(module, lambda network: network(x))
    assert len(made.pairs) == pairs
    assert torch.allclose(made.module(x), module(x), atol=1e-5)
    before, after = kernels(lambda: module(x)), kernels(lambda: made.module(x))
    assert sum(before.values()) - sum(after.values()) == pairs
    assert not any("batch_norm" in name for name in after)


@pytest.mark.parametrize("module", [Twice(), Shared(), Deep()])
def test_what_is_used_elsewhere_is_left_alone(module):
    x = torch.randn(3, 3, 8, 8)
    made = folded(trained(module), lambda network: network(x))
    assert made.pairs == ()
    assert torch.equal(made.module(x), module(x))


def test_the_network_itself_is_as_it_was():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = copy.deepcopy(module.state_dict())
    folded(module, lambda network: network(torch.randn(2, 3, 8, 8)))
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())

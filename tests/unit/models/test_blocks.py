from __future__ import annotations

from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.models.blocks import blocks_of
from deepseek.registry import family

PHOTO = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (3, 32, 32), "float32")}


def test_every_parameter_is_in_one_block():
    for name in ("resnet", "efficientnet", "cnn"):
        encoder = family("encoder").build(name, PHOTO)
        blocks = encoder.tuning_blocks()
        placed = [id(parameter) for block in blocks for parameter in block.parameters]
        assert sorted(placed) == sorted(map(id, encoder.parameters()))
        assert len(blocks) > 3


def test_a_resnet_is_its_stem_and_its_residual_blocks():
    names = [block.names for block in blocks_of(family("encoder").build("resnet", PHOTO))]
    assert names == [["conv1", "bn1"], *([f"layer{stage}.{place}"] for stage in (1, 2, 3, 4) for place in (0, 1))]


def test_tied_parameters_belong_where_they_come_first():
    first, second = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    second[0].weight = first[0].weight
    blocks = blocks_of(nn.ModuleList([first, second]))
    assert [len(block.parameters) for block in blocks] == [2, 1]


def test_parameters_of_the_network_itself_belong_to_the_first_block():
    net = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2)), "b": nn.Sequential(nn.Linear(2, 2))})
    net.register_parameter("start", nn.Parameter(nn.Linear(2, 1).weight.detach()))
    assert [block.names for block in blocks_of(net)] == [["a", ""], ["b"]]

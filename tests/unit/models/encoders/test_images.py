from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.cnn import CnnEncoder, plan_strides
from deepseek.models.encoders.efficientnet import EfficientNetEncoder
from deepseek.models.encoders.resnet import ResNetEncoder
from deepseek.models.network import parameter_count


def image(side, channels=3):
    return {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (channels, side, side), "float32")}


@pytest.mark.parametrize(
    ("depth", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)]
)
def test_resnets_have_the_published_size(depth, parameters):
    with torch.device("meta"):
        encoder = ResNetEncoder(image(224), depth=depth)
        classifier = nn.Linear(encoder.width, 1000)
    assert parameter_count(encoder) + parameter_count(classifier) == parameters


def test_maps_of_a_new_resnet_without_normalisations_do_not_grow_with_the_depth():
    spread = {}
    for depth in (50, 101):
        torch.manual_seed(0)
        encoder = ResNetEncoder(image(16), depth=depth, normalization="none")
        with torch.no_grad():
            spread[depth] = float(encoder.maps(torch.randn(2, 3, 16, 16))[-1].std())
    assert 0.01 < spread[50] < 10
    assert 0.5 < spread[101] / spread[50] < 2  # some hundreds where each of 33 blocks adds as much as comes into it


@pytest.mark.parametrize(("coefficients", "parameters"), [((1.0, 1.0), 5_288_548), ((1.0, 1.1), 7_794_184), ((1.2, 1.4), 12_233_232)])
def test_efficientnets_have_the_published_size(coefficients, parameters):
    with torch.device("meta"):
        encoder = EfficientNetEncoder(image(224), width_coefficient=coefficients[0], depth_coefficient=coefficients[1])
        classifier = nn.Linear(encoder.width, 1000)
    assert parameter_count(encoder) + parameter_count(classifier) == parameters


def test_names_are_torchvisions():
    with torch.device("meta"):
        resnet, efficient = ResNetEncoder(image(224), depth=50), EfficientNetEncoder(image(224))
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv3.weight", "layer2.0.downsample.1.bias", "layer4.2.bn2.weight"} <= set(
        resnet.state_dict()
    )
    names = {
        "features.0.1.weight",
        "features.1.0.block.1.fc1.bias",
        "features.2.1.block.3.0.weight",
        "features.6.3.block.2.fc2.weight",
        "features.8.0.weight",
    }
    assert names <= set(efficient.state_dict())


@pytest.mark.parametrize(
    ("side", "cls"),
    [(224, ResNetEncoder), (32, ResNetEncoder), (224, EfficientNetEncoder), (28, EfficientNetEncoder), (64, CnnEncoder), (28, CnnEncoder)],
)
def test_maps_have_the_promised_strides(side, cls):
    encoder = cls(image(side), **({"width_coefficient": 0.25} if cls is EfficientNetEncoder else {})).eval()
    with torch.no_grad():
        maps = encoder.maps(torch.zeros(1, 3, side, side))
    assert [m.shape[2] for m in maps] == [-(-side // stride) if cls is not CnnEncoder else side // stride for stride in encoder.strides]
    assert maps[-1].shape[1] == encoder.width
    assert maps[-1].shape[2] >= 3
    if side == 224:
        assert encoder.strides == (4, 8, 16, 32)


def test_small_images_keep_a_map_because_of_the_small_stem():
    # Ablation: the ordinary stem leaves a 28-pixel image one pixel wide.
    small, large = ResNetEncoder(image(28)).eval(), ResNetEncoder(image(28), stem="large").eval()
    x = torch.zeros(1, 3, 28, 28)
    with torch.no_grad():
        assert small.maps(x)[-1].shape[2] == 4
        assert large.maps(x)[-1].shape[2] == 1


@pytest.mark.parametrize("side", [3, 5, 8, 28, 32, 64, 96, 224, 513])
def test_cnn_maps_end_between_three_and_eight_pixels(side):
    stem, halved = plan_strides(side, 3)
    last = (side // stem) >> halved
    assert 3 <= last <= 8
    encoder = CnnEncoder(image(side, 1), channels=[4, 4, 4, 4], blocks=[0, 0, 0, 0]).eval()
    with torch.no_grad():
        assert 3 <= encoder.maps(torch.zeros(1, 1, side, side))[-1].shape[2] <= 9


@pytest.mark.parametrize("downsample", ["pool_first", "pool_last", "stride"])
@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_cnn_variants_run(downsample, normalization):
    encoder = CnnEncoder(
        image(16), channels=[8, 12], blocks=[1, 0], downsample=downsample, normalization=normalization, pooling="max", dropout=0.5
    )
    assert encoder({"photo": torch.randn(2, 3, 16, 16)}).tokens.shape == (2, 1, 12)


def test_cnn_blocks_and_channels_must_agree():
    with pytest.raises(InputError, match="blocks has 1"):
        CnnEncoder(image(16), channels=[8, 8], blocks=[1])


def test_pooling_is_mean_or_max():
    torch.manual_seed(0)
    encoder = CnnEncoder(image(16), channels=[4, 4], blocks=[0, 0]).eval()
    x = torch.randn(2, 3, 16, 16)
    last = encoder.maps(x)[-1]
    torch.testing.assert_close(encoder({"photo": x}).tokens[:, 0], last.mean(dim=(2, 3)))
    encoder.pooling = "max"
    torch.testing.assert_close(encoder({"photo": x}).tokens[:, 0], last.amax(dim=(2, 3)))


def test_stochastic_depth_acts_in_training_only():
    torch.manual_seed(0)
    encoder = EfficientNetEncoder(image(16), width_coefficient=0.25, dropout=0.0, stochastic_depth=0.9)
    shares = [module.stochastic_depth.p for module in encoder.modules() if hasattr(module, "stochastic_depth")]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] < 0.9
    x = {"photo": torch.randn(4, 3, 16, 16)}
    assert not torch.equal(encoder(x).tokens, encoder(x).tokens)
    encoder.eval()
    assert torch.equal(encoder(x).tokens, encoder(x).tokens)


def test_public_weights_load_whole_and_without_the_classifier(tmp_path, caplog):
    path = str(tmp_path / "weights.safetensors")
    donor = EfficientNetEncoder(image(16), width_coefficient=0.25)
    save_file({**donor.state_dict(), "classifier.1.weight": torch.zeros(1, 1), "classifier.1.bias": torch.zeros(1)}, path)
    with caplog.at_level("INFO"):
        loaded = EfficientNetEncoder(image(16), width_coefficient=0.25, pretrained=path)
    assert all(torch.equal(tensor, donor.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert "classifier.1.weight" in caplog.text


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = str(tmp_path / "weights.safetensors")
    weights = EfficientNetEncoder(image(16), width_coefficient=0.25).state_dict()
    weights["stranger"] = torch.zeros(1)
    weights["features.0.0.weight"] = torch.zeros(8, 1, 3, 3)
    del weights["features.0.1.bias"]
    save_file(weights, path)
    with pytest.raises(
        InputError, match=r"missing: features.0.1.bias; unexpected: stranger; of another shape: features.0.0.weight is \(8, 1, 3, 3\)"
    ):
        EfficientNetEncoder(image(16), width_coefficient=0.25, pretrained=path)


def test_a_missing_or_broken_file_of_weights(tmp_path):
    with pytest.raises(InputError, match="no pre-trained weights"):
        ResNetEncoder(image(16), pretrained=str(tmp_path / "none.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"no such thing")
    with pytest.raises(InputError, match="no safetensors file"):
        ResNetEncoder(image(16), pretrained=str(tmp_path / "broken.safetensors"))


def test_an_image_encoder_takes_one_image():
    number = InputSpec("age", Kind.NUMBER, ("age",), (1,), "float32")
    with pytest.raises(InputError, match="'age' is of kind 'number'"):
        CnnEncoder({"age": number})
    with pytest.raises(InputError, match="2 inputs"):
        CnnEncoder({"age": number, **image(8)})
    with pytest.raises(InputError, match="shape"):
        CnnEncoder({"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (8, 8), "float32")})

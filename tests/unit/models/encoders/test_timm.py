from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, MissingExtraError, UnknownNameError
from deepseek.fields import Kind
from deepseek.models.encoders import image_timm
from deepseek.models.encoders.image_timm import TimmEncoder, image_standard


def photo(channels=3):
    return {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (channels, 32, 32), "float32")}


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises((MissingExtraError, InputError), match="timm"):
        TimmEncoder(photo(), architecture="test_resnet")


def test_a_broken_torchvision_is_told():
    error = image_timm._broken(RuntimeError("operator torchvision::nms does not exist"))
    assert "torchvision::nms" in str(error)
    assert "torchvision" in (error.hint or "")


def test_weights_and_the_images_it_wants_come_from_the_checkpoint(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    reference = timm.create_model("test_resnet", pretrained=False).eval()
    timm.models.save_for_hf(reference, tmp_path, safe_serialization=True)
    encoder = TimmEncoder(photo(), architecture="test_resnet", pretrained=str(tmp_path)).eval()
    x = torch.randn(2, 3, 32, 32)
    wanted = reference.forward_head(reference.forward_features(x), pre_logits=True)
    torch.testing.assert_close(encoder({"photo": x}).tokens[:, 0], wanted)
    assert image_standard("test_resnet", str(tmp_path)) == {
        "size": list(reference.pretrained_cfg["input_size"][1:]),
        "channels": 3,
        "mean": list(reference.pretrained_cfg["mean"]),
        "std": list(reference.pretrained_cfg["std"]),
    }
    with pytest.raises(InputError, match="trained on colour images"):
        TimmEncoder(photo(1), architecture="test_resnet", pretrained=str(tmp_path))
    with pytest.raises(UnknownNameError):
        TimmEncoder(photo(), architecture="test_resnett")
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="a format that can run code"):
        TimmEncoder(photo(), architecture="test_resnet", pretrained=str(tmp_path))
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="do not fit"):
        TimmEncoder(photo(), architecture="test_resnet", pretrained=str(tmp_path / "other.safetensors"))

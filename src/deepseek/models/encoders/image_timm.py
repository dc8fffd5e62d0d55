"""Any image network of the library timm, by name, with its public weights or without.

Legend of shapes: `b` rows · `c` channels · `h`, `w` height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deepseek.data.checkpoints import checkpoint_folder, read_checkpoint_config, weight_files
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, MissingExtraError, UnknownNameError
from deepseek.models.base import Encoded
from deepseek.models.blocks import Block, blocks_of
from deepseek.models.encoders.image import ImageEncoder, load_weights
from deepseek.models.layers import Probability


class TimmEncoder(ImageEncoder):
    """Turns an image into the pooled features of one of timm's networks: ResNets, ConvNeXts, Vision Transformers and some thousand others.

    Source: Wightman, "PyTorch Image Models", 2019, https://github.com/huggingface/pytorch-image-models.

    Args:
        architecture: The network's name in timm, such as `resnet50` or `convnext_tiny.fb_in22k`.
        pretrained: Where its weights come from: a safetensors file, a folder with `config.json` and safetensors, `owner/name` on the
            Hugging Face Hub, or true for the weights that timm itself names; random ones where not given. The network's own size, mean
            and spread of images go to the transform `image` then.
        dropout: The share of the pooled values that are dropped, in [0, 1).

    Raises:
        InputError: The weights are not there, do not fit, are pickled, or are of colour images and the input is grey.
        UnknownNameError: timm has no such network.
        MissingExtraError: timm, or the torchvision that it needs, cannot be imported.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        architecture: str,
        pretrained: str | bool | None = None,
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__(inputs)
        (spec,) = inputs.values()
        self.network: Any = _made(architecture, channels=self.channels, size=spec.shape[1:])
        made: Any = self.network
        self.width = int(getattr(made, "head_hidden_size", None) or made.num_features)
        self.strides = tuple(int(info["reduction"]) for info in getattr(made, "feature_info", ()))
        self.dropout = nn.Dropout(dropout)
        if pretrained:
            self.checkpoint = architecture if pretrained is True else pretrained
            if self.channels != 3:
                raise InputError(
                    f"{self.checkpoint!r} was trained on colour images, and {self.input_name!r} has {self.channels} channel",
                    hint=f"data.transforms.{self.input_name}.channels: 3",
                )
            load_weights(self.network, str(weights_of(architecture, pretrained)), classifier=_classifier(self.network))

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, width]`, pooled as the network itself pools."""
        x = inputs[self.input_name]
        # not every network of the library bears a batch without rows
        token: Tensor = self.dropout(self.network(x)) if x.shape[0] else x.new_zeros(0, self.width)
        return Encoded(token.unsqueeze(1))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps of an image `[b, c, h, w]`, one for each of `strides`."""
        network: Any = self.network
        maps: list[Tensor] = network.forward_intermediates(x, intermediates_only=True)
        return maps

    def tuning_blocks(self) -> list[Block]:
        """Return the network's stem and blocks."""
        return blocks_of(self.network)


def weights_of(architecture: str, pretrained: str | bool) -> Path:
    """Return the safetensors file that a network's weights are read from.

    Args:
        architecture: The network's name in timm.
        pretrained: A file, a folder, an id on the Hub, or true for what timm names.

    Raises:
        InputError: There is none, or only a pickled one.
    """
    if isinstance(pretrained, str) and Path(pretrained).is_file():
        return Path(pretrained)
    files = weight_files(checkpoint_folder(_source(architecture, pretrained)))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"the checkpoint of {architecture!r} has several files of weights: {names}", hint="give the path of one")
    return files[0]


def image_standard(architecture: str, pretrained: str | bool) -> dict[str, Any]:
    """Return how a pre-trained network wants its images: `size`, `mean` and `std` (parts of full brightness), and three channels.

    Args:
        architecture: The network's name in timm.
        pretrained: As for `TimmEncoder`.
    """
    known = _library().get_pretrained_cfg(architecture)
    given = known.to_dict() if known is not None else {}
    folder = Path(pretrained) if isinstance(pretrained, str) else None
    if folder is None or not folder.is_file():
        config = read_checkpoint_config(checkpoint_folder(_source(architecture, pretrained)))
        given = {**given, **config.get("pretrained_cfg", {})}
    size, mean, std = given.get("input_size", (3, 224, 224)), given.get("mean"), given.get("std")
    return {"size": list(size[1:]), "channels": 3, "mean": list(mean or ()) or None, "std": list(std or ()) or None}


def _source(architecture: str, pretrained: str | bool) -> str:
    if isinstance(pretrained, str):
        return pretrained
    known = _library().get_pretrained_cfg(architecture)
    if known is None or not known.hf_hub_id:
        raise InputError(f"timm names no weights on the Hub for {architecture!r}", hint="say where they are: pretrained: PATH")
    return str(known.hf_hub_id)


def _made(architecture: str, *, channels: int, size: tuple[int, ...]) -> nn.Module:
    timm = _library()
    if not timm.is_model(architecture):
        raise UnknownNameError("network of timm", architecture, timm.list_models())
    known = timm.get_pretrained_cfg(architecture)
    sized = {"img_size": tuple(size)} if known is not None and known.fixed_input_size else {}
    network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, in_chans=channels, **sized)
    return network


def _classifier(network: Any) -> tuple[str, ...]:
    named = network.pretrained_cfg.get("classifier") or ()
    return tuple(f"{name}.{part}" for name in ([named] if isinstance(named, str) else named) for part in ("weight", "bias"))


def _library() -> Any:
    try:
        import timm
    except ImportError as error:
        if error.name == "timm":
            raise MissingExtraError("timm", "vision", "the encoder image_timm") from error
        raise _broken(error) from error
    except (RuntimeError, OSError) as error:
        raise _broken(error) from error
    return timm


def _broken(error: Exception) -> InputError:
    return InputError(
        f"timm is installed and cannot be imported: {error}",
        hint="it needs a torchvision that was built for this PyTorch: pip install --force-reinstall torchvision, from where PyTorch came",
    )

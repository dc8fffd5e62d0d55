"""What all encoders of images share: one input, feature maps, pooling, public weights.

Legend of shapes: `b` rows · `c` channels · `h`, `w` height and width in pixels.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder

_LOG = logging.getLogger(__name__)


class ImageEncoder(Encoder):
    """Turns one image into one token: the mean over the places of its last feature map, with dropout where a subclass sets it.

    The image comes as float `[b, c, h, w]`: its graph transform has scaled the stored bytes and put the channels first.

    Args:
        inputs: One input of kind `image`, whose shape is `(c, h, w)`.

    Attributes:
        strides: By how much each of `maps` is smaller than the image.
    """

    strides: tuple[int, ...]

    def __init__(self, inputs: Mapping[str, InputSpec], /) -> None:
        super().__init__(inputs)
        if len(inputs) != 1:
            raise InputError(f"an encoder of images is given {len(inputs)} inputs: {', '.join(inputs)}", hint="it takes one")
        (spec,) = inputs.values()
        if spec.kind is not Kind.IMAGE:
            raise InputError(f"the input {spec.name!r} is of kind {spec.kind.value!r}", hint="this encoder takes images")
        if len(spec.shape) != 3:
            raise InputError(f"the image {spec.name!r} has rows of shape {spec.shape}", hint="an image is (channels, height, width)")
        self.input_name = spec.name
        self.channels, self.side, self.size = spec.shape[0], min(spec.shape[1:]), spec.shape[1:]
        self.dropout = nn.Dropout(0.0)

    @abstractmethod
    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps `[b, channels, h/stride, w/stride]` of an image `[b, c, h, w]`, one for each of `strides`."""

    def pool(self, last: Tensor) -> Tensor:
        """Turn the last map `[b, width, h, w]` into `[b, width]`."""
        return last.mean(dim=(2, 3))

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, width]`."""
        token: Tensor = self.dropout(self.pool(self.maps(inputs[self.input_name])[-1]))
        return Encoded(token.unsqueeze(1))


def load_weights(module: nn.Module, path: str, *, classifier: tuple[str, ...]) -> None:
    """Load public weights, all of them or none.

    Args:
        module: What takes the weights.
        path: A safetensors file.
        classifier: Names in the file that belong to the old decision layer, which an encoder has no place for; left out, and logged.

    Raises:
        InputError: The file is not there or no safetensors file, or a key is missing, unexpected or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise InputError(f"there are no pre-trained weights at {path!r}", hint="give the path of a safetensors file")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path!r} is no safetensors file: {error}") from error
    left_out = sorted(name for name in weights if name in classifier)
    weights = {name: tensor for name, tensor in weights.items() if name not in classifier}
    own = module.state_dict()
    problems = _differences(own, weights)
    if problems:
        raise InputError(
            f"the weights in {path!r} do not fit: {'; '.join(problems)}", hint="depth, stem and channels must be those of the file"
        )
    module.load_state_dict({name: weights.get(name, tensor) for name, tensor in own.items()})
    _LOG.info("loaded %d tensors from %s; left out the old decision layer: %s", len(weights), path, ", ".join(left_out) or "none")


def _differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    # Files written before PyTorch 0.4.1 do not count batches; that number is used by no computation of ours.
    missing = sorted(name for name in own if name not in given and not name.endswith("num_batches_tracked"))
    unexpected = sorted(name for name in given if name not in own)
    other = [name for name in own if name in given and own[name].shape != given[name].shape]
    wrong = [f"{name} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}" for name in other]
    named = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
    return [f"{what}: {', '.join(names)}" for what, names in named if names]


def init_convolutions(module: nn.Module) -> None:
    """Give convolutions He's normal weights (fan out) and normalisations ones and zeros.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, https://arxiv.org/abs/1502.01852.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)

"""Pre-trained Transformers for texts: any encoder that the library Transformers can load from a checkpoint.

Legend of shapes: `b` rows · `l` tokens of the longest text · `w` width.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deepseek.data.checkpoints import checkpoint_folder, read_checkpoint_config, weight_files
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, MissingExtraError
from deepseek.models.base import Encoded
from deepseek.models.blocks import Block, blocks_of
from deepseek.models.encoders.text import Pooling, TextEncoder, make_pooling, pooled
from deepseek.models.layers import Probability, QuickDropout

_LOG = logging.getLogger(__name__)
_OF_THE_FILE = ("_name_or_path", "transformers_version", "auto_map", "torch_dtype", "dtype")
"""Keys of a configuration that say where it was made, not what it is."""


class PretrainedTextEncoder(TextEncoder):
    """Turns a text into the states of a pre-trained Transformer's last layer, pooled into one vector.

    The text has to come from the transform `text_pretrained` with the same checkpoint: ids mean what its tokenizer says. Weights are read
    from safetensors alone and turned to float32; no code that comes with a checkpoint is run. Its own decision layers (a language model's
    head, a pooler) are left out.

    Sources: Devlin et al., "BERT", 2019, https://arxiv.org/abs/1810.04805; mean pooling, Reimers and Gurevych, "Sentence-BERT", 2019,
    https://arxiv.org/abs/1908.10084.

    Args:
        pretrained: The checkpoint: a folder, or `owner/name` on the Hugging Face Hub, with `@revision` for one of its versions.
        pool: How the tokens become one vector: `mean`, `first` (BERT's `[CLS]`), `max`, `attention`, or `none` for all of them.
        dropout: The share of the pooled values that are dropped, in [0, 1); inside, the checkpoint's own shares hold.
        config: The network's own configuration, where its weights come from elsewhere: in a bundle, from the bundle.

    Raises:
        InputError: There is no such checkpoint, it holds only pickled weights, weights are missing, it is no encoder, or the ids of the
            input are not its tokenizer's.
        MissingExtraError: Transformers is not installed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        pretrained: str | None = None,
        pool: Pooling = "mean",
        dropout: Probability = 0.1,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(inputs)
        if pretrained is None and config is None:
            raise InputError("a pre-trained encoder of texts is given no checkpoint", hint="say which: pretrained: owner/name, or a folder")
        self.network: nn.Module = _loaded(pretrained) if pretrained is not None else _untrained(config or {})
        known: Any = self.network.config
        self.checkpoint = pretrained
        self.config = portable_config(self.network)
        if self.vocabulary_size != known.vocab_size:
            raise InputError(
                f"the texts {self.input_name!r} come as ids of {self.vocabulary_size} kinds, and {pretrained or 'the network'} knows "
                f"{known.vocab_size}",
                hint=f"cut them with its own tokenizer: data.transforms.{self.input_name}: {{type: text_pretrained, pretrained: …}}",
            )
        self._taken = _taken(self.network)
        self.padding = int(getattr(known, "pad_token_id", None) or 0)
        self.width = int(known.hidden_size)
        self.pooling = make_pooling(self.width, pool)
        self.dropout = QuickDropout(dropout)
        self.tokens = None if pool == "none" else 1

    def read(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the ids `[b, l]`, the checkpoint's padding behind each row's end, and the mask `[b, l]`."""
        ids = inputs[self.input_name]
        mask = inputs.get(self.mask_name, torch.ones_like(ids, dtype=torch.bool))
        mask = mask | (torch.arange(ids.shape[1], device=ids.device) == 0)
        return ids.masked_fill(~mask, self.padding).long(), mask

    def present(self, inputs: Mapping[str, Tensor]) -> None:
        """Say that all rows have a text: a missing one is read as an empty one, for which a checkpoint has its own tokens."""

    def encode(self, ids: Tensor, mask: Tensor) -> Encoded:
        """Return `[b, 1, width]`, or `[b, l, width]` where nothing is pooled."""
        if not ids.shape[0]:  # not every network of the library bears a batch without rows
            return Encoded(torch.zeros(0, self.tokens or ids.shape[1], self.width, device=ids.device))
        # what the library would cut from tables as long as its longest text would tie an exported graph to that length
        more = {"token_type_ids": torch.zeros_like(ids), "position_ids": torch.arange(ids.shape[1], device=ids.device)[None]}
        given = {name: value for name, value in more.items() if name in self._taken}
        states: Tensor = self.network(input_ids=ids, attention_mask=mask, **given).last_hidden_state
        encoded = pooled(self.pooling, states, mask)
        return Encoded(self.dropout(encoded.tokens), encoded.mask)

    def tuning_blocks(self) -> list[Block]:
        """Return the embeddings and each layer of the Transformer; a pooling that learns is new."""
        return blocks_of(self.network)

    def standing_alone(self) -> dict[str, Any]:
        """Return the network's configuration."""
        return {"config": self.config}


def portable_config(network: nn.Module) -> dict[str, Any]:
    """Return a Transformers network's configuration as plain JSON values, without what says where it was made."""
    config: Any = network.config
    value: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: part for key, part in value.items() if key not in _OF_THE_FILE}


def _taken(network: nn.Module) -> frozenset[str]:
    """Return which further inputs a network takes; places are left to those that count them from behind the padding id themselves."""
    taken = set(inspect.signature(network.forward).parameters) & {"token_type_ids", "position_ids"}
    embeddings = getattr(network, "embeddings", None)
    return frozenset(taken - ({"position_ids"} if hasattr(embeddings, "create_position_ids_from_inputs_embeds") else set()))


def _loaded(name: str) -> nn.Module:
    """Return a checkpoint's network with its weights, all of them there."""
    folder = checkpoint_folder(name)
    weight_files(folder)
    _require_encoder(read_checkpoint_config(folder), name)
    transformers = _library()
    with _hushed():
        try:
            network, told = transformers.AutoModel.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"the checkpoint {name!r} cannot be loaded: {error}", hint="it must be one that AutoModel can load") from error
    network = _without_pooler(network)
    wanted = {key for key, _ in network.named_parameters()}
    missing = sorted(wanted & set(told["missing_keys"]))
    if missing or told.get("mismatched_keys"):
        raise InputError(
            f"the checkpoint {name!r} has no weights for {', '.join(missing) or told['mismatched_keys']}",
            hint="its config.json is of another network than its weights",
        )
    left_out = sorted(told.get("unexpected_keys", ()))
    _LOG.info("loaded %d tensors of %s; left out: %s", len(wanted), name, ", ".join(left_out) or "none")
    return network


def _untrained(config: Mapping[str, Any]) -> nn.Module:
    """Return a network by its configuration, its weights drawn."""
    transformers = _library()
    plain = {key: value for key, value in config.items() if key != "model_type"}
    try:
        with _hushed():
            return _without_pooler(transformers.AutoModel.from_config(transformers.AutoConfig.for_model(config.get("model_type"), **plain)))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"a network cannot be made of its configuration: {error}", hint="another version of transformers wrote it"
        ) from error


def _require_encoder(config: Mapping[str, Any], name: str) -> None:
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"{name!r} reads and writes: an encoder and a decoder", hint="take a network that only reads, as BERT and its kin do"
        )


def _without_pooler(network: Any) -> nn.Module:
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    network.config.use_cache = False
    made: nn.Module = network
    return made


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "text", "a pre-trained encoder of texts") from error
    return transformers


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the library's bars and advice out of the log, and leave its switches as they were."""
    from transformers.utils import logging

    told: Any = logging
    level, bars = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity_error()
    told.disable_progress_bar()
    try:
        yield
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()

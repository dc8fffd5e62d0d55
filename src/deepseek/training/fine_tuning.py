"""Fine-tuning: which pre-trained blocks train, since when, and how fast; and adapters in their place.

A network's pre-trained encoders come in blocks from the input upwards (`Encoder.tuning_blocks`); everything else, the head, is new and
always trains. What trains in an epoch is a function of the epoch's number alone, so that a resumed run trains what the uninterrupted one
would.

Sources: gradual unfreezing, Howard and Ruder, "ULMFiT", 2018, https://arxiv.org/abs/1801.06146; layer-wise decay of the learning rate,
Clark et al., "ELECTRA", 2020, https://arxiv.org/abs/2003.10555; adapters, see `deepseek.models.adapters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deepseek import progress
from deepseek.errors import InputError
from deepseek.models.adapters import AdapterSettings, adapter_parameters, add_adapters, merge_adapters, save_adapters
from deepseek.models.base import Encoder
from deepseek.models.blocks import Block
from deepseek.models.network import parameter_count
from deepseek.training.state import Json

ADAPTERS_FILE = "adapters.safetensors"


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """How pre-trained encoders are trained.

    Attributes:
        freeze: Which blocks stay as they are: `none`, `all`, or all but the last so many.
        unfreeze_every: Epochs after each of which one more block trains, from the top; none for no change.
        layer_decay: What the learning rate is multiplied by from each block to the one below it, in (0, 1]; the top block has it once.
        head_rate: What the learning rate of everything that is not pre-trained is multiplied by, over 0.
        adapters: Adapters that train in the place of the encoders' own weights; none for none.
        keep_adapters: Whether the adapters are written to the run's folder by themselves before they are merged.
    """

    freeze: Literal["none", "all"] | int = "none"
    unfreeze_every: int | None = None
    layer_decay: float = 1.0
    head_rate: float = 1.0
    adapters: AdapterSettings | None = None
    keep_adapters: bool = False

    def __post_init__(self) -> None:
        if self.freeze not in ("none", "all") and not (isinstance(self.freeze, int) and self.freeze >= 1):
            raise InputError(f"freeze is {self.freeze!r}", hint="allowed: 'none', 'all', or how many of the last blocks train")
        if not 0 < self.layer_decay <= 1 or self.head_rate <= 0:
            raise InputError(
                f"layer_decay is {self.layer_decay}, head_rate {self.head_rate}", hint="layer_decay is in (0, 1], head_rate over 0"
            )
        if self.unfreeze_every is not None and (self.unfreeze_every < 1 or self.freeze == "none"):
            raise InputError(
                f"unfreeze_every is {self.unfreeze_every} with freeze {self.freeze!r}", hint="freeze blocks first; then 1 or more epochs"
            )
        if self.adapters is not None and self.freeze != "none":
            raise InputError(
                "adapters and freeze are both given", hint="with adapters all pre-trained weights are frozen: leave freeze out"
            )


class FineTuning:
    """Fine-tuning at work on a model: freezes, unfreezes, says how fast what trains.

    Args:
        model: The model; adapters are put on it now, and what is to be frozen at the start is.
        settings: How.

    Raises:
        InputError: Nothing of the model is pre-trained.
    """

    def __init__(self, model: nn.Module, settings: FineTune) -> None:
        self.model, self.settings = model, settings
        self._encoders = {name: part for name, part in model.named_modules() if isinstance(part, Encoder) and part.checkpoint is not None}
        if not self._encoders:
            raise InputError(
                "there is nothing to fine-tune: no encoder of the model is pre-trained",
                hint="name a checkpoint, as model.pretrained for example, or leave fine_tune out",
            )
        self._adapted: list[str] = []
        if settings.adapters is not None:
            self._adapted = add_adapters(model, settings.adapters, within=[_Blocks(part) for part in self._encoders.values()])
        self._blocks: dict[str, list[Block]] = {name: part.tuning_blocks() for name, part in self._encoders.items()}
        self._own = {id(parameter) for parameter in adapter_parameters(model)}
        self.set_epoch(0)

    @property
    def changes(self) -> bool:
        """Whether what trains changes from epoch to epoch."""
        return self.settings.unfreeze_every is not None

    def set_epoch(self, epoch: int) -> bool:
        """Freeze and unfreeze as it is to be in an epoch, counted from 0; return whether anything changed."""
        changed = False
        for blocks in self._blocks.values():
            frozen = len(blocks) - self._trained(len(blocks), epoch)
            for place, block in enumerate(blocks):
                for parameter in block.parameters:
                    wanted = id(parameter) in self._own if self._adapted else place >= frozen
                    changed |= parameter.requires_grad != wanted
                    parameter.requires_grad_(wanted)
        return changed

    def keep_statistics(self) -> None:
        """Put frozen batch normalisations into evaluation: statistics that moved would change what is frozen."""
        for encoder in self._encoders.values():
            still = not any(parameter.requires_grad for parameter in encoder.parameters())
            for module in encoder.modules():
                if isinstance(module, _BatchNorm):
                    own = [*module.parameters()]
                    if still or (own and not any(parameter.requires_grad for parameter in own)):
                        module.eval()

    def factors(self) -> dict[nn.Parameter, float]:
        """Return what each parameter's learning rate is multiplied by."""
        decay = self.settings.layer_decay
        factors = dict.fromkeys(self.model.parameters(), self.settings.head_rate)
        for blocks in self._blocks.values():
            for height, block in enumerate(reversed(blocks)):
                factors |= dict.fromkeys(block.parameters, decay ** (height + 1))
        return factors

    def groups(self, learning_rate: float) -> list[Json]:
        """Return what trains, from the head downwards: name, parameters, those that train, peak learning rate, and since when.

        Args:
            learning_rate: The optimizer's peak rate.
        """
        inside = {parameter for blocks in self._blocks.values() for block in blocks for parameter in block.parameters}
        head = sum(parameter.numel() for parameter in self.model.parameters() if parameter not in inside)
        groups = [_group("head", head, head, learning_rate * self.settings.head_rate, "the first epoch")]
        for name, blocks in self._blocks.items():
            for height, block in enumerate(reversed(blocks)):
                whole = sum(parameter.numel() for parameter in block.parameters)
                own = sum(parameter.numel() for parameter in block.parameters if id(parameter) in self._own) if self._adapted else whole
                since = "the first epoch" if self._adapted and own else self._since(height, len(blocks))
                rate = learning_rate * self.settings.layer_decay ** (height + 1)
                where = f"{name}: {block.names[0] or 'its own'}{' …' if len(block.names) > 1 else ''}"
                groups.append(_group(where, whole, own if since else 0, rate, since))
        return groups

    def tell(self, groups: list[Json]) -> None:
        """Log what trains."""
        for group in groups:
            when = f"trains from {group['since']} on" if group["since"] else "frozen"
            rate = f", rate {group['learning_rate']:.3g}" if group["since"] else ""
            progress.log(f"{group['name']}: {group['trained']:,} of {group['parameters']:,} parameters{rate}, {when}")
        if self._adapted:
            share = parameter_count(self.model, trainable=True) / max(parameter_count(self.model), 1)
            progress.log(f"adapters on {len(self._adapted)} layers: {share:.1%} of all parameters train")

    def finish(self, folder: Path | None) -> None:
        """Merge adapters into the weights; the model is then the plain one.

        Args:
            folder: Where the adapters are to be written by themselves before that; none for nowhere.
        """
        if self.settings.adapters is None:
            return
        if folder is not None and self.settings.keep_adapters:
            save_adapters(self.model, folder / ADAPTERS_FILE, self.settings.adapters)
        merge_adapters(self.model)

    def _trained(self, count: int, epoch: int) -> int:
        """Return how many of so many blocks train in an epoch."""
        freeze, every = self.settings.freeze, self.settings.unfreeze_every
        start = count if freeze == "none" else 0 if freeze == "all" else min(int(freeze), count)
        return min(start + (epoch // every if every else 0), count)

    def _since(self, height: int, count: int) -> str | None:
        """Return from which epoch on a block trains, the top one being 0 high; nothing where it never does."""
        start, every = self._trained(count, 0), self.settings.unfreeze_every
        if self._adapted or (height >= start and every is None):
            return None
        return "the first epoch" if height < start else f"epoch {(height - start + 1) * (every or 0) + 1}"


class _Blocks(nn.Module):
    """The modules of an encoder that are pre-trained.

    Args:
        encoder: The encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        known = {parameter for block in encoder.tuning_blocks() for parameter in block.parameters}
        owners = [module for module in encoder.modules() if any(own in known for own in module.parameters(recurse=False))]
        self.owners = nn.ModuleList(owners)


def _group(name: str, parameters: int, trained: int, learning_rate: float, since: str | None) -> Json:
    return {"name": name, "parameters": parameters, "trained": trained, "learning_rate": learning_rate, "since": since}


def measured_groups(decisions: Mapping[str, object]) -> list[Json]:
    """Return the groups that a finished run's decisions hold; none where it fine-tuned nothing.

    Args:
        decisions: What the run measured and decided.
    """
    groups = decisions.get("fine_tune")
    return list(groups) if isinstance(groups, list) else []

"""The section `fine_tune`: which pre-trained weights train, since when, and how fast."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from deepseek.recipe.quantities import Flag, Number
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import Count, Positive, Text


class AllButLastSection(Section):
    """Which blocks are frozen, counted from the top."""

    all_but_last: Count
    """How many of the last blocks train from the first epoch on; all below are frozen."""


class AdaptersSection(Section):
    """Small matrices beside the pre-trained weights, which train in their place and are merged into them in the end."""

    method: Literal["lora", "dora"] = "lora"
    """`lora`, or `dora`, which learns the length of each output's weights apart from their direction."""
    rank: Count = 8
    """Rank of the change that an adapter can make to a weight."""
    alpha: Positive = 16.0
    """The change is multiplied by `alpha / rank`."""
    dropout: Annotated[Number, Ge(0), Lt(1)] = 0.0
    """Share of an adapter's inputs that are dropped while training."""
    layers: list[Text] = []
    """Patterns of names of the layers that get one (`query`, `encoder.layer.1?.*`); all linear layers and convolutions where none is
    given."""
    keep: Flag = False
    """Whether the adapters are also kept by themselves, as `adapters.safetensors` in the run's folder."""


class FineTuneSection(Section):
    """How the pre-trained parts of the network are trained."""

    freeze: Literal["none", "all"] | AllButLastSection = "none"
    """Which pre-trained blocks are frozen at the start: `none`, `all`, or `{all_but_last: n}`."""
    unfreeze_every: Count | None = None
    """Epochs after each of which one more block begins to train, from the top (gradual unfreezing); never where not given."""
    layer_decay: Annotated[Number, Gt(0), Le(1)] = 1.0
    """What the learning rate is multiplied by from each block to the one below it."""
    head_rate: Positive = 1.0
    """What the learning rate of everything that is not pre-trained is multiplied by."""
    adapters: Literal["lora", "dora"] | AdaptersSection | None = None
    """Adapters that train in the place of the pre-trained weights: `lora`, `dora`, or how."""

    @property
    def adapters_section(self) -> AdaptersSection | None:
        """The adapters, with the defaults for the bare word; nothing where there are none."""
        return AdaptersSection(method=self.adapters) if isinstance(self.adapters, str) else self.adapters

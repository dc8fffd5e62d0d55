"""The section `cluster`: machines that train together."""

from __future__ import annotations

from typing import Literal

from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import Count, Text


class ClusterSection(Section):
    """Who starts the processes that train together."""

    type: Literal["ray"] = "ray"
    """The engine; `ray` runs every rank as an actor of a Ray cluster."""
    workers: Count = 2
    """How many ranks; they are the devices, and `train.devices` is left alone."""
    address: Text | None = None
    """The cluster: `auto` for the one that this machine belongs to, or `HOST:PORT`; null starts one on this machine and ends it."""

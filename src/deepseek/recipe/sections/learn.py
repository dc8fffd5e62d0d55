"""The section `learn`: how a model learns from a stream."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge

from deepseek.recipe.quantities import Duration, Flag, Integer
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import Count, DetectorSpec, OptimizerSpec, Text


class LiveSection(Section):
    """Learning from a live stream."""

    max_wait: Duration = 5.0
    """How long messages wait for others to fill a batch."""
    rows: Count | None = None
    """Rows after which learning ends; never where not given."""
    idle: Duration | None = None
    """Time without a message after which learning ends; never where not given."""


class LearnSection(Section):
    """How a model learns from a stream, by `deepseek learn`."""

    time: Text | None = None
    """A column of times that the stream's rows are put in order by; as they come where not given."""
    warmup: Count = 1_000
    """First rows, which the transforms are fitted on where there is no run to go on from; they are answered and counted like all others."""
    batch_rows: Count = 32
    """Rows that are answered, and then learned from, together."""
    optimizer: OptimizerSpec = {"type": "adam", "learning_rate": 1e-3}
    """How gradients become steps."""
    replay: Annotated[Integer, Ge(0)] = 64
    """Batches kept for rehearsal; each new one is learned together with one of them."""
    detectors: list[DetectorSpec] = [{"type": "adwin"}]
    """What looks for changes in the errors; the first one's alarms are acted on."""
    at_change: Literal["forget", "retrain", "nothing"] = "forget"
    """What an alarm does: drop what is rehearsed and the optimizer's memory, also begin anew once `recent` rows have come, or nothing."""
    recent: Count = 1_000
    """Rows that a model begins anew with, and that the bundle's reference is made of."""
    save_every: Count | None = None
    """Rows after which the bundle is written; only at the end where not given, or after 1,000 and with the state for a live stream."""
    live: Flag | LiveSection = False
    """Whether the source is a stream that is learned from as its messages come, or when that waits and ends."""

    @property
    def live_section(self) -> LiveSection | None:
        """When learning from a live stream waits and ends, with the defaults for the bare word; nothing where the source is a table."""
        if isinstance(self.live, LiveSection):
            return self.live
        return LiveSection() if self.live else None

"""A tag for each word.

Legend of shapes: `b` rows · `n` words · `c` tags.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deepseek.data.targets import TargetSpec
from deepseek.data.targets.tags import are_spans
from deepseek.tasks.base import MetricSpec
from deepseek.tasks.losses import widened
from deepseek.tasks.sequence import SequenceTask


class SequenceLabellingTask(SequenceTask):
    """Chooses a tag for each word of a row: names and other spans (`B-PER`, `I-PER`, `O` …), or parts of speech.

    Answers are each row's list of tags and, where the tags say spans, its list of spans.

    Args:
        metrics: The metrics beside the loss and the one that is looked at, which is `span_f1` where the tags say spans and
            `token_accuracy` where they do not; the usual ones where not given.
    """

    kind = "tags"
    monitor = "token_accuracy"
    usual_metrics = ("token_accuracy",)

    def __init__(self, target: TargetSpec, /, *, metrics: list[MetricSpec] | None = None) -> None:
        super().__init__(target)
        spans = are_spans(target.classes)
        if spans:
            self.monitor = "span_f1"  # type: ignore[misc]
        usual = ("span_f1", "token_accuracy") if spans else self.usual_metrics
        self._metrics = usual if metrics is None else metrics

    @property
    def outputs(self) -> int:
        """One for each tag."""
        return len(self.target.classes)

    def element_losses(self, out: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each word, float32 `[b, n]`, for `[b, n, c]` and codes int64 `[b, n]`."""
        return functional.cross_entropy(widened(out).transpose(1, 2), target.long(), reduction="none")

    def decode(self, out: Tensor) -> dict[str, Tensor]:
        """Return `probability`, float32 `[b, n, c]`."""
        return {"probability": widened(out).softmax(dim=-1)}

"""What the tasks of two and of several classes have in common: the loss, and what is done about unequal classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from deepseek.data.resample import Resample
from deepseek.data.targets import TargetSpec
from deepseek.registry import ArgumentsOf, Spec, family
from deepseek.tasks.base import MetricSpec, Task
from deepseek.tasks.imbalance import Imbalance, Probabilities
from deepseek.tasks.losses import Loss


class Classifier(Task):
    """Tells classes apart that exclude each other.

    Args:
        loss: The loss.
        class_weights: `balanced`, so that all classes weigh alike in sum; `effective`, by the effective number of rows, which spares
            frequent classes; or weights by class name; they multiply the rows' own weights.
        effective_beta: For `effective`: a further row of a class is new with this probability to the power of the rows before.
        resample: Draws every class equally often in training, without copying a row: `over` takes as many rows of each as the most frequent
            class has, `under` as the rarest, `balanced` as many in all as there are. Not together with weights that do the same.
        logit_adjustment: Adds this many times the classes' log-frequencies to the logits in the loss, so that rare classes get a margin
            (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314); 1 for equal errors.
        probabilities: All of these shift what is answered towards rare classes: `as_trained` leaves it so, which is what decisions by the
            likeliest class want; `of_data` takes the shift out again, so that of rows with probability 0.3 three in ten are of the class.
        metrics: The metrics beside the loss and the one that is looked at; the usual ones where not given.
    """

    def __init__(  # noqa: PLR0913 (its arguments are its settings)
        self,
        target: TargetSpec,
        loss: Spec,
        /,
        *,
        class_weights: Literal["balanced", "effective"] | dict[str, float] | None = None,
        effective_beta: Annotated[float, Ge(0.0), Lt(1.0)] = 0.999,
        resample: Resample | None = None,
        logit_adjustment: Annotated[float, Ge(0.0)] = 0.0,
        probabilities: Probabilities = "as_trained",
        metrics: list[MetricSpec] | None = None,
    ) -> None:
        super().__init__(target)
        self._loss: Loss = family("loss").build(loss, target)
        self.resample = resample
        self._imbalance = Imbalance(
            target,
            self._loss,
            weights=class_weights,
            beta=effective_beta,
            resample=resample,
            logit_adjustment=logit_adjustment,
            probabilities=probabilities,
        )
        self._class_weights = self._imbalance.weights
        self._metrics = self.usual_metrics if metrics is None else metrics


ClassifierArguments = Annotated[Any, ArgumentsOf(Classifier)]

"""The section `self_training`: how rows without a label are learned from."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, Le

from deepseek.recipe.quantities import Flag, Number
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import Count, NotNegative, OptionalModelSpec, Positive, Probability, SourceSpec, Text


class SelfTrainingSection(Section):
    """How rows without a label are learned from: the model labels those that it is sure of, and is trained again with them."""

    unlabelled: SourceSpec | None = None
    """Where rows without the target come from; the rows of `data.source` that have none where not given."""
    rounds: Count = 3
    """How often rows are labelled and a model is trained with them, after the first that is trained without."""
    choose: Literal["threshold", "curriculum", "top"] = "threshold"
    """Which rows are taken: the sure ones; the sure ones, of classes that are learned slowly also less sure ones (FlexMatch); or of each
    class the surest `share`, and as many more in every round (curriculum labelling)."""
    threshold: Probability | dict[Text, Probability] = 0.9
    """How likely the likeliest class of a row must be, as one number or by class (0.9 for those that are not named)."""
    share: Annotated[Number, Gt(0), Le(1)] = 0.2
    """With `choose: top`, the share of rows taken in the first round."""
    balance: Literal["training", "equal", "none"] = "training"
    """In what proportion classes are taken: as among the labelled training rows, alike, or as they come."""
    most: Count | None = None
    """Most rows taken in a round, the surest of each class; all where not given."""
    weight: Positive | Literal["confidence"] = 1.0
    """What such a row weighs beside a labelled one; `confidence` for the probability of its class."""
    soft: Flag = False
    """Whether they are learned with the probabilities of all classes instead of the likeliest class."""
    student: OptionalModelSpec = None
    """The network that is trained with them; that of the recipe where not given."""
    keep: Literal["surely_better", "better"] = "surely_better"
    """When a round is kept: if the 95 % interval of what it is better by on validation rows lies above `min_gain`, or if it is better at
    all."""
    min_gain: NotNegative = 0.0
    """By how much a round must be better on validation rows than the model that was trained without, in the metric's unit."""

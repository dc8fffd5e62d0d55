"""Class names in their order, and what classes weigh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from deepseek.data.targets.spec import TargetSpec
from deepseek.errors import InputError

NEGATIVE_WORDS = ("0", "false", "no", "n", "negative", "off", "none", "absent")
POSITIVE_WORDS = ("1", "true", "yes", "y", "positive", "on", "present")


def sort_classes(names: Mapping[str, int]) -> list[str]:
    """Return class names in their order: numbers by value, two usual words as no and yes, everything else as text.

    Example:
        >>> sort_classes({"10": 1, "9": 1}), sort_classes({"positive": 1, "Negative": 1})
        (['9', '10'], ['Negative', 'positive'])
    """
    if len(names) == 2:
        first, second = sorted(names)
        for negative, positive in ((first, second), (second, first)):
            if negative.strip().casefold() in NEGATIVE_WORDS and positive.strip().casefold() in POSITIVE_WORDS:
                return [negative, positive]
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names)


def class_weights(spec: TargetSpec, how: Literal["balanced", "effective"] | Mapping[str, float], *, beta: float = 0.999) -> np.ndarray:
    """Return one weight a class, float64 `[classes]`.

    Args:
        spec: A target of kind `binary` or `classes`.
        how: `balanced`, so that every class weighs alike in sum and the mean row weighs 1 (King and Zeng 2001,
            https://gking.harvard.edu/files/0s.pdf); `effective`, by the effective number of rows (Cui et al., "Class-balanced loss based on
            effective number of samples", CVPR 2019, https://arxiv.org/abs/1901.05555), which spares very frequent classes and the mean row
            weighs 1 likewise; or weights above or equal to 0 by class; classes that are not named weigh 1.
        beta: For `effective`, in [0, 1): a further row is thought to be new with this probability to the power of the rows before; 0 weighs
            all alike, near 1 it is `balanced`.

    Raises:
        InputError: The target has no classes, a name is none of them, or a weight is negative.
    """
    if spec.kind not in ("binary", "classes"):
        raise InputError(f"class weights are given for a target of kind {spec.kind!r}", hint="only binary and multiclass tasks have them")
    if isinstance(how, str):
        if how not in ("balanced", "effective"):
            raise InputError(f"class weights are {how!r}", hint="write balanced, effective, or a weight for each class")
        counts = np.array(spec.counts, dtype=np.float64)
        seen = counts if how == "balanced" else effective_number(counts, beta)
        return np.asarray(spec.rows / ((counts / seen).sum() * seen))
    weights = {str(name).lower() if isinstance(name, bool) else str(name): float(weight) for name, weight in how.items()}
    unknown = sorted(set(weights) - set(spec.classes))
    if unknown or any(not 0 <= weight < float("inf") for weight in weights.values()):
        raise InputError(
            f"class weights are {dict(how)!r}", hint=f"classes: {', '.join(spec.classes)}; weights are finite and not negative"
        )
    return np.array([weights.get(name, 1.0) for name in spec.classes])


def effective_number(counts: np.ndarray, beta: float) -> np.ndarray:
    """Return how many different rows so many rows are worth: `(1 - beta^n) / (1 - beta)`, float64 (Cui et al. 2019, proposition 1).

    Args:
        counts: How many rows, float64.
        beta: In [0, 1).
    """
    # expm1 and log1p keep the digits where beta is nearly 1
    return np.asarray(np.expm1(counts * np.log(beta)) / -np.float64(1.0 - beta)) if beta > 0 else np.minimum(counts, 1.0)

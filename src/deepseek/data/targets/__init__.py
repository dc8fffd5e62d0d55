"""Targets: what is to be predicted, as arrays; a kind of target a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from deepseek.data.targets.base import TargetTransform
from deepseek.data.targets.classes import class_weights, effective_number, sort_classes
from deepseek.data.targets.spec import PLAIN_KINDS, TargetSpec, require_plain
from deepseek.fields import Field, TargetKind
from deepseek.registry import Spec, family

__all__ = [
    "PLAIN_KINDS",
    "TargetKind",
    "TargetSpec",
    "TargetTransform",
    "build_target",
    "class_weights",
    "effective_number",
    "require_plain",
    "sort_classes",
]


def build_target(spec: Spec, fields: Sequence[Field]) -> TargetTransform:
    """Return the transform of a target, not fitted.

    Args:
        spec: The kind of target (`binary`, `classes`, `labels`, `values`, `mask` …), or a mapping with the `type` and its settings.
        fields: The target columns.

    Raises:
        UnknownNameError: There is no such kind.
        InputError: It takes other columns.

    Example:
        >>> import pyarrow as pa
        >>> from deepseek.fields import Kind
        >>> target = build_target("binary", [Field("churned", Kind.CATEGORY)])
        >>> target.observe(pa.record_batch({"churned": ["no", "yes", "no"]}))
        >>> target.finish()
        >>> target.spec.classes
        ('no', 'yes')
    """
    return cast(TargetTransform, family("target").build(spec, tuple(fields)))

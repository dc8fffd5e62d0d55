"""Tasks: head, loss, metrics and decoding of one kind of question in one file each."""

from __future__ import annotations

from deepseek.data.targets import TargetKind, TargetSpec

TASK_OF_KIND: dict[TargetKind, str] = {"binary": "binary", "classes": "multiclass", "labels": "multilabel", "values": "regression"}
"""The task for each kind of target."""


def choose_task(target: TargetSpec) -> str:
    """Return the name of the task for a target.

    Example:
        >>> choose_task(TargetSpec("values", ("price",)))
        'regression'
    """
    return TASK_OF_KIND[target.kind]

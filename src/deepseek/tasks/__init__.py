"""Tasks: head, loss, metrics and decoding of one kind of question in one file each."""

from __future__ import annotations

from deepseek.data.targets import TargetKind

TASK_OF_KIND: dict[TargetKind, str] = {
    "binary": "binary",
    "classes": "multiclass",
    "labels": "multilabel",
    "values": "regression",
    "tokens": "language_modelling",
    "tags": "sequence_labelling",
    "features": "embedding",
    "boxes": "detection",
    "mask": "segmentation",
}
"""The task for each kind of target."""

FORECASTING = "forecasting"
"""The task that answers windows with lists of steps."""

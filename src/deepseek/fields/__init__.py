"""Fields and schemas: what each column of a table is."""

from deepseek.fields.field import Field, Kind, Schema, parse_kind
from deepseek.fields.inference import (
    MANY,
    NAMES_NO_FILE,
    UNSPACED,
    Profile,
    TargetKind,
    infer_kind,
    infer_schema,
    profile,
    target_kind,
)
from deepseek.fields.leaks import leak_suspects

__all__ = [
    "MANY",
    "NAMES_NO_FILE",
    "UNSPACED",
    "Field",
    "Kind",
    "Profile",
    "Schema",
    "TargetKind",
    "infer_kind",
    "infer_schema",
    "leak_suspects",
    "parse_kind",
    "profile",
    "target_kind",
]

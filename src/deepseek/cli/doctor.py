"""`deepseek doctor`: what this machine and this installation can do."""

from __future__ import annotations

import deepseek
from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output, as_text


def doctor_verb(*, as_json: Json = False) -> Output:
    """Describe versions, hardware and libraries."""
    progress.quiet(as_json)
    value = deepseek.doctor()
    return Output(value, as_text(value))

"""Every optimizer, schedule and callback of the table can be built from its name."""

from __future__ import annotations

import pytest

from deepseek.components import FAMILIES
from deepseek.registry import family


@pytest.mark.parametrize("kind", ["optimizer", "schedule", "callback"])
def test_every_component_builds_and_documents_its_keys(kind):
    for name in FAMILIES[kind][1]:
        needed = {"time_limit": {"seconds": 1.0}, "trial": {"storage": "study.db", "study": "s", "number": 0}}.get(name, {})
        family(kind).build({"type": name, **needed})
        for key, field in family(kind).schema(name).model_fields.items():
            assert field.description, f"{name}.{key} has no help"

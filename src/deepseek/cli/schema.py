"""`deepseek schema`: the JSON Schema of recipes, for editors."""

from __future__ import annotations

import json

from deepseek import progress
from deepseek.cli.options import Json
from deepseek.cli.output import Output


def schema_verb(*, as_json: Json = False) -> Output:
    """Print the JSON Schema of recipes, for editors."""
    from deepseek.recipe import json_schema  # the recipe's types cost a third of a second, which `--help` need not wait for

    progress.quiet(as_json)
    value = json_schema()
    return Output(value, json.dumps(value, indent=2, ensure_ascii=False))

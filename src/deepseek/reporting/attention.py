"""The page of attention between senses: who looks at whom, on average and row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.reporting.charts.grids import Grid, heatmap
from deepseek.reporting.html import Html
from deepseek.reporting.page import Page, facts, paragraph, shortened

NOWHERE = "nowhere"
_NOTE = (
    "Each line says how what its sense looks at is shared among the others; it sums to 1. Nowhere is a learned place that says nothing. "
    "What is looked at is not yet what an answer hangs on: for that see the permutation importance in the report."
)


def between_chart(senses: Sequence[str], between: Sequence[Sequence[float] | None], *, title: str) -> Html:
    """Return the picture of attention between senses.

    Args:
        senses: Their names.
        between: For each sense how its looks are shared among all senses and nowhere; nothing for one that is missing.
        title: What is shown.
    """
    lines = [[math.nan] * (len(senses) + 1) if one is None else list(one) for one in between]
    return heatmap(Grid(lines, senses, [*senses, NOWHERE]), title=title, x_label="is looked at", y_label="looks")


def attention_page(found: Mapping[str, Any]) -> str:
    """Return the page as one HTML document.

    Args:
        found: What `deepseek.attention` returns.
    """
    page = Page(
        f"Attention of {found['run']}", subtitle="where the tokens of each sense look, in the last block, on average over its heads"
    )
    said = paragraph(_NOTE, quiet=True)
    page.section("Between senses", between_chart(found["senses"], found["between"], title=f"mean over {len(found['rows'])} rows"), said)
    for number, row in enumerate(found["rows"]):
        names = [token["name"] for token in row["tokens"]]
        tokens = heatmap(Grid(row["weights"], names, [*names, NOWHERE]), title="between tokens", x_label="is looked at", y_label="looks")
        values = facts([(name, shortened(str(value))) for name, value in row["values"].items()])
        page.section(f"Row {number}", values, between_chart(found["senses"], row["between"], title="between senses"), tokens)
    return page.render()

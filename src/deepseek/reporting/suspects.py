"""The page of suspect labels: how many there are thought to be, which classes are confused, and the rows, the surest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepseek.reporting.charts import Grid, heatmap
from deepseek.reporting.facts import Example
from deepseek.reporting.html import Html
from deepseek.reporting.numbers import percent
from deepseek.reporting.page import Page, Tile, Value, callout, card, cards, code, details, paragraph, picture, shortened, table, tiles

MOST_ROWS = 500
"""Suspects that the page lists; the file has all."""


@dataclass(frozen=True)
class SuspectLine:
    """A suspect as the page lists it: the row's number, the label that it bears, the suggested one, and the probabilities of both."""

    row: int
    given: str
    suggested: str
    own: float
    other: float


def suspects_page(facts: Mapping[str, Any], lines: Sequence[SuspectLine], examples: Sequence[Example] | None) -> str:
    """Return the page as one HTML document.

    Args:
        facts: What `suspects.json` holds.
        lines: The suspects, the surest first.
        examples: Some of them with their values and pictures; nothing where raw rows are not to be shown.
    """
    page = Page(f"Suspect labels of {facts['name']}", subtitle=f"{facts['target']} · confident learning, {facts['folds']} folds")
    page.section("Result", _tiles(facts), callout(_HOW, title="What is a suspect?"))
    page.section("Classes", *_classes(facts), note="Which labels are thought to stand for which: shares of the rows that bear a label.")
    page.section("What to do next", _next(facts))
    if examples is None:
        page.section("The surest", paragraph("Left out, as was asked for."))
    else:
        page.section("The surest", cards(_card(one) for one in examples), note="Raw rows of your data: mind who gets this file.")
    page.section("Suspects", _table(lines))
    return page.render()


_HOW = (
    "A training row whose label the others contradict: it was judged by a network that had not seen it, and another class reached the "
    "probability that its own rows have on average. Some are right, and hard. Test rows were neither judged nor used to judge."
)


def _tiles(facts: Mapping[str, Any]) -> Html:
    judged = max(facts["judged"], 1)
    made = [
        Tile("suspects", facts["suspects"], f"{percent(facts['suspects'] / judged)} of {facts['judged']:,} labels judged"),
        Tile("labels thought wrong", percent(facts["share"]), "estimated from the confident joint; hard rows raise it"),
        Tile("accuracy out of fold", percent(facts["accuracy"]), "of the labels as they came: wrong ones lower it"),
    ]
    if facts["not_judged"]:
        made.append(Tile("not judged", facts["not_judged"], "set aside, or of a class that no other fold has"))
    return tiles(made)


def _classes(facts: Mapping[str, Any]) -> list[Html]:
    rows = [
        [one["name"], one["rows"], one["suspects"], Value(percent(one["share"]), one["share"]) if one["share"] is not None else None]
        for one in facts["classes"]
    ]
    listed = table(["label", "rows", "suspects", "thought wrong"], rows, caption="Labels", sortable=True)
    if not facts["joint"]:
        return [listed]
    names = [one["name"] for one in facts["classes"]]
    chart = heatmap(
        Grid(facts["joint"], names, names), title="Labels by the class thought true", x_label="thought true", y_label="label", color="row"
    )
    return [listed, details("Confusion", chart, opened=len(names) <= 20)]


def _next(facts: Mapping[str, Any]) -> Html:
    recipe = f"data:\n  suspects: {{file: {facts['file']}, action: drop}}   # or relabel, or weigh"
    look = "Look the list through: take out lines of labels that are right, or write keep in a column action; mend what is suggested."
    return details("In a recipe", paragraph(look), code(recipe), opened=True)


def _card(one: Example) -> Html:
    pictures = [picture(content, "image/jpeg", description=f"{name} of row {one.row}", width=96) for name, content in one.pictures]
    raw = [(name, shortened(value)) for name, value in one.values[:40]]
    shown = details("Values", card("", raw), opened=len(raw) <= 3) if raw else Html()
    return card(f"row {one.row:,}", [("label", one.truth), ("suggested", one.answer)], *pictures, paragraph(one.measure, quiet=True), shown)


def _table(lines: Sequence[SuspectLine]) -> Html:
    rows = [[one.row, one.given, one.suggested, one.own, one.other] for one in lines[:MOST_ROWS]]
    caption = f"{len(lines):,} suspects, the surest first" + (f"; {MOST_ROWS} of them" if len(lines) > MOST_ROWS else "")
    return table(["row", "label", "suggested", "probability of the label", "of the suggestion"], rows, caption=caption, sortable=True)

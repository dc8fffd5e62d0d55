"""The part of a report that says who is in the rows, and how each group fares."""

from __future__ import annotations

from collections.abc import Sequence

from deepseek.reporting.facts import CoverageFacts, GroupFact
from deepseek.reporting.html import Html
from deepseek.reporting.numbers import number, percent
from deepseek.reporting.page import Value, callout, heading, paragraph, table

_MARKS = {"missing": "missing", "rare": "fewer than expected", "frequent": "more than expected"}


def coverage_section(coverage: Sequence[CoverageFacts]) -> list[Html]:
    """Return the groups of each column that was asked for, those that are surely worse first."""
    parts: list[Html] = []
    for one in coverage:
        parts += [heading(one.column), *_warnings(one), _groups(one), paragraph(_how(one), quiet=True)]
    return parts


def _warnings(one: CoverageFacts) -> list[Html]:
    worse = [group.name for group in one.groups if group.surely_worse]
    lacking = [group.name for group in one.groups if group.verdict in ("missing", "rare")]
    said = []
    if worse:
        said.append(callout(", ".join(worse), kind="warning", title="Surely worse than the others"))
    if lacking:
        said.append(callout(", ".join(lacking), kind="warning", title="Fewer training rows than expected"))
    return said


def _groups(one: CoverageFacts) -> Html:
    with_rate, with_share = bool(one.rate), any(group.expected is not None for group in one.groups)
    heads = [one.column, "training rows", "share", *(["expected", "verdict"] if with_share else [])]
    heads += [
        *([f"{one.rate}, 95 % interval"] if with_rate else []),
        "rows asked",
        f"{one.error}, 95 % interval",
        "other rows",
        "p, corrected",
    ]
    rows = [_row(group, with_rate=with_rate, with_share=with_share) for group in one.groups]
    return table(heads, rows, caption=f"Groups by {one.column}", sortable=True)


def _row(group: GroupFact, *, with_rate: bool, with_share: bool) -> list[object]:
    expected = [None if group.expected is None else Value(percent(group.expected), group.expected), _MARKS.get(group.verdict, "")]
    return [
        group.name,
        group.training,
        Value(percent(group.share), group.share),
        *(expected if with_share else []),
        *([_interval(group.rate)] if with_rate else []),
        group.looked_at,
        _interval(group.error),
        group.others if group.others == group.others else None,
        group.p_value,
    ]


def _interval(ends: tuple[float, float, float] | None) -> Value | None:
    return None if ends is None else Value(f"{number(ends[0])} ({number(ends[1])} to {number(ends[2])})", ends[0])


def _how(one: CoverageFacts) -> str:
    rest = f" {one.unlisted:,} training rows have other, rarer values." if one.unlisted else ""
    return (
        f"Groups of {one.least_rows} rows or more, with as many others, are tested; p-values are corrected for the groups of the column "
        f"(Holm). Of smaller ones the interval says how little is known.{rest}"
    )

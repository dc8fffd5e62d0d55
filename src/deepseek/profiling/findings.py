"""What in a profile a person should look at: short sentences, the gravest first, each with what can be done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Grade = Literal["high", "medium", "low"]
GRADES = ("high", "medium", "low")
CLOSE = 0.95
"""From which value on two columns say nearly the same."""

NEAR = 0.9
"""From which strength on a column that goes together with the target is worth a question."""

RARE = 0.25
"""A class with less than this part of an equal share of the rows is rare."""

_SURE = 0.01


def findings_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the findings of a profile: `grade` (high, medium, low), `column` (or nothing), `what` and `hint`."""
    found = [*_of_table(facts)]
    for column in facts["columns"]:
        found += _of_column(column, facts)
    if facts["target"]:
        found += _of_target(facts["target"])
    if facts["drift"]:
        found += _of_drift(facts["drift"])
    return sorted(found, key=lambda finding: GRADES.index(finding["grade"]))


def _finding(grade: Grade, column: str | None, what: str, hint: str) -> dict[str, Any]:
    return {"grade": grade, "column": column, "what": what, "hint": hint}


def _of_table(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rows, repeated = facts["rows"], facts["repeated_rows"]
    if facts["malformed"]:
        yield _finding("high", None, f"{facts['malformed']:,} records could not be parsed", "see what `data.max_rejected` allows")
    if repeated:
        grade: Grade = "medium" if repeated > 0.01 * rows else "low"
        what = f"{repeated:,} rows ({repeated / rows:.1%}) repeat an earlier row in every column"
        yield _finding(grade, None, what, "a row in training and in test is memory, not skill: clean: [duplicates], or the check unique")
    for pair in facts["pairs"]:
        if abs(pair["value"]) >= CLOSE:
            what = f"{pair['first']!r} and {pair['second']!r} say nearly the same: {pair['measure']} {pair['value']:.3f}"
            yield _finding("low", pair["second"], what, "one of them is enough: leave the other out with data.drop")


def _of_column(column: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    name, share = column["name"], column["missing_share"]
    is_target = bool(facts["target"]) and name == facts["target"]["column"]
    if column["missing"] == facts["rows"]:
        yield _finding("medium", name, "it is empty", "it will be left out")
        return
    if column["constant"] and not column["missing"]:
        yield _finding("medium", name, "every row has the same value", "nothing can be learned from it; it will be left out")
    elif column["id_like"] and not is_target:
        yield _finding(
            "low", name, f"it looks like an id: {column['reason']}", "ids are left out; say what it is under data.fields if not so"
        )
    if share > 0.3:
        yield _finding("medium" if share > 0.6 else "low", name, f"{share:.0%} of its values are missing", "does that mean something?")
    if column.get("unreadable"):
        why = next(iter(column.get("unreadable_why", ())), "")
        what = f"{column['unreadable']:,} values cannot be read as {column['kind']}{f', for example: {why}' if why else ''}"
        yield _finding("high", name, what, "correct them, or set them aside with a check")
    if column.get("blank"):
        yield _finding("low", name, f"{column['blank']:,} texts are blank", "a blank text says nothing")
    common = column.get("most_common") or []
    if common and not is_target and column["kind"] in {"category", "binary"} and 0.99 <= common[0]["share"] < 1:
        yield _finding("low", name, f"{common[0]['share']:.1%} of its values are {common[0]['value']!r}", "little can be learned from it")
    if abs(column.get("skew") or 0.0) > 5 and not is_target:
        median = column["quantiles"]["0.5"]
        what = f"it is very skewed ({column['skew']:.1f}): its median is {median:.4g}, its largest value {column['max']:.4g}"
        yield _finding("low", name, what, "transforms: {number: {type: number, scaling: quantile}} is robust to that")


def _of_target(target: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    name = target["column"]
    for leak in target["leaks"]:
        what = f"{leak['column']!r} may give the target away: {leak['reason']}"
        yield _finding("high", leak["column"], what, "will it be known when an answer is needed? leave it out with data.drop if not")
    known = {leak["column"] for leak in target["leaks"]}
    for entry in target["associations"]:
        if abs(entry["value"]) >= NEAR and entry["column"] not in known:
            what = f"{entry['column']!r} goes very closely together with the target: {entry['measure']} {entry['value']:.3f}"
            yield _finding("medium", entry["column"], what, "will it be known when an answer is needed? is it a part of the target?")
    if target["missing"]:
        yield _finding("medium", name, f"the target is missing in {target['missing']:,} rows", "they are not trained on")
    classes = target.get("classes") or []
    if classes and classes[-1]["share"] * len(classes) < RARE:
        few = classes[-1]
        grade: Grade = "medium" if few["rows"] < 100 else "low"
        what = f"only {few['rows']:,} rows ({few['share']:.1%}) are {few['value']!r}"
        yield _finding(grade, name, what, "accuracy says little here: look at auc or macro_f1; consider class_weights: balanced")
    for entry in target["missing_by_target"]:
        if entry["adjusted_p"] < _SURE and entry["column"] not in known and entry["missing"] > 0.01:
            what = f"{entry['column']!r} is missing more often for some targets than for others"
            yield _finding("low", entry["column"], what, "is it filled in before the target is known?")


def _of_drift(drift: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in drift["columns"]:
        verdict = entry["verdict"]
        if verdict == "none":
            continue
        grade: Grade = "high" if verdict in {"column missing", "type changed", "large drift"} else "low"
        if verdict in {"moderate drift", "new values", "missing values"}:
            grade = "medium"
        yield _finding(grade, entry["column"], f"{entry['column']!r}: {verdict}: {entry['why']}", f"compared with {drift['against']}")

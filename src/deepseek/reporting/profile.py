"""The page of a profile: what a table holds, what to look at, and what changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepseek.reporting.charts import Bar, Grid, bars, heatmap, histogram_of_counts
from deepseek.reporting.html import Html, element
from deepseek.reporting.numbers import number, percent
from deepseek.reporting.page import Page, Tile, Value, callout, charts, details, facts, heading, picture, table, tiles

Facts = Mapping[str, Any]

MATRIX_COLUMNS = 25
_DAY_US = 86_400_000_000
CHARTED_DRIFTS = 12
_KINDS: dict[str, Any] = {"high": "error", "medium": "warning", "low": "info"}


def profile_page(profile: Facts, *, pictures: Mapping[str, bytes] | None = None) -> str:
    """Return the page of a profile as one HTML document.

    Args:
        profile: What `deepseek.profile` returns.
        pictures: By column, some of its images on one sheet, as PNG.
    """
    page = Page(f"Profile of {profile['source']}", subtitle=_subtitle(profile))
    page.section("Overview", _overview(profile))
    page.section("What to look at", *_findings(profile["findings"]))
    if profile["drift"]:
        page.section("Drift", *_drift(profile["drift"]), note=_DRIFT_NOTE)
    if profile["target"]:
        page.section("Target", *_target(profile["target"], profile["columns"]))
    page.section("Columns", _summary(profile["columns"], profile["rows"]))
    page.section("Column by column", charts(*[_column(column, (pictures or {}).get(column["name"])) for column in profile["columns"]]))
    page.section("What goes together", *_pairs(profile["pairs"]), note=_PAIRS_NOTE)
    return page.render()


_PAIRS_NOTE = (
    "Two columns of numbers: Spearman's rank correlation (1 for any rising relation). Two columns of names: Cramér's V, corrected for the "
    "number of names. One of each: the correlation ratio. Texts count by their length."
)
_DRIFT_NOTE = (
    "A column is called drifted where a test says so, with probabilities adjusted for all columns (Benjamini and Hochberg, 5 %): one pair "
    "of tables in twenty without any drift raises any alarm. How much it drifted says the population stability index: from 0.1 moderate, "
    "from 0.25 large."
)


def _subtitle(profile: Facts) -> str:
    sampled = profile["sample_rows"] < profile["rows"]
    return f"quantiles, relations and tests from a sample of {profile['sample_rows']:,} rows" if sampled else "from all rows"


def _overview(profile: Facts) -> Html:
    columns = profile["columns"]
    cells = sum(column["missing"] for column in columns)
    kinds = [column["kind"] for column in columns]
    listed = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    share = cells / (profile["rows"] * len(columns))
    return tiles(
        [
            Tile("rows", profile["rows"], f"{profile['malformed']:,} could not be parsed" if profile["malformed"] else ""),
            Tile("columns", len(columns), listed),
            Tile("missing values", percent(share), f"{cells:,} of all"),
            Tile("repeated rows", profile["repeated_rows"], percent(profile["repeated_rows"] / profile["rows"])),
        ]
    )


def _findings(findings: Sequence[Facts]) -> list[Html]:
    if not findings:
        return [callout("Nothing stands out.", kind="good")]
    made = [_finding(finding) for finding in findings if finding["grade"] != "low"]
    rest = [_finding(finding) for finding in findings if finding["grade"] == "low"]
    return [*made, details(f"{len(rest)} smaller ones", *rest, opened=not made)] if rest else made


def _finding(finding: Facts) -> Html:
    column, what = finding["column"], finding["what"]
    title = what if not column or repr(column) in what else f"{column}: {what}"
    return callout(finding["hint"], kind=_KINDS[finding["grade"]], title=title)


def _summary(columns: Sequence[Facts], rows: int) -> Html:
    lines = []
    for column in columns:
        share = column["missing_share"]
        lines.append(
            [
                column["name"],
                column["kind"],
                Value(percent(share), share) if share else Value("0", 0.0),
                Value(f"{'' if column['distinct_exact'] else '≈ '}{column['distinct']:,}", column["distinct"]),
                in_short(column),
                column["reason"],
            ]
        )
    heads = ["column", "kind", "missing", "different", "in short", "why this kind"]
    return table(heads, lines, caption=f"{len(columns)} columns of {rows:,} rows", sortable=True)


def in_short(column: Facts) -> str:
    """Return what a column holds in a few words."""
    if column.get("quantiles"):
        low, half, high = column["min"], column["quantiles"]["0.5"], column["max"]
        return f"{number(low)} … {number(half)} … {number(high)}"
    if column.get("characters"):
        length = column["characters"]
        return f"{number(length['min'])} to {number(length['max'])} characters, {number(length['mean'], 3)} on average"
    if column.get("first"):
        return f"{column['first']} to {column['last']}"
    if column.get("sizes"):
        return ", ".join(item["value"] for item in column["sizes"][:3]) + " pixels"
    common = column.get("most_common") or []
    if column["id_like"]:
        return ", ".join(str(item["value"]) for item in common[:3]) + (" …" if common else "")
    return ", ".join(f"{item['value']} {percent(item['share'], 0)}" for item in common[:3])


def _column(column: Facts, sheet: bytes | None) -> Html:
    parts: list[Html] = []
    name = column["name"]
    if len((column.get("histogram") or {}).get("counts", ())) > 1 and not column["constant"]:
        parts.append(_histogram(column))
    common = column.get("most_common") or []
    if common and not column["id_like"]:
        caption = "counted in the sample" if column.get("of_sample") else ""
        parts.append(
            bars([Bar(str(item["value"]), item["share"]) for item in common], title="most common", as_percent=True, caption=caption)
        )
    if sheet:
        parts.append(picture(sheet, "image/png", description=f"some images of {name}"))
    return element("div", heading(name), *parts, facts(_values(column)))


def _histogram(column: Facts) -> Html:
    drawn = column["histogram"]
    edges = np.asarray(drawn["edges"], dtype=np.float64)
    label = "characters" if column.get("characters") else ""
    if drawn.get("dates"):
        edges, label = _days(edges)
    outside = column["kind"] == "number" and (column["min"] < drawn["edges"][0] or column["max"] > drawn["edges"][-1])
    caption = "the outermost bins also hold what lies beyond" if outside else ""
    return histogram_of_counts(edges, {column["name"]: drawn["counts"]}, title="distribution", x_label=label, caption=caption)


def _days(microseconds: np.ndarray) -> tuple[np.ndarray, str]:
    """Return points in time as days since the first, and what they are."""
    first = np.datetime64(int(microseconds[0]), "us").astype("datetime64[D]")
    return microseconds / _DAY_US - float(first.astype(np.int64)), f"days since {first}"


def _values(column: Facts) -> list[tuple[str, object]]:
    values: list[tuple[str, object]] = [("kind", f"{column['kind']} ({column['reason']})"), ("type", column["type"])]
    if column["missing"]:
        values.append(("missing", f"{column['missing']:,} ({percent(column['missing_share'])})"))
    values.append(("different", f"{'' if column['distinct_exact'] else '≈ '}{column['distinct']:,}"))
    for key, name in (("mean", "mean"), ("std", "standard deviation"), ("skew", "skew")):
        if column.get(key) is not None:
            values.append((name, column[key]))
    if quantiles := column.get("quantiles"):
        values.append(("min, quartiles, max", " · ".join(map(number, _five(column, quantiles)))))
    values += [(_WORDS.get(key, key.replace("_", " ")), column[key]) for key in _COUNTS if column.get(key)]
    values += [(key, column[key]) for key in ("first", "last", "form") if column.get(key)]
    if gap := column.get("longest_gap"):
        values.append(("longest gap", f"{gap[0]} to {gap[1]}"))
    if words := column.get("words"):
        values.append(("words: median, 95 %, max", " · ".join(number(words[key]) for key in ("0.5", "0.95", "max"))))
    if scripts := column.get("scripts"):
        values.append(("scripts", ", ".join(f"{name} {percent(share)}" for name, share in scripts.items())))
    if sizes := column.get("sizes"):
        values.append(("sizes", ", ".join(f"{item['value']} ({item['rows']})" for item in sizes[:5])))
        values.append(("modes", ", ".join(f"{mode} ({rows})" for mode, rows in column["modes"].items())))
    return values


_COUNTS = ("zeros", "negative", "beyond_3_sigma", "beyond_fences", "unreadable", "blank", "days", "days_without_rows")
_WORDS = {"beyond_3_sigma": "beyond 3 standard deviations", "beyond_fences": "outside 1.5 interquartile ranges", "days": "days with rows"}


def _five(column: Facts, quantiles: Facts) -> list[float]:
    return [column["min"], quantiles["0.25"], quantiles["0.5"], quantiles["0.75"], column["max"]]


def _target(target: Facts, columns: Sequence[Facts]) -> list[Html]:
    parts = [facts([("column", target["column"]), ("kind", f"{target['kind']} ({target['reason']})"), ("missing", target["missing"])])]
    drawn: list[Html] = []
    if classes := target.get("classes"):
        drawn.append(
            bars([Bar(str(item["value"]), item["share"]) for item in classes[:20]], title="balance of the classes", as_percent=True)
        )
    else:
        drawn += [_histogram(column) for column in columns if column["name"] == target["column"] and column.get("histogram")]
    if together := target["associations"]:
        listed = [Bar(entry["column"], abs(entry["value"]), note=f"{entry['measure']} {entry['value']:.3f}") for entry in together[:20]]
        drawn.append(bars(listed, title="what goes together with the target", x_label="strength, 0 to 1"))
    parts.append(charts(*drawn))
    parts += [callout(leak["reason"], kind="error", title=f"{leak['column']} may give the target away") for leak in target["leaks"]]
    if target["missing_by_target"]:
        parts += [heading("Where values are missing"), _missing(target["missing_by_target"])]
    return parts


def _missing(entries: Sequence[Facts]) -> Html:
    lines = []
    for entry in entries[:20]:
        if "by_class" in entry:
            what = ", ".join(f"{name}: {percent(share)}" for name, share in list(entry["by_class"].items())[:4])
        else:
            what = f"target where missing {number(entry['mean_where_missing'])}, elsewhere {number(entry['mean_elsewhere'])}"
        lines.append([entry["column"], Value(percent(entry["missing"]), entry["missing"]), what, entry["adjusted_p"]])
    return table(["column", "missing", "by target", "adjusted p"], lines, sortable=True)


def _pairs(pairs: Sequence[Facts]) -> list[Html]:
    if not pairs:
        return []
    names = list(dict.fromkeys(name for pair in pairs for name in (pair["first"], pair["second"])))[:MATRIX_COLUMNS]
    grid = np.full((len(names), len(names)), np.nan)
    for pair in pairs:
        if pair["first"] in names and pair["second"] in names:
            places = names.index(pair["first"]), names.index(pair["second"])
            grid[places] = grid[places[::-1]] = pair["value"]
    np.fill_diagonal(grid, 1.0)
    lines = [[pair["first"], pair["second"], pair["measure"], pair["value"], pair.get("pearson")] for pair in pairs[:30]]
    drawn = heatmap(Grid(grid, names, names), title="the closest pairs", color="sign") if len(names) > 2 else Html()
    listed = table(["column", "and", "measure", "value", "Pearson"], lines, sortable=True)
    return [drawn, details(f"the {len(lines)} closest pairs", listed, opened=len(names) <= 2)]


def _drift(drift: Facts) -> list[Html]:
    lines = []
    for entry in drift["columns"]:
        values = [entry.get("psi"), entry.get("js"), entry.get("statistic"), entry.get("adjusted_p")]
        lines.append([entry["column"], entry["kind"], _verdict(entry["verdict"]), entry["why"], *values])
    heads = ["column", "kind", "verdict", "what", "PSI", "Jensen–Shannon", "statistic", "adjusted p"]
    compared = facts([("compared with", drift["against"]), ("rows", f"{drift['rows'][0]:,} and {drift['rows'][1]:,}")])
    drawn = [_drifted(entry) for entry in drift["columns"] if entry["verdict"] != "none"]
    return [compared, table(heads, lines, sortable=True), charts(*[figure for figure in drawn if figure][:CHARTED_DRIFTS])]


def _verdict(verdict: str) -> Html:
    return element("b", verdict) if verdict in {"column missing", "type changed", "large drift"} else element("span", verdict)


def _drifted(entry: Facts) -> Html:
    title = f"{entry['column']}: {entry['verdict']}"
    if drawn := entry.get("histogram"):
        edges = np.asarray(drawn["edges"], dtype=np.float64)
        edges, what = _days(edges) if drawn["dates"] else (edges, "" if drawn["what"] == "value" else drawn["what"])
        counts = {"reference": drawn["counts"][0], "other": drawn["counts"][1]}
        return histogram_of_counts(edges, counts, title=title, x_label=what)
    if moved := entry.get("moved"):
        sides = ("reference", "other")
        listed = [Bar(f"{item['value']} ({side})", item["shares"][place]) for item in moved[:6] for place, side in enumerate(sides)]
        return bars(listed, title=title, as_percent=True)
    return Html()

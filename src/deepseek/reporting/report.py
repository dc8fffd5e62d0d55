"""The report of a run as a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deepseek.reporting.attention import between_chart
from deepseek.reporting.charts import Bar, Marker, Series, bars, line
from deepseek.reporting.coverage import coverage_section
from deepseek.reporting.facts import (
    CompressionFacts,
    CurveFacts,
    DataFacts,
    Figure,
    FormFact,
    ImportanceFacts,
    PicturesFacts,
    ReportFacts,
    SelfTrainingFacts,
    SliceFacts,
)
from deepseek.reporting.forecast import forecast_parts
from deepseek.reporting.html import Html, element, join
from deepseek.reporting.numbers import number, percent, seconds, size
from deepseek.reporting.page import (
    Page,
    Tile,
    Value,
    callout,
    card,
    cards,
    charts,
    code,
    details,
    items,
    paragraph,
    picture,
    shortened,
    table,
    tiles,
)
from deepseek.reporting.quality import answer_sections

MOST_VALUES = 40
MOST_IMPORTANT = 25
MOST_LAYERS = 6
_FEW_VALUES = 3
_TIMES = {"seconds": "whole run", "training_s": "training", "evaluation_s": "measuring"}


def report_page(facts: ReportFacts) -> str:
    """Return a run's report as one HTML document."""
    what = f"{facts.model} · {facts.task} of {', '.join(facts.target)}"
    rows = sum(facts.data.rows.values())
    page = Page(
        facts.name, subtitle=what, facts=[("run", facts.run), ("made", facts.created or "unknown"), ("rows", rows), ("seed", facts.seed)]
    )
    page.section("Result", *_result(facts))
    page.section("Data", *_data(facts.data))
    page.section("Choices", _choices(facts), note="What the recipe left open, what was decided, and why.")
    page.section("Training", *_training(facts.curves))
    if facts.self_training is not None:
        page.section("Self-training", *_rounds(facts.self_training))
    if facts.forecast is not None:
        split, found = facts.forecast
        page.section("Step by step", *forecast_parts(found), note=f"On {split} windows.")
    if facts.rows is not None:
        for title, parts in answer_sections(facts.rows):
            page.section(title, *parts, note=_looked_at(facts))
        page.section("Where it is worse", *_slices(facts.rows.slices, facts.rows.weighted_by), note=_looked_at(facts))
        page.section("Groups", *coverage_section(facts.rows.coverage), note=_looked_at(facts))
        page.section("What it relies on", *_importance(facts.rows.importance))
        if (seen := facts.rows.attention) is not None:
            page.section(
                "Where its senses look", between_chart(seen.senses, seen.between, title=f"attention, mean over {seen.rows:,} rows")
            )
        page.section("Rows it gets wrong", *_examples(facts))
    if facts.pictures is not None:
        page.section("Pictures", *_pictures(facts.pictures))
    page.section("Compressed", *(part for one in facts.compressed for part in _compressed(one)))
    page.section("Time", *_timing(facts))
    page.section("Do it again", *_again(facts))
    return page.render()


def _result(facts: ReportFacts) -> list[Html]:
    shown = [one for one in facts.figures if one.split == "test"] or list(facts.figures)
    made = [Tile(f"{one.metric} on {one.split} rows", number(one.value), _interval(one)) for one in shown]
    metrics = list(dict.fromkeys(one.metric for one in facts.figures))
    splits = list(dict.fromkeys(one.split for one in facts.figures))
    known = {(one.metric, one.split): one for one in facts.figures}
    heads = [head for split in splits for head in (split, f"{split}, 95 % interval")]
    rows = [[metric, *(cell for split in splits for cell in _cells(known.get((metric, split))))] for metric in metrics]
    how = f"{facts.intervals}." if facts.intervals else "There are no intervals: the rows are not at hand."
    notes = [callout(items(facts.missing), kind="warning", title="Not everything can be told")] if facts.missing else []
    return [
        *notes,
        tiles(made),
        details("All metrics", table(["metric", *heads], rows, caption="Metrics of the model that is in the bundle"), opened=False),
        paragraph(how, quiet=True),
    ]


def _cells(one: Figure | None) -> tuple[object, object]:
    return ("", "") if one is None else (one.value, _interval(one))


def _interval(one: Figure) -> str:
    return "" if one.low is None or one.high is None or one.low != one.low else f"{number(one.low)} to {number(one.high)}"


def _data(data: DataFacts) -> list[Html]:
    total = max(sum(data.rows.values()), 1)
    parts = [tiles(Tile(f"{name} rows", count, percent(count / total)) for name, count in data.rows.items())]
    parts += [callout(warning, kind="warning") for warning in data.warnings]
    if data.leaks and not any(data.leaks.values()) and not any(one["twins"] for one in data.twins):
        parts.append(callout(f"No row of one split stands{_NEARLY if data.twins else ''} in another.", kind="good", title="Leak check"))
    parts.append(_twins(data))
    rows = [
        [one.name, one.kind, one.role, Value(percent(one.missing), one.missing) if one.missing is not None else Value("", None), one.reason]
        for one in data.columns
    ]
    listed = table(["column", "kind", "role", "missing", "note"], rows, caption=f"{len(rows)} columns", sortable=True)
    parts.append(details("Columns", listed, opened=len(rows) <= 20) if rows else Html())
    aside = [[where, reason, count] for where, reason, count in data.set_aside]
    return [*parts, table(["where", "why", "rows"], aside, caption="Rows that were set aside")]


_NEARLY = ", or nearly so,"


def _twins(data: DataFacts) -> Html:
    """Return the rows that nearly stand on both sides of the split, with some of them."""
    rows = [
        [one["what"], one["part"], one["twins"], one["looked_at"], example["row"], example["training_row"], example["alike"]]
        for one in data.twins
        for example in one["examples"]
    ]
    heads = ["by", "part", "nearly training rows", "rows looked at", "such as row", "its training row", "alike"]
    listed = table(heads, rows, caption="Rows that are nearly a training row: the most alike")
    return details("Near twins", listed, opened=False) if rows else Html()


def _choices(facts: ReportFacts) -> Html:
    rows = [[one.path, shortened(one.value, 160), one.reason] for one in facts.choices]
    return details("Decisions", table(["where", "value", "why"], rows, caption="Decisions"), opened=False) if rows else Html()


def _training(curves: CurveFacts) -> list[Html]:
    made = []
    losses = [Series("training", curves.steps, curves.loss)]
    if "loss" in curves.validation:
        losses.append(Series("validation", curves.validation_steps, curves.validation["loss"]))
    marks = _best(curves, "loss")
    if curves.steps:
        made.append(line(losses, title="Loss", x_label="step", y_label="loss", markers=marks))
        made.append(line([Series("rate", curves.steps, curves.learning_rate)], title="Learning rate", x_label="step", y_label="rate"))
    for name, values in curves.validation.items():
        if name != "loss":
            marks = _best(curves, name)
            made.append(
                line([Series(name, curves.validation_steps, values)], title=f"{name} on validation rows", x_label="step", markers=marks)
            )
    if curves.layer_rates:
        made.append(_rates(curves))
    monitor = f", chosen by {curves.monitor}" if curves.monitor else ""
    best = f" The weights of step {curves.best_step:,} were kept{monitor}." if curves.best_step is not None else ""
    said = paragraph(f"Training ended: {curves.stopped}.{best}") if curves.stopped else Html()
    return [said, charts(*made[:4]), details("More metrics", charts(*made[4:])) if made[4:] else Html()]


def _rates(curves: CurveFacts) -> Html:
    """Return the layers' factors on the learning rate: of those that changed most."""

    def spread(values: Sequence[float]) -> float:
        known = [value for value in values if math.isfinite(value)]
        return max(known, default=0.0) - min(known, default=0.0)

    most = sorted(curves.layer_rates, key=lambda name: -spread(curves.layer_rates[name]))[:MOST_LAYERS]
    series = [Series(name, curves.steps, curves.layer_rates[name]) for name in curves.layer_rates if name in most]
    return line(series, title="Rate of layers, of the learning rate", x_label="step", y_label="factor", caption=_of_layers(curves))


def _of_layers(curves: CurveFacts) -> str:
    count = len(curves.layer_rates)
    return f"{MOST_LAYERS} of {count} layers: those that changed most" if count > MOST_LAYERS else ""


def _rounds(facts: SelfTrainingFacts) -> list[Html]:
    numbers = [one.number for one in facts.rounds]
    kept = [Marker(float(one.number), one.value, "kept") for one in facts.rounds if one.kept]
    chart = line(
        [Series(facts.metric, numbers, [one.value for one in facts.rounds])],
        title=f"{facts.metric} on validation rows, round by round",
        x_label="round",
        markers=kept,
    )
    names = list(dict.fromkeys(name for one in facts.rounds for name in one.by_class))
    rows = [
        [
            *(one.number, one.value, f"{number(one.gain[1])} to {number(one.gain[2])}" if one.number else ""),
            *(one.rows, one.changed, *(one.by_class.get(name, 0) for name in names), "kept" if one.kept else ""),
        ]
        for one in facts.rounds
    ]
    heads = ["round", facts.metric, "better by, 95 % interval", "rows labelled", "changed", *names, ""]
    left_out = [[reason, count] for reason, count in facts.left_out.items()]
    return [
        paragraph(f"There were {facts.unlabelled:,} rows without a label. The rounds ended: {facts.stopped}. {facts.reason.capitalize()}."),
        charts(chart),
        table(heads, rows, caption="Rounds: rows learned with the label that the model before gave them"),
        table(["why", "rows"], left_out, caption="Rows without a label that were left out") if left_out else Html(),
        paragraph(
            "The best of several rounds is a little flattered by the validation rows that it was chosen on; test rows are not.", quiet=True
        ),
    ]


def _best(curves: CurveFacts, name: str) -> list[Marker]:
    best, steps = curves.best_step, list(curves.validation_steps)
    if best is None or best not in steps or name not in curves.validation:
        return []
    return [Marker(float(best), curves.validation[name][steps.index(best)], "kept")]


def _slices(slices: SliceFacts | None, weighted_by: str | None) -> list[Html]:
    if slices is None:
        return []
    how = (
        f"{slices.tested:,} groups of rows were tested, by one column or two, of at least {slices.least_rows} rows each; p-values are "
        "corrected for all of them (Holm), so groups that are bad by chance are told of in at most 1 of 20 reports."
    )
    if weighted_by is not None:
        how += f" The errors are means weighted by {weighted_by}; the tests are of rows, all alike."
    if not slices.found:
        return [callout("No group of rows is significantly worse than the others.", kind="good"), paragraph(how, quiet=True)]
    rows = [
        [one.name, one.rows, one.error, one.others, one.error / one.others if one.others else None, one.p_value] for one in slices.found
    ]
    heads = ["rows where", "rows", "error", "other rows", "times", "p, corrected"]
    return [table(heads, rows, caption=f"Groups of rows with larger errors: {slices.error}", sortable=True), paragraph(how, quiet=True)]


def _importance(facts: ImportanceFacts | None) -> list[Html]:
    if facts is None or not facts.columns:
        return []
    shown = [Bar(name, mean, low, high) for name, mean, low, high in facts.columns[:MOST_IMPORTANT]]
    chart = bars(shown, title=f"How much worse {facts.metric} gets when a column is shuffled", x_label=f"{facts.metric}, worse by")
    how = (
        f"Permutation importance on {facts.rows:,} rows, each column shuffled {facts.repeats} times; the line is the 95 % interval over "
        "the shuffles. Columns that tell the same share their importance, so that each looks less needed than both are."
    )
    every = table(["column", "mean", "from", "to"], facts.columns, caption="Importance of every column", sortable=True)
    return [chart, paragraph(how, quiet=True), details("Every column", every)]


def _examples(facts: ReportFacts) -> list[Html]:
    if facts.examples_left_out:
        return [paragraph("Left out, as was asked for.")]
    rows = facts.rows
    if rows is None or not rows.examples:
        return [paragraph("The model gets none of the rows wrong that were looked at.")] if rows is not None else []
    made = []
    for one in rows.examples:
        pictures = [picture(content, "image/jpeg", description=f"{name} of row {one.row}", width=96) for name, content in one.pictures]
        values = [("true", one.truth), ("answer", one.answer), ("", one.measure)]
        raw = [(name, shortened(value)) for name, value in one.values[:MOST_VALUES]]
        shown = details("Values", card("", raw), opened=len(raw) <= _FEW_VALUES) if raw else Html()
        made.append(card(f"row {one.row:,}", [pair for pair in values if pair[0]], *pictures, paragraph(one.measure, quiet=True), shown))
    option = element("code", "--no-examples")
    return [paragraph(join(["Raw rows of your data: mind who gets this file. ", option, " leaves them out."]), quiet=True), cards(made)]


def _pictures(facts: PicturesFacts) -> list[Html]:
    made = []
    for one in facts.shown:
        drawn = [
            picture(content, "image/jpeg", description=f"{what} of row {one.row}", width=224)
            for what, content in (("truth", one.truth), ("answer", one.answer))
        ]
        made.append(card(f"row {one.row:,}", [("truth, then answer", one.measure)], *drawn))
    looked = f"{len(facts.shown)} of {facts.looked_at:,} {facts.split} rows that were looked at, of {facts.of:,}"
    order = f"{looked}: from the worst answered to the best, evenly among them, by {facts.how}. "
    option = element("code", "--no-examples")
    said = [order, "Pictures of your data: mind who gets this file. ", option, " leaves them out."]
    swatches = [[element("span", "■", style=f"color:{colour}"), name] for name, colour in facts.colours]
    return [
        paragraph(join(said), quiet=True),
        table(["", "class"], swatches, caption="Colours"),
        cards(made),
    ]


def _compressed(facts: CompressionFacts) -> list[Html]:
    kept = next(one for one in facts.forms if one.name == facts.kept)
    own = facts.forms[0]
    made = [
        Tile(f"{facts.metric} in INT8", number(kept.metric), f"{number(own.metric)} in PyTorch"),
        Tile("weights", size(kept.weight_bytes), f"{size(own.weight_bytes)} in PyTorch"),
        Tile("a row alone", seconds(kept.one_s), f"{seconds(own.one_s)} in PyTorch"),
        Tile("answered otherwise", kept.others, f"of {kept.rows:,} rows"),
    ]
    heads = ["form", facts.metric, "lost", "other answers", "file", "weights", "1 row", "32 rows", "memory"]
    listed = table(heads, [_form(one, kept=one is kept) for one in facts.forms], caption=f"{facts.folder} and what it was compared with")
    stayed = f"{', '.join(facts.floats)} stayed in float32" if facts.floats else "none stayed in float32"
    how = (
        f"Kept: {facts.kept}, the fastest of the forms in INT8 that lose at most {facts.max_drop:g} of {facts.metric}. Of {facts.layers} "
        f"layers {stayed}. Metric and answers are of {own.rows:,} rows that were not trained on. Times are medians with {facts.threads} "
        f"threads, memory is the peak of a process that answers, on {facts.machine}."
    )
    refused = [f"{name}: {reason}" for name, reason in facts.refused.items()]
    return [tiles(made), listed, details("Not taken", items(refused)) if refused else Html(), paragraph(how, quiet=True)]


def _form(one: FormFact, *, kept: bool) -> list[object]:
    sizes = [Value(size(count), count) for count in (one.size_bytes, one.weight_bytes)]
    times = [Value(seconds(taken), taken) for taken in (one.one_s, one.many_s)]
    memory = Value(size(one.memory_bytes), one.memory_bytes)
    return [f"{one.name} (kept)" if kept else one.name, one.metric, one.lost, one.others, *sizes, *times, memory]


def _timing(facts: ReportFacts) -> list[Html]:
    known = facts.timing
    made = [Tile(label, seconds(known[name])) for name, label in _TIMES.items() if name in known]
    if "steps" in known:
        made.append(Tile("steps", int(known["steps"])))
    if "samples_per_s" in known:
        made.append(Tile("rows a second in training", number(round(known["samples_per_s"]))))
    if "data_wait_share" in known:
        made.append(Tile("waiting for data", percent(known["data_wait_share"]), "of the training time"))
    return [tiles(made)]


def _again(facts: ReportFacts) -> list[Html]:
    files: Sequence[Sequence[object]] = [
        [str(one["path"]), Value(size(one["size_bytes"]), float(one["size_bytes"])), str(one["sha256"])] for one in facts.data.files
    ]
    versions = [[name, version] for name, version in facts.environment.items()]
    parts = [
        code("\n".join(facts.commands)),
        details("Recipe", code(facts.recipe)),
        details("Files that were read", table(["file", "size", "SHA-256"], files, caption="Files")) if files else Html(),
        details("Environment", table(["what", "version"], versions, caption="Versions")),
    ]
    return [paragraph(f"With the same files, versions and the seed {facts.seed} the run gives the same numbers."), join(parts)]


def _looked_at(facts: ReportFacts) -> str:
    rows = facts.rows
    if rows is None:
        return ""
    which = (
        f"All {rows.of:,} {rows.split} rows"
        if rows.looked_at == rows.of
        else f"{rows.looked_at:,} of {rows.of:,} {rows.split} rows, drawn at random"
    )
    return f"{which}." if rows.weighted_by is None else f"{which}, weighted by {rows.weighted_by}; whole numbers count rows."

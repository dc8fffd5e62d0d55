"""What a model's answers are worth, as sections of the report: of classes, of labels, of numbers."""

from __future__ import annotations

import numpy as np

from deepseek.reporting.charts import (
    Bar,
    Grid,
    Reliability,
    Series,
    bars,
    calibration,
    heatmap,
    histogram_of_counts,
    precision_recall,
    roc,
    scatter,
)
from deepseek.reporting.facts import ClassFacts, LabelFact, RowFacts, ValueFacts
from deepseek.reporting.html import Html
from deepseek.reporting.numbers import number, percent
from deepseek.reporting.page import Value, charts, details, paragraph, table

MOST_CLASSES = 20


def answer_sections(rows: RowFacts) -> list[tuple[str, list[Html]]]:
    """Return titles and parts: one section for classes or labels, one for each number that is predicted."""
    made = []
    if rows.answers is not None:
        made.append(("Answers", _classes(rows.answers, rows.weighted_by)))
    if rows.labels:
        made.append(("Labels", _labels(list(rows.labels))))
    alone = len(rows.values) == 1
    return made + [("Errors" if alone else f"Errors of {facts.target}", _values(facts)) for facts in rows.values]


def _classes(facts: ClassFacts, weighted_by: str | None) -> list[Html]:
    bins = [Reliability(one.predicted, one.observed, one.rows, one.low, one.high) for one in facts.calibration]
    error = (
        f"Expected calibration error {number(facts.calibration_error, 3)}, Brier score {number(facts.brier, 3)}; lines are 95 % intervals."
    )
    made = [_confusion(facts, weighted_by)]
    if facts.roc:
        made += [roc([Series(one.name, one.x, one.y) for one in facts.roc], caption=_area("Area under the curve", facts.roc[0].area))]
    if facts.precision_recall:
        curves = [Series(one.name, one.x, one.y) for one in facts.precision_recall]
        caption = _area("Average precision", facts.precision_recall[0].area)
        made.append(precision_recall(curves, base_rate=facts.base_rate, caption=caption))
    made.append(calibration(bins, caption=error))
    if facts.scores is not None:
        positive = f"probability of {facts.classes[1]}"
        made.append(histogram_of_counts(facts.scores.edges, facts.scores.counts, title="Scores by true class", x_label=positive))
    return [charts(*made), _per_class(facts), _thresholds(facts)]


def _confusion(facts: ClassFacts, weighted_by: str | None) -> Html:
    counts, weighed = np.asarray(facts.confusion), np.asarray(facts.weighed)
    order = np.argsort(-counts.sum(axis=1), kind="stable")[:MOST_CLASSES] if len(counts) > MOST_CLASSES else np.arange(len(counts))
    names, shown = [str(facts.classes[place]) for place in order], np.ix_(order, order)
    texts = [[f"{value:,}" for value in row] for row in counts[shown].tolist()]
    said = "Colours are shares of the true class."
    if weighted_by is not None:
        shares = weighed / np.maximum(weighed.sum(axis=1, keepdims=True), 1e-300)
        pairs = zip(texts, shares[shown].tolist(), strict=True)
        texts = [[f"{count} ({percent(share, 0)})" for count, share in zip(*pair, strict=True)] for pair in pairs]
        said = f"Counts of rows; colours and per cent are shares of the true class weighted by {weighted_by}."
    grid = Grid(weighed[shown], names, names, texts)
    left_out = f"The {len(names)} most frequent of {len(counts)} classes. " if len(names) < len(counts) else ""
    caption = f"{left_out}{said}"
    return heatmap(grid, title="Confusion matrix", x_label="answer", y_label="true", color="row", caption=caption)


def _per_class(facts: ClassFacts) -> Html:
    counts, weighed = np.asarray(facts.confusion), np.asarray(facts.weighed, dtype=np.float64)
    right, true, called = weighed.diagonal(), weighed.sum(axis=1), weighed.sum(axis=0)
    rows = []
    for n, name in enumerate(facts.classes):
        f1 = 2 * right[n] / (true[n] + called[n]) if true[n] + called[n] else None
        others = np.where(np.arange(len(weighed)) == n, -1, weighed[n])
        worst = int(others.argmax())
        mixed = f"{facts.classes[worst]} ({percent(others[worst] / true[n])})" if true[n] and others[worst] > 0 else ""
        found = [int(counts[n].sum()), int(counts[:, n].sum())]
        rows.append([name, *found, _over(right[n], called[n]), _over(right[n], true[n]), f1, mixed])
    heads = ["class", "rows", "called", "precision", "recall", "F1", "most often taken for"]
    return table(heads, rows, caption="By class", sortable=True)


def _thresholds(facts: ClassFacts) -> Html:
    if not facts.thresholds:
        return Html()
    rows = [[one.threshold, one.precision, one.recall, one.f1, one.false_positive_rate, one.positives] for one in facts.thresholds]
    heads = ["from probability", "precision", "recall", "F1", "false positive rate", f"called {facts.classes[1]}"]
    made = table(heads, rows, caption=f"What each threshold for {facts.classes[1]} gives", head_first=False)
    return details("Thresholds", made)


def _labels(labels: list[LabelFact]) -> list[Html]:
    worst = sorted((one for one in labels if one.rows), key=lambda one: one.f1 if one.f1 == one.f1 else 0.0)[:30]
    chart = bars([Bar(one.label, one.f1) for one in worst], title="F1 by label, the worst first", x_label="F1")
    rows = [[one.label, one.rows, one.called, one.precision, one.recall, one.f1, one.auc] for one in labels]
    heads = ["label", "rows", "called", "precision", "recall", "F1", "AUC"]
    return [chart, table(heads, rows, caption="By label", sortable=True)]


def _values(facts: ValueFacts) -> list[Html]:
    name = facts.target
    truth, predicted = np.asarray(facts.truth), np.asarray(facts.predicted)
    made = [
        scatter(truth, predicted, title="Predicted against true", x_label=f"true {name}", y_label=f"predicted {name}", guide="diagonal"),
        histogram_of_counts(facts.residuals.edges, facts.residuals.counts, title="Residuals", x_label="predicted less true"),
        scatter(
            predicted, predicted - truth, title="Residual by prediction", x_label=f"predicted {name}", y_label="residual", guide="zero"
        ),
        bars(
            [Bar(f"{number(low, 3)} to {number(high, 3)}", error) for low, high, _, error, _ in facts.deciles],
            title="Mean absolute error by tenth of the true value",
            x_label="mean absolute error",
        ),
    ]
    rows = [[Value(f"{number(low)} to {number(high)}", low), count, error, bias] for low, high, count, error, bias in facts.deciles]
    heads = [f"true {name}", "rows", "mean absolute error", "mean error"]
    said = paragraph("The ends of the residuals' histogram hold what lies beyond them.", quiet=True)
    return [charts(*made), said, details("By tenths", table(heads, rows, caption="By tenths of the true value"))]


def _area(what: str, area: float | None) -> str:
    return f"{what}: {number(area)}." if area is not None else ""


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole else None

"""What a model's answers to rows with known truth are worth: confusion, curves, calibration, errors; worst slices, worst rows."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import is_number, is_text
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.fields import Field, Kind
from deepseek.pipeline.asked import Asked
from deepseek.reporting.facts import ClassFacts, Example, LabelFact, Points, SliceFact, SliceFacts, Spread, ValueFacts
from deepseek.statistics.curves import (
    average_precision,
    calibration_bins,
    calibration_error,
    precision_recall_curve,
    roc_curve,
    threshold_table,
)
from deepseek.statistics.slices import Feature, categories, quantile_bins, worst_slices
from deepseek.tasks.metrics import exact_auc

SHOWN_POINTS = 20_000
THUMBNAIL = 96
_LEAST_SHARE = 0.01
_LEAST_ROWS = 30
_KINDS = (Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TIMESTAMP, Kind.TEXT)
_THRESHOLDS = np.linspace(0.1, 0.9, 9)


def class_facts(spec: TargetSpec, asked: Asked) -> ClassFacts:
    """Return confusion and calibration and, for two classes, the curves over all thresholds."""
    probability, truth = asked.decoded["probability"].numpy(), asked.target.numpy().astype(np.int64)
    answer, size = probability.argmax(axis=1), len(spec.classes)
    confusion = np.bincount(truth * size + answer, minlength=size * size).reshape(size, size)
    binary = spec.kind == "binary"
    sure = probability[:, 1] if binary else probability.max(axis=1)
    right = truth == 1 if binary else truth == answer
    bins = calibration_bins(sure, right)
    brier = float(np.mean((sure.astype(np.float64) - right) ** 2)) if binary else _brier(probability, truth)
    facts = ClassFacts(spec.classes, confusion.tolist(), bins, calibration_error(bins), brier)
    return _with_curves(facts, spec, sure, right) if binary else facts


def label_facts(spec: TargetSpec, asked: Asked) -> list[LabelFact]:
    """Return how right each label is."""
    probability, truth = asked.decoded["probability"].numpy(), asked.target.numpy() >= 0.5
    called = probability >= 0.5
    return [_label(name, probability[:, n], called[:, n], truth[:, n]) for n, name in enumerate(spec.classes)]


def value_facts(spec: TargetSpec, asked: Asked) -> list[ValueFacts]:
    """Return for each target true and predicted values in the target's units, residuals, and the error by tenths of the true value."""
    truth, answer = true_values(spec, asked)
    return [_values(name, truth[:, n], answer[:, n]) for n, name in enumerate(spec.columns)]


def true_values(spec: TargetSpec, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted numbers in the target's units, float64 `[n, targets]`."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    answers = next(iter(asked.decoded.values())).numpy().astype(np.float64)
    target = asked.target.numpy().astype(np.float64).reshape(len(asked), -1)
    return target * std + mean, answers.reshape(len(asked), -1) * std + mean


def row_errors(spec: TargetSpec, asked: Asked) -> tuple[np.ndarray, str]:
    """Return one error a row, larger for worse, and what it is."""
    if spec.kind == "values":
        truth, answer = true_values(spec, asked)
        if len(spec.columns) == 1:
            return np.abs(answer - truth)[:, 0], "mean absolute error"
        return np.abs((answer - truth) / np.array(spec.std)).mean(axis=1), "mean absolute error, in standard deviations of each target"
    probability = asked.decoded["probability"].numpy()
    if spec.kind == "labels":
        return ((probability >= 0.5) != (asked.target.numpy() >= 0.5)).mean(axis=1), "share of wrong labels"
    return (probability.argmax(axis=1) != asked.target.numpy().astype(np.int64)).astype(np.float64), "share of wrong answers"


def slice_facts(spec: TargetSpec, asked: Asked, table: pa.Table, fields: Sequence[Field]) -> SliceFacts:
    """Return where the model is significantly worse: values and pairs of values of the inputs, lengths of texts, brightness of images."""
    errors, what = row_errors(spec, asked)
    least = max(_LEAST_ROWS, math.ceil(_LEAST_SHARE * len(asked)))
    found, tested = worst_slices(errors, _features(asked, table, fields), least_rows=least)
    named = [
        SliceFact(" and ".join(f"{name} = {value}" for name, value in one.conditions), one.rows, one.error, one.others, one.p_value)
        for one in found[:20]
    ]
    return SliceFacts(what, tested, least, named)


def worst_rows(spec: TargetSpec, asked: Asked, most: int) -> np.ndarray:
    """Return which asked rows the model gets wrong while it is most sure, or with the largest error, the worst first."""
    errors, _ = row_errors(spec, asked)
    if spec.kind == "values":
        order = np.argsort(-errors, kind="stable")[:most]
    else:
        probability = asked.decoded["probability"].numpy()
        sure = probability.max(axis=1) if spec.kind != "labels" else np.abs(probability - asked.target.numpy()).max(axis=1)
        order = np.lexsort((-sure, errors == 0))[:most]
    return np.asarray(order[errors[order] > 0])


def examples(spec: TargetSpec, asked: Asked, data: PreparedDataset, chosen: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    """Return rows as examples.

    Args:
        spec: The target.
        asked: The asked rows.
        data: Their prepared rows, which hold the images.
        chosen: Which of the asked rows.
        rows: Their values in the table, in the same order.
    """
    images = {name: array.numpy() for name, array in data.take(asked.places[chosen]).inputs.items() if name in asked.brightness}
    made = []
    for place, (index, values) in enumerate(zip(chosen.tolist(), rows, strict=True)):
        truth, answer, measure = _said(spec, asked, index)
        number = int(asked.places[index] if data.source_rows is None else data.source_rows[asked.places[index]])
        shown = [(name, "missing" if value is None else str(value)) for name, value in values.items() if name not in spec.columns]
        pictures = [(name, thumbnail(array[place])) for name, array in images.items()]
        made.append(Example(number, truth, answer, measure, shown, pictures))
    return made


def thumbnail(pixels: np.ndarray) -> bytes:
    """Return an image, uint8 `[height, width, channels]`, as a small JPEG."""
    from PIL import Image

    plain = pixels[..., 0] if pixels.shape[-1] in (1, 2) else pixels[..., :3]
    image = Image.fromarray(np.ascontiguousarray(plain))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    if max(image.size) < THUMBNAIL:
        factor = max(THUMBNAIL // max(image.size), 1)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def _with_curves(facts: ClassFacts, spec: TargetSpec, score: np.ndarray, truth: np.ndarray) -> ClassFacts:
    roc, recall = roc_curve(score, truth), precision_recall_curve(score, truth)
    edges = np.linspace(0, 1, 31)
    counts = {name: np.histogram(score[truth == bool(n)], edges)[0].tolist() for n, name in enumerate(spec.classes)}
    area = exact_auc(score, truth)
    return replace(
        facts,
        roc=[Points(f"AUC {area:.4f}", roc.x.tolist(), roc.y.tolist(), area)],
        precision_recall=[Points("precision", recall.x.tolist(), recall.y.tolist(), average_precision(score, truth))],
        thresholds=threshold_table(score, truth, _THRESHOLDS),
        base_rate=float(truth.mean()) if len(truth) else None,
        scores=Spread(edges.tolist(), counts),
    )


def _brier(probability: np.ndarray, truth: np.ndarray) -> float:
    squared = (probability.astype(np.float64) ** 2).sum(axis=1)
    true = probability[np.arange(len(truth)), truth].astype(np.float64)
    return float((squared - 2 * true + 1).mean())


def _label(name: str, probability: np.ndarray, called: np.ndarray, truth: np.ndarray) -> LabelFact:
    right, positives, total = int((called & truth).sum()), int(truth.sum()), int(called.sum())
    precision, recall = right / total if total else math.nan, right / positives if positives else math.nan
    f1 = 2 * right / (total + positives) if total + positives else math.nan
    return LabelFact(name, positives, total, precision, recall, f1, exact_auc(probability, truth))


def _values(name: str, truth: np.ndarray, answer: np.ndarray) -> ValueFacts:
    residual = answer - truth
    known = np.isfinite(residual)
    low, high = np.quantile(residual[known], [0.001, 0.999]) if known.any() else (0.0, 1.0)
    edges = np.linspace(low, high, 41) if high > low else np.array([low - 0.5, low + 0.5])
    counts = np.histogram(np.clip(residual[known], edges[0], edges[-1]), edges)[0]
    step = max(1, math.ceil(len(truth) / SHOWN_POINTS))
    return ValueFacts(
        name,
        truth[::step].tolist(),
        answer[::step].tolist(),
        Spread(edges.tolist(), {"residual": counts.tolist()}),
        _deciles(truth, residual),
    )


def _deciles(truth: np.ndarray, residual: np.ndarray) -> list[tuple[float, float, int, float, float]]:
    """Return for each tenth of the rows by true value: from, to, rows, mean absolute error, mean error."""
    order = np.argsort(truth, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    return [(float(truth[p[0]]), float(truth[p[-1]]), len(p), float(np.abs(residual[p]).mean()), float(residual[p].mean())) for p in parts]


def _features(asked: Asked, table: pa.Table, fields: Sequence[Field]) -> dict[str, Feature]:
    made = {f"brightness of {name}": quantile_bins(values) for name, values in asked.brightness.items()}
    for item in fields:
        if item.name not in table.column_names or item.kind not in _KINDS:
            continue
        column = table[item.name].combine_chunks()
        if item.kind is Kind.TEXT:
            made[f"length of {item.name}"] = quantile_bins(_floats(pc.utf8_length(pc.cast(column, pa.string()))))
        elif pa.types.is_temporal(column.type):
            micros = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
            made[item.name] = quantile_bins(_floats(micros), write=_day)
        elif item.kind is Kind.NUMBER and is_number(column.type):
            made[item.name] = quantile_bins(_floats(column))
        elif is_text(column.type) or is_number(column.type) or pa.types.is_boolean(column.type):
            made[item.name] = categories(column.to_pylist())
    return made


def _day(micros: float) -> str:
    return str(np.datetime64(int(micros), "us").astype("datetime64[D]"))


def _floats(column: pa.Array) -> np.ndarray:
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _said(spec: TargetSpec, asked: Asked, index: int) -> tuple[str, str, str]:
    """Return in words what is true of a row, what the model says, and how wrong or how sure it is."""
    if spec.kind == "values":
        truth, answer = (values[index] for values in true_values(spec, asked))
        worst = int(np.abs((answer - truth) / np.array(spec.std)).argmax())
        return _numbers(spec, truth), _numbers(spec, answer), f"error {answer[worst] - truth[worst]:+.5g}"
    probability = asked.decoded["probability"][index].numpy()
    if spec.kind == "labels":
        names = [
            ", ".join(spec.classes[n] for n in np.flatnonzero(chosen)) or "none"
            for chosen in (asked.target[index].numpy(), probability >= 0.5)
        ]
        return names[0], names[1], f"largest error {np.abs(probability - asked.target[index].numpy()).max():.1%}"
    return spec.classes[int(asked.target[index])], spec.classes[int(probability.argmax())], f"sure by {probability.max():.1%}"


def _numbers(spec: TargetSpec, values: np.ndarray) -> str:
    if len(spec.columns) == 1:
        return f"{values[0]:.6g}"
    return ", ".join(f"{name} {value:.6g}" for name, value in zip(spec.columns, values, strict=True))

"""Metrics of boxes: equal to COCO's own tool, and adding up over batches and ranks."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
import torch

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.registry import family
from deepseek.tasks.detection import DetectionTask

TARGET = TargetSpec("boxes", ("boxes",), ("a", "b", "c"), (9, 9, 9), 20, shape=(100, 200))
SIZE = torch.tensor([200.0, 100.0, 200.0, 100.0])


def random_case(pictures=25, seed=0):
    """Objects, some of them crowds, some pictures empty, and answers near and far; one class is never there."""
    random = np.random.default_rng(seed)
    truth, boxes, scores = torch.zeros(pictures, 6, 6), torch.zeros(pictures, 12, 4), torch.zeros(pictures, 12, 3)
    for row in range(pictures):
        for place in range(random.integers(0, 6)):
            corner, size = random.uniform(0, (150, 60)), random.uniform(8, 40, 2)
            crowd = random.random() < 0.15
            truth[row, place] = torch.tensor([*corner, *(corner + size), random.integers(0, 2), float(crowd)])
        for place in range(12):
            edges = truth[row, place % 6].numpy()
            edges = edges if edges[2] > 0 and random.random() < 0.8 else np.array([10.0, 10.0, 30.0, 30.0, 0, 0])
            moved = edges[:4] + random.normal(0, 2, 4)
            moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
            boxes[row, place] = torch.tensor(moved)
            code = int(edges[4]) if random.random() < 0.9 else random.integers(0, 3)
            scores[row, place, code] = random.uniform(0.05, 1) * (1.0 if place < 6 else 0.4)
    return truth, {"box": boxes / SIZE, "score": scores}


def measured(truth, decoded, *, row=None, metrics=None):
    metrics = metrics or DetectionTask(TARGET, overlap=1.0, metrics=["map", "map50", "box_recall", "miss_rate"]).metrics()
    batch = Batch({"x": torch.zeros(len(truth), 1)}, {"target": truth}, row=row)
    for name, metric in metrics.items():
        if name != "loss":
            metric.update(decoded, batch)
    return metrics


def numbers(metrics):
    return {name: metric.compute() for name, metric in metrics.items() if name != "loss"}


def by_coco(truth, decoded):
    """What `pycocotools` says of the same answers."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    pictures = [{"id": row + 1, "width": 200, "height": 100} for row in range(len(truth))]
    objects, answers = [], []
    for row in range(len(truth)):
        for left, top, right, bottom, code, crowd in truth[row].double().tolist():
            if right > left:
                box = [left, top, right - left, bottom - top]
                one = {"image_id": row + 1, "category_id": int(code) + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": int(crowd)}
                objects.append({**one, "id": len(objects) + 1})
        edges = (decoded["box"][row] * SIZE).double()
        for place, code in (decoded["score"][row] > 0).nonzero().tolist():
            left, top, right, bottom = edges[place].tolist()
            score = float(decoded["score"][row, place, code])
            answers.append({"image_id": row + 1, "category_id": code + 1, "bbox": [left, top, right - left, bottom - top], "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = {
            "info": {},
            "images": pictures,
            "annotations": objects,
            "categories": [{"id": code + 1, "name": str(code)} for code in range(3)],
        }
        known.createIndex()
        done = evaluation.COCOeval(known, known.loadRes(answers), "bbox")
        done.evaluate()
        done.accumulate()
        done.summarize()
    return {"map": done.stats[0], "map50": done.stats[1], "map_75": done.stats[2], "box_recall": done.stats[8]}


@pytest.mark.parametrize("seed", range(6))
def test_precision_and_recall_are_those_of_coco(seed):
    truth, decoded = random_case(seed=seed)
    metrics = measured(truth, decoded)
    wanted = by_coco(truth, decoded)
    found = numbers(metrics) | {f"map_{name}": value for name, value in metrics["map"].by_column().items()}
    assert 0.05 < wanted["map"] < 0.95
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["map_50"] == found["map50"]


def test_parts_in_any_order_are_the_whole():
    truth, decoded = random_case()
    whole = measured(truth, decoded, row=torch.arange(25))
    parts = [
        measured(truth[rows], {name: values[rows] for name, values in decoded.items()}, row=rows)
        for rows in (torch.arange(13, 25), torch.arange(13))
    ]
    for name, metric in parts[0].items():
        if name != "loss":
            metric.merge(parts[1][name].state)
    assert numbers(parts[0]) == numbers(whole)
    parts[0]["map"].reset()
    assert math.isnan(parts[0]["map"].compute())
    assert len(parts[0]["map"].state["answers"]) == 0


def answers(*rows):
    """Answers of pictures: `(left, top, right, bottom, class, score)` each."""
    boxes, scores = torch.zeros(len(rows), 3, 4), torch.zeros(len(rows), 3, 3)
    for row, found in enumerate(rows):
        for place, (*edges, code, score) in enumerate(found):
            boxes[row, place], scores[row, place, code] = torch.tensor(edges), score
    return {"box": boxes / SIZE, "score": scores}


def objects(*rows):
    truth = torch.zeros(len(rows), 3, 6)
    for row, found in enumerate(rows):
        for place, one in enumerate(found):
            truth[row, place] = torch.tensor(one)
    return truth


BOX, FAR, AWAY = (10.0, 10.0, 30.0, 30.0), (100.0, 50.0, 140.0, 90.0), (60.0, 10.0, 80.0, 30.0)


@pytest.mark.parametrize(("allowed", "missed"), [(0.5, 2 / 3), (1.0, 1 / 3), (2.0, 0.0)])
def test_what_is_missed_at_so_many_false_alarms(allowed, missed):
    truth = objects([(*BOX, 0, 0), (*FAR, 1, 0)], [(*BOX, 0, 0)])
    decoded = answers([(*BOX, 0, 0.9), (*AWAY, 0, 0.8), (*FAR, 1, 0.6)], [(*AWAY, 1, 0.7), (*BOX, 1, 0.5), (*BOX, 0, 0.4)])
    metric = family("metric").build({"type": "miss_rate", "false_alarms": allowed}, TARGET)
    measured(truth, decoded, metrics={"miss_rate": metric})
    assert metric.compute() == pytest.approx(missed)


def test_another_overlap_makes_another_answer_right():
    truth, decoded = objects([(*BOX, 0, 0)]), answers([(10.0, 10.0, 30.0, 20.5, 0, 0.9)])
    for overlap, wanted in ((0.5, 1.0), (0.6, 0.0)):
        metric = family("metric").build({"type": "map50", "overlap": overlap}, TARGET)
        measured(truth, decoded, metrics={"map50": metric})
        assert metric.compute() == pytest.approx(wanted)


def test_nothing_there_is_no_number_and_neither_is_nan():
    metrics = measured(objects([]), answers([(*BOX, 0, 0.9)]))
    assert all(math.isnan(value) for value in numbers(metrics).values())
    decoded = answers([(*BOX, 0, 0.9)])
    decoded["box"][0, 0, 0] = math.nan
    assert all(math.isnan(value) for value in numbers(measured(objects([(*BOX, 0, 0)]), decoded)).values())


def test_the_work_of_matching_is_done_once_for_all_metrics(monkeypatch):
    calls = []
    from deepseek.tasks import detection_metrics

    real = detection_metrics.suppress
    monkeypatch.setattr(detection_metrics, "suppress", lambda *given, **named: calls.append(1) or real(*given, **named))
    measured(*random_case())
    assert len(calls) == 1

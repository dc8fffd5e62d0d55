from __future__ import annotations

import numpy as np

from deepseek.data.targets import TargetSpec, build_target
from deepseek.fields import Field, Kind
from deepseek.serving.rows.answers import AnswerWriter
from deepseek.serving.rows.feedback import FeedbackReader
from deepseek.tasks.answers import mask_table

TARGET = TargetSpec("mask", ("mask",), ("0", "255"), (3, 3), 3, integer_classes=True, shape=(2, 2))


def test_a_mask_is_answered_as_its_numbers_and_its_shape():
    table = mask_table(TARGET, [np.array([[0, 1, 1], [1, 0, 0]])])
    writer = AnswerWriter(table.schema)
    assert writer.write(table) == [{"prediction": {"data": [0, 255, 255, 255, 0, 0], "shape": [2, 3]}}]
    whole = {"type": "array", "items": {"type": "integer"}}
    wanted = {"type": "object", "properties": {"data": whole, "shape": whole}, "required": ["data", "shape"]}
    assert writer.json_schema()["properties"]["prediction"] == wanted


def test_no_label_is_taken_for_a_mask():
    target = build_target("mask", [Field("mask", Kind.MASK)]).load_json(TARGET.to_json())
    assert FeedbackReader(target).json_schema()["properties"]["label"]["not"] == {}

"""Exports of Label Studio: every kind of label exactly, several annotations of one task, and pre-annotations that come back as they are."""

import json
import math

import numpy as np
import pytest

from deepseek.data.labelling.annotations import agreement, alike, most_alike, read_export, settle
from deepseek.data.labelling.client import LabelStudio
from deepseek.data.labelling.preannotations import choices_result, doubt, labelling_config, row_key, shapes_result, spans_result
from deepseek.data.labelling.shapes import Box, Polygon, overlap
from deepseek.data.labelling.spans import Span, exact_span, to_spans, to_tags, tokens_of
from deepseek.errors import DataError, InputError
from deepseek.statistics.agreement import krippendorff_alpha

TEXT = "Ada met 🎉 Bo in Oslo."


def task(number, data, *results, **more):
    annotations = [{"id": 1, "created_at": f"2025-01-0{at}", "result": result} for at, result in enumerate(results, start=1)]
    return {"id": number, "data": data, "annotations": annotations, **more}


def choice(*names, control="mood"):
    return choices_result(names, control=control, to="text")


def export(*tasks, **given):
    return read_export(json.dumps(tasks), **given)


class TestSpans:
    def test_offsets_of_browsers_are_put_right(self):
        start = TEXT.index("Bo")
        assert exact_span(TEXT, start, start + 2, said="Bo") == (start, start + 2)
        assert exact_span(TEXT, start + 1, start + 3, said="Bo") == (start, start + 2)  # the emoji counted as two
        assert exact_span(TEXT, 0, 3, said=None) == (0, 3)
        with pytest.raises(DataError, match="the annotation says"):
            exact_span(TEXT, 0, 3, said="Bob")
        with pytest.raises(DataError, match="not in a text"):
            exact_span(TEXT, 5, 500, said=None)

    def test_spans_and_tags_are_turned_into_each_other(self):
        spans = [Span(0, 3, "PER"), Span(TEXT.index("Bo"), TEXT.index("Bo") + 2, "PER"), Span(TEXT.index("Oslo"), len(TEXT) - 1, "LOC")]
        tags, lost = to_tags(TEXT, spans)
        assert lost == []
        assert tags == ["B-PER", "O", "O", "B-PER", "O", "B-LOC", "O"]
        assert to_spans(tags, tokens_of(TEXT)) == spans

    def test_what_tags_cannot_say_is_given_back(self):
        cut, overlapping, empty = Span(1, 3, "X"), Span(0, 7, "Y"), Span(3, 4, "Z")
        tags, lost = to_tags(TEXT, [Span(0, 3, "PER"), cut, overlapping, empty])
        assert set(lost) == {cut, overlapping, empty}
        assert tags[0] == "B-PER"
        assert set(tags[1:]) == {"O"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("昨天王小明在北京。", [*"昨天王小明在北京。"]),
            ("Ada は東京にいる", ["Ada", *"は東京にいる"]),
            ("ที่กรุง", ["ที่", "ก", "รุ", "ง"]),
            ("हिन्दी में, ok", ["हिन्दी", "में", ",", "ok"]),
            ("cafe\u0301s ❤\ufe0f", ["cafe\u0301s", "❤\ufe0f"]),
            ("می\u200cخواهم", ["می\u200cخواهم"]),
            ("Zürich-Örebro 25°", ["Zürich", "-", "Örebro", "25", "°"]),
        ],
    )
    def test_words_of_any_script(self, text, words):
        assert [text[start:end] for start, end in tokens_of(text)] == words

    def test_a_name_in_a_text_without_spaces_has_tags(self):
        tags, lost = to_tags("昨天王小明在北京。", [Span(2, 5, "PER"), Span(6, 8, "LOC")])
        assert lost == []
        assert tags == ["O", "O", "B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]

    def test_an_inside_tag_that_continues_nothing_begins(self):
        places = [(0, 1), (1, 2), (2, 3), (3, 4)]
        assert to_spans(["I-A", "I-A", "I-B", "B-B"], places) == [Span(0, 2, "A"), Span(2, 3, "B"), Span(3, 4, "B")]
        with pytest.raises(DataError, match="3 tags for 4 tokens"):
            to_spans(["O", "O", "O"], places)


class TestReading:
    def test_every_kind_comes_exactly(self):
        box, polygon = Box(12.5, 30, 50, 60, "car", 15.0), Polygon(((1.0, 2.0), (3.0, 4.0), (5.0, 1.0)), "sky")
        marked = [Span(0, 3, "PER"), Span(TEXT.index("Oslo"), TEXT.index("Oslo") + 4, "LOC")]
        results = [
            *choice("good", "short"),
            *spans_result(TEXT, marked, control="names", to="text"),
            *shapes_result([box, polygon], (200, 300), control="shapes", to="image"),
        ]
        boxes = [result for result in results if result["type"] != "polygonlabels"]
        (found,) = export(task(1, {"text": TEXT}, boxes)).tasks
        assert found.problems == []
        values = found.annotations[0].values
        assert values["mood"] == ("good", "short")
        assert values["names"] == tuple(sorted(marked))
        (one,) = values["shapes"]
        assert (one.x, one.y, one.width, one.height, one.label, one.rotation) == pytest.approx((12.5, 30, 50, 60, "car", 15.0))
        polygons = export(task(1, {"text": TEXT}, results[-1:]))
        (shape,) = polygons.tasks[0].annotations[0].values["shapes"]
        assert np.array(shape.points) == pytest.approx(np.array(polygon.points))
        assert polygons.kinds == {"shapes": "polygons"}

    def test_json_min_says_the_same_as_json(self):
        small = [
            {
                "id": 1,
                "text": TEXT,
                "mood": "good",
                "names": [{"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}],
                "annotation_id": 3,
            },
            {"id": 1, "text": TEXT, "mood": {"choices": ["bad", "short"]}, "annotation_id": 4, "created_at": "2025", "annotator": 2},
            {"id": 2, "text": "x"},
        ]
        found = export(*small, controls=["mood", "names"])
        assert [len(one.annotations) for one in found.tasks] == [2, 0]
        assert found.tasks[0].data == {"text": TEXT}
        assert found.tasks[0].annotations[0].values == {"mood": ("good",), "names": (Span(0, 3, "PER"),)}
        assert found.tasks[0].annotations[1].values["mood"] == ("bad", "short")
        with pytest.raises(InputError, match="controls"):
            export(*small)

    def test_skipped_annotations_count_for_nothing(self):
        one = task(1, {"text": "x"}, choice("good"))
        one["annotations"][0]["was_cancelled"] = True
        assert export(one).tasks[0].annotations == []

    def test_what_cannot_be_read_is_a_problem_of_its_task(self):
        wrong = [{"from_name": "n", "to_name": "text", "type": "labels", "value": {"start": 0, "end": 2, "text": "zz", "labels": ["A"]}}]
        (bad,) = export(task(1, {"text": "abc"}, wrong)).tasks
        assert "the annotation says 'zz'" in bad.problems[0]
        with pytest.raises(DataError, match="zz"):
            settle(bad, "n", "spans", several="majority")
        sizeless = shapes_result([Box(1, 1, 2, 2, "a")], (10, 10), control="n", to="image")
        del sizeless[0]["original_width"]
        assert "size is not in the export" in export(task(1, {"image": "x.png"}, sizeless)).tasks[0].problems[0]

    @pytest.mark.parametrize("text", ["no json", "{}", "[1]"])
    def test_what_is_no_export_is_refused(self, text):
        with pytest.raises(DataError, match="export"):
            read_export(text)

    def test_a_kind_that_nobody_knows_is_refused_where_it_is_asked_for(self):
        odd = [{"from_name": "stroke", "to_name": "image", "type": "brushlabels", "value": {}}]
        assert export(task(1, {"image": "x"}, odd)).kinds == {}
        with pytest.raises(InputError, match="brushlabels"):
            export(task(1, {"image": "x"}, odd), controls=["stroke"])


class TestSeveral:
    def settled(self, several, *answers):
        one = task(1, {"text": "x"}, *(choice(*names) for names in answers))
        return settle(export(one).tasks[0], "mood", "choices", several=several)

    def test_the_majority_decides_and_a_tie_is_none(self):
        assert self.settled("majority", ["good"], ["bad"], ["good"]) == [("good",)]
        with pytest.raises(DataError, match="no choice has a majority"):
            self.settled("majority", ["good"], ["bad"])
        assert self.settled("majority", ["a", "b"], ["b", "c"], ["b"]) == [("b",)]  # each choice by itself

    def test_other_ways(self):
        assert self.settled("latest", ["good"], ["bad"]) == [("bad",)]
        assert self.settled("all", ["good"], ["bad"]) == [("good",), ("bad",)]
        assert self.settled("reject", ["good"], ["good"]) == [("good",)]
        with pytest.raises(DataError, match="2 annotations differ"):
            self.settled("reject", ["good"], ["bad"])
        assert self.settled("majority") == []

    def test_of_shapes_the_annotation_most_like_the_others_is_taken(self):
        near, same, far = ((Box(x, 0, 10, 10, "a"),) for x in (0.0, 1.0, 50.0))
        assert most_alike([far, near, same]) in (near, same)
        assert alike(near, same) == 1.0
        assert alike(near, far) == 0.0
        assert alike(near, (Box(0, 0, 10, 10, "b"),)) == 0.0
        assert alike((), ()) == 1.0
        assert overlap(near[0], Box(5, 0, 10, 10, "a")) == pytest.approx(1 / 3)
        assert alike((Span(0, 1, "a"), Span(2, 3, "b")), (Span(0, 1, "a"),)) == pytest.approx(2 / 3)


class TestAgreement:
    def test_alpha_is_krippendorffs_own_example(self):
        """Nominal data of Hayes and Krippendorff (2007), with missing values: 0.743."""
        a = ["1", "2", "3", "3", "2", "1", "4", "1", "2", ".", ".", "."]
        b = ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", ".", "3"]
        c = [".", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", "."]
        d = ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", "."]
        units = [[label for label in column if label != "."] for column in zip(a, b, c, d, strict=True)]
        assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)

    def test_chance_is_zero_and_one_answer_says_nothing(self):
        draw = np.random.default_rng(0)
        assert krippendorff_alpha(draw.integers(0, 3, (4000, 2)).tolist()) == pytest.approx(0, abs=0.04)
        assert math.isnan(krippendorff_alpha([["a"], ["b"]]))
        assert math.isnan(krippendorff_alpha([["a", "a"], ["a", "a"]]))

    def test_it_is_told_by_control(self):
        box = shapes_result([Box(0, 0, 5, 5, "a")], (10, 10), control="box", to="image")
        found = agreement(
            export(task(1, {"text": "x"}, choice("a") + box, choice("a") + box), task(2, {"text": "y"}, choice("b"), choice("b")))
        )
        assert found["mood"] == {"measure": "krippendorff_alpha", "value": 1.0, "tasks": 2, "pairs": 2}
        assert found["box"]["value"] == 1.0


class TestPushing:
    def test_the_least_sure_come_first(self):
        probability = np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.45, 0.44, 0.11]])
        assert np.argsort(-doubt(probability, "least_confident")).tolist() == [2, 0, 1]
        assert np.argsort(-doubt(probability, "margin")).tolist() == [2, 0, 1]
        assert np.argsort(-doubt(probability, "entropy")).tolist() == [0, 2, 1]
        assert doubt(probability, "as_is").tolist() == [0, 0, 0]

    def test_a_set_up_shows_every_field_and_holds_odd_names(self):
        config = labelling_config({"my text": "text", "photo": "image"}, ['a "quoted" <name>', "b"], control="label")
        assert 'value="$my text"' in config
        assert "<Image" in config
        assert "&lt;name&gt;" in config
        assert 'toName="my_text_"' in config

    def test_a_rows_key_is_its_content(self):
        assert row_key({"a": 1, "b": "x"}) == row_key({"b": "x", "a": 1, "deepseek_row": "old"})
        assert row_key({"a": 1}) != row_key({"a": 2})

    def test_a_server_needs_an_address_and_a_token(self, monkeypatch):
        monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
        with pytest.raises(InputError, match="LABEL_STUDIO_API_KEY"):
            LabelStudio("http://127.0.0.1:1")
        with pytest.raises(InputError, match="localhost"):
            LabelStudio("file:///etc/passwd", "x")

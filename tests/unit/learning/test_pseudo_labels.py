"""Which answers become labels: thresholds, the curriculum, and the proportion of classes."""

import numpy as np
import pytest

from deepseek.errors import InputError, UnknownNameError
from deepseek.learning.pseudo_labels import ChoiceRules, caps, choose_rows, learned

CLASSES = ("no", "yes")


def chosen(confidence, label, *, known=(75, 25), number=1, **rules):
    given = ChoiceRules(**rules)
    return choose_rows(np.asarray(confidence, np.float32), np.asarray(label), given, classes=CLASSES, known=known, number=number)


def test_only_sure_rows_are_taken():
    found = chosen([0.95, 0.6, 0.91, 0.89], [0, 0, 1, 1], balance="none")
    assert found.rows.tolist() == [0, 2]
    assert found.counts.tolist() == [1, 1]
    assert found.thresholds.tolist() == [0.9, 0.9]


def test_a_threshold_by_class_holds_for_its_class_alone():
    found = chosen([0.8, 0.8, 0.92], [0, 1, 0], threshold={"yes": 0.7}, balance="none")
    assert found.rows.tolist() == [1, 2]
    with pytest.raises(UnknownNameError, match="maybe"):
        chosen([0.8], [0], threshold={"maybe": 0.7})
    with pytest.raises(InputError, match="yes"):
        chosen([0.8], [0], threshold={"yes": 1.5})


def test_classes_are_taken_in_the_proportion_of_the_labelled_rows():
    label = np.array([0] * 100 + [1] * 10)
    confidence = np.linspace(0.99, 0.91, 110)
    found = chosen(confidence, label)
    assert found.counts.tolist() == [30, 10]  # 75 to 25, and the scarcest class is taken whole
    assert found.sure.tolist() == [100, 10]
    assert found.rows[:30].tolist() == list(range(30))  # the surest of the class
    assert chosen(confidence, label, balance="equal").counts.tolist() == [10, 10]
    assert chosen(confidence, label, balance="none").counts.tolist() == [100, 10]


def test_a_class_without_a_sure_row_keeps_the_others_from_flooding_in():
    found = chosen([0.99] * 50 + [0.5] * 10, [0] * 50 + [1] * 10)
    assert found.counts.tolist() == [3, 0]  # as one row of the other class would allow
    assert chosen([0.99] * 50, [0] * 50, balance="none").counts.tolist() == [50, 0]


def test_the_most_is_shared_out_in_proportion():
    label = np.array([0] * 90 + [1] * 30)
    found = chosen(np.full(120, 0.95), label, most=40)
    assert found.counts.tolist() == [30, 10]
    assert caps(np.array([3, 1]), ChoiceRules(most=100), (3, 1)).tolist() == [3, 1]


def test_the_surest_share_grows_with_the_rounds():
    label = np.repeat([0, 1], 50)
    confidence = np.concatenate([np.linspace(0.9, 0.6, 50), np.linspace(0.7, 0.51, 50)])
    first = chosen(confidence, label, choose="top", share=0.2, balance="none")
    assert first.counts.tolist() == [10, 10]
    assert first.rows.tolist() == [*range(10), *range(50, 60)]
    assert chosen(confidence, label, choose="top", share=0.2, balance="none", number=3).counts.tolist() == [30, 30]
    assert len(chosen(confidence, label, choose="top", share=0.2, balance="none", number=9).rows) == 100


def test_the_curriculum_lowers_the_threshold_of_what_is_learned_slowly():
    confidence = np.array([0.95] * 60 + [0.95] * 12 + [0.7] * 28)
    label = np.array([0] * 60 + [1] * 40)
    found = chosen(confidence, label, choose="curriculum", balance="none")
    assert found.counts.tolist() == [60, 40]
    status = 12 / 60
    assert found.thresholds.tolist() == pytest.approx([0.9, 0.9 * status / (2 - status)])
    assert chosen(confidence, label, balance="none").counts.tolist() == [60, 12]  # without it


def test_few_sure_rows_in_all_are_no_sign_of_learning():
    confidence, label = np.array([0.95] * 2 + [0.5] * 98), np.array([0, 1] * 50)
    assert learned(confidence, label, np.array([0.9, 0.9])) == pytest.approx([(1 / 98) / (2 - 1 / 98)] * 2)


@pytest.mark.parametrize("choose", ["threshold", "top", "curriculum"])
def test_nothing_comes_of_nothing(choose):
    found = chosen([], np.array([], dtype=np.int64), choose=choose)
    assert found.rows.tolist() == []
    assert found.counts.tolist() == [0, 0]


def test_equally_sure_rows_are_taken_from_the_front():
    assert chosen([0.95] * 8, [0] * 4 + [1] * 4, most=4, balance="equal").rows.tolist() == [0, 1, 4, 5]

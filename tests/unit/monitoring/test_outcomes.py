import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from deepseek.errors import InputError
from deepseek.monitoring.outcomes import Target, labels_of, outcomes_of, predictions_of


def judged(target, answers, column):
    said, probability = predictions_of(answers, target)
    return outcomes_of(target, said, probability, labels=labels_of(column, target))


def test_two_classes_are_measured_as_scikit_learn_does(make_rows, target):
    rows = make_rows(500)
    found, unknown = judged(target, rows.answers, rows.truth)
    truth = np.array(rows.truth.to_pylist()) == "yes"
    score = rows.answers.column("probability_yes").to_numpy()
    assert unknown == 0
    assert found.value("accuracy") == ((score > 0.5) == truth).mean()
    assert found.value("auc") == pytest.approx(roc_auc_score(truth, score))
    assert found.value("log_loss") == pytest.approx(log_loss(truth, score))


def test_numbers_as_classes_and_missing_and_unknown_labels():
    target = Target("classes", ("y",), ("0", "1", "2"))
    answers = pa.table({"prediction": [0, 1, 2, 2], **{f"probability_{n}": [0.4, 0.3, 0.2, 0.1] for n in range(3)}})
    found, unknown = judged(target, answers, pa.array([0.0, 2.0, None, 7.0]))
    assert found.rows["accuracy"].tolist() == [1, 0]
    assert unknown == 1
    assert len(found.score) == 0


def test_values_and_several_values():
    one = Target("values", ("y",))
    found, _ = judged(one, pa.table({"prediction": [1.0, 2.0, 3.0]}), pa.array([1.5, None, 1.0]))
    assert (found.value("mae"), found.value("mse")) == (1.25, 2.125)
    two = Target("values", ("y", "z"))
    said, _ = predictions_of(pa.table({"prediction_y": [1.0], "prediction_z": [2.0]}), two)
    assert outcomes_of(two, said, None, labels=[[2.0, 4.0]])[0].value("mae") == 1.5
    assert labels_of(pa.array([[2.0, 4.0], None]), two) == [[2.0, 4.0], None]
    with pytest.raises(InputError, match="labels have 1 values, answers 2"):
        outcomes_of(two, said, None, labels=[2.0])


def test_labels_are_compared_one_by_one():
    target = Target("labels", ("tags",), ("a", "b", "c", "d"), ";")
    answers = pa.table({"prediction": [["a"], ["b", "c"]]})
    assert judged(target, answers, pa.array(["a; b", "b;c"]))[0].rows["accuracy"].tolist() == [0.75, 1.0]
    assert judged(target, answers, pa.array([["a"], None]))[0].rows["accuracy"].tolist() == [1.0]


def test_as_many_labels_as_answers(target):
    with pytest.raises(InputError, match="1 labels are given for 2 answers"):
        outcomes_of(target, ["no", "no"], None, labels=["no"])

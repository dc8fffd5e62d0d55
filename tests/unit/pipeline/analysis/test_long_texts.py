"""One long text among many short ones fills no memory when rows are asked again, and changes no number."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

import deepseek
from deepseek.data.batch import PADDED_ELEMENTS
from deepseek.explainers.importance import column_shuffles
from deepseek.pipeline.analysis import predictions
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.pipeline.analysis.importance import Scorer, importance_facts
from deepseek.pipeline.analysis.predictions import predict_split, table_rows
from deepseek.tasks.model import TaskModel


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The model, the dataset and the test rows of a run on texts of 1 to 3 words, and two of 400."""
    folder = tmp_path_factory.mktemp("texts")
    random = np.random.default_rng(0)
    words = np.array(["good", "bad", "dull", "fine"])
    texts = [" ".join(random.choice(words, count)) for count in [*random.integers(1, 4, 638), 400, 400]]
    table = pa.table({"t": texts, "n": random.standard_normal(640), "y": ["yes" if "good" in text else "no" for text in texts]})
    test = pa.concat_tables([table.slice(400), table.slice(0, 100)])
    pa.csv.write_csv(table.slice(0, 400), folder / "job.csv")
    pa.csv.write_csv(test, folder / "test.csv")
    overrides = ["train.max_steps=3", f"data.test={folder / 'test.csv'}", "data.fields={t: text}", "train.precision=fp32"]
    model = "model={type: text_bag, width: 8}"
    run = FinishedRun.open(
        deepseek.train(folder / "job.csv", target="y", out=folder / "runs", overrides=[*overrides, model], progress=False).run
    )
    dataset = run.dataset()
    return run.model(), dataset, dataset.open("test")


@pytest.fixture
def met(monkeypatch):
    """How many elements of texts the model met at once."""
    sizes = []
    forward = TaskModel.forward

    def recorded(self, inputs):
        sizes.append(inputs["t"].numel())
        return forward(self, inputs)

    monkeypatch.setattr(TaskModel, "forward", recorded)
    return sizes


def test_rows_are_asked_in_batches_that_fit(asked, met, monkeypatch):
    model, _, data = asked
    assert len(data) * int(data.lengths(np.arange(len(data))).max()) > PADDED_ELEMENTS
    found = predict_split(model, data, "test", rows=1_000)
    assert max(met) <= PADDED_ELEMENTS
    monkeypatch.setattr(predictions, "rows_within", lambda dataset, rows: rows)
    met.clear()
    whole = predict_split(model, data, "test", rows=1_000)
    assert max(met) > PADDED_ELEMENTS
    torch.testing.assert_close(found.decoded, whole.decoded)


def test_importance_is_measured_in_batches_that_fit_and_unpadded_rows_score_the_same(asked, met):
    model, dataset, data = asked
    found = predict_split(model, data, "test", rows=1_000)
    met.clear()
    score = Scorer(model, data, places=found.places, metric="log_loss")
    probability = found.decoded["probability"].gather(1, found.target.long()[:, None])
    assert score(score.inputs) == pytest.approx(-float(probability.double().log().mean()), rel=1e-5)
    assert max(met) <= PADDED_ELEMENTS
    assert score.inputs["t"].values.size < PADDED_ELEMENTS / 10
    table = table_rows(dataset, data, found)
    facts = importance_facts(model, data, predictions=found, table=table, preparation=dataset.preparation(), metric="log_loss", seed=0)
    assert {name for name, *_ in facts.columns} == {"t", "n"}
    assert max(met) <= PADDED_ELEMENTS


def test_a_shuffled_text_is_the_text_of_another_row(asked):
    _, dataset, data = asked
    inputs = Scorer(asked[0], data, places=np.arange(340), metric="log_loss").inputs
    order = np.random.default_rng(0).permutation(340)
    changed = column_shuffles(dataset.preparation(), pa.record_batch({"t": [""], "n": [0.0]}), inputs)["t"](order)
    assert list(changed) == ["t"]
    values = changed["t"]
    for place, row in enumerate(order[:20]):
        mine = values.values[values.offsets[place] : values.offsets[place + 1]]
        np.testing.assert_array_equal(mine, data.ragged("t", np.array([row])).values)


def test_without_ragged_columns_the_rest_of_the_rows_is_taken(asked):
    _, _, data = asked
    rows = np.array([5, 0, 339])
    whole, rest = data.take(rows), data.take(rows, ragged=False)
    assert set(whole.inputs) - set(rest.inputs) == {"t", "t_mask"}
    for name, tensor in rest.inputs.items():
        assert torch.equal(tensor, whole.inputs[name])

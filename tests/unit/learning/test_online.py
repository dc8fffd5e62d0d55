import json

import numpy as np
import pytest
import torch
from tests.small import Net

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.errors import InputError, NonFiniteError
from deepseek.learning import OnlineLearner, progressive_validation
from deepseek.statistics.detectors import Adwin, Ddm
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.tasks.regression import RegressionTask


class Model(torch.nn.Module):
    """A network of three classes with its task, as `TaskModel` is one."""

    def __init__(self, kind="classes"):
        super().__init__()
        self.net = Net()
        spec = TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3)
        self.task = MulticlassTask(spec) if kind == "classes" else RegressionTask(TargetSpec("values", ("y",), mean=(0.0,), std=(1.0,)))

    def forward(self, inputs):
        return self.net(inputs)

    def predict(self, inputs):
        return self.task.decode(self(inputs))


def stream(rows, *, change=None, size=16, seed=0):
    """Batches of which the class follows the first two numbers; from `change` on it follows them the other way round."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows, 4)).astype(np.float32)
    sign = np.where(np.arange(rows) < (change or rows), 1, -1)
    y = (sign * x[:, 0] > 0).astype(np.int64) + (sign * x[:, 1] > 0.5)
    for start in range(0, rows, size):
        part = slice(start, start + size)
        yield Batch({"x": torch.from_numpy(x[part])}, {"target": torch.from_numpy(y[part])})


def learner(**settings):
    return OnlineLearner(Model(), optimizer={"type": "adam", "learning_rate": 0.01}, **settings)


def test_it_learns_from_a_stream_and_beats_the_no_change_predictor():
    found = progressive_validation(learner(), stream(3000))
    assert found.rows == 3000
    assert found.accuracy > 0.75
    assert found.no_change < 0.5
    assert found.curve[-1][1] > found.curve[0][1]
    assert json.loads(json.dumps(found.to_json()))["rows"] == 3000


def test_every_row_is_answered_before_it_is_learned_from():
    """Truth that is drawn by lot cannot be foreseen: an accuracy above chance would come from rows that were seen."""
    draw = np.random.default_rng(0)
    batches = [Batch({"x": torch.randn(8, 4)}, {"target": torch.from_numpy(draw.integers(0, 3, 8))}) for _ in range(300)]
    assert progressive_validation(learner(replay=50), batches).accuracy == pytest.approx(1 / 3, abs=0.04)


def test_the_no_change_predictor_is_the_previous_rows_truth_across_batches():
    truth = np.array([0, 0, 1, 1, 1, 2, 2, 0])
    batches = [Batch({"x": torch.zeros(2, 4)}, {"target": torch.from_numpy(truth[n : n + 2])}) for n in range(0, 8, 2)]
    assert progressive_validation(learner(), batches).no_change == (truth[1:] == truth[:-1]).sum() / 8


@pytest.mark.parametrize("detector", [Adwin, Ddm])
def test_a_change_is_seen_and_recovered_from(detector):
    found = progressive_validation(learner(), stream(4000, change=2000), detectors={"one": detector()}, forget_at="one", point_rows=500)
    assert any(2000 <= place < 2300 for place in found.changes["one"])
    assert found.curve[4][1] < 0.65
    assert found.curve[-1][1] > 0.7


def test_having_learned_is_no_reason_to_forget():
    one = learner(replay=5)
    found = progressive_validation(one, stream(2500), detectors={"adwin": Adwin(delta=0.5, clock=1)}, forget_at="adwin")
    assert found.changes["adwin"]  # it sees that errors have become fewer
    assert found.accuracy > 0.75


def test_rehearsal_is_bounded_and_forgotten():
    one = learner(replay=3)
    for batch in stream(160):
        one.learn(batch)
    assert len(one._kept) == 3
    one.forget()
    assert len(one._kept) == 0


def test_the_curve_is_bounded_whatever_the_length():
    found = progressive_validation(learner(), stream(3000, size=10), point_rows=1)
    assert 50 <= len(found.curve) <= 100
    assert sum(share * (end - start) for (end, share, _), start in zip(found.curve, [0, *(p[0] for p in found.curve)], strict=False)) > 0


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="no share of right answers"):
        progressive_validation(OnlineLearner(Model("values")), [])
    with pytest.raises(InputError, match="forget_at is 'ddm'"):
        progressive_validation(learner(), [], forget_at="ddm")
    with pytest.raises(InputError, match="no row"):
        progressive_validation(learner(), [])
    with pytest.raises(InputError, match="replay is -1"):
        learner(replay=-1)


def test_rows_that_weigh_nothing_teach_nothing():
    one, other = learner(replay=2), learner(replay=2)
    other.load_state(*one.state())
    for batch in stream(64):
        half = torch.arange(len(batch)) < 8
        one.learn(Batch(batch.inputs, batch.targets, half.float()))
        other.learn(Batch({"x": batch.inputs["x"][half]}, {"target": batch.targets["target"][half]}))
    before = [parameter.clone() for parameter in one.model.parameters()]
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in zip(before, other.model.parameters(), strict=True))
    alone = learner()
    alone.model.load_state_dict(one.model.state_dict())
    alone.learn(Batch(batch.inputs, batch.targets, torch.zeros(16)))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before, alone.model.parameters(), strict=True))


def test_a_single_row_is_learned_where_batches_are_normalised():
    """The last batch of a stream may hold one row, which has no variance."""
    one = learner(replay=1)
    one.model.net = torch.nn.ModuleDict({"norm": torch.nn.BatchNorm1d(4), "net": one.model.net})
    one.model.forward = lambda inputs: one.model.net["net"]({"x": one.model.net["norm"](inputs["x"])})
    first, second = stream(17)
    one.learn(first)
    seen = one.model.net["norm"].running_mean.clone()
    one.learn(second)
    assert not torch.equal(seen, one.model.net["norm"].running_mean)  # of the whole batch that was rehearsed
    one.forget()
    seen = one.model.net["norm"].running_mean.clone()
    one.learn(second)
    assert torch.equal(seen, one.model.net["norm"].running_mean)


def test_a_step_that_would_lose_the_model_is_refused():
    one = learner()
    (batch,) = stream(8)
    before = [parameter.clone() for parameter in one.model.parameters()]
    batch.inputs["x"][0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match=r"the loss of a batch of 8 rows is nan.*nothing is learned"):
        one.learn(batch)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before, one.model.parameters(), strict=True))

"""PyTorch's generators are the whole process's: a fit draws from its own seeds and leaves them as they were."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

import deepseek
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback


def fitted(small, *callbacks):
    net = small.net(dropout=0.5)
    torch.manual_seed(77)
    settings = TrainSettings(epochs=2, batch_size=32, precision="fp32")
    Trainer(net, small.task(), small.data(), settings=settings, callbacks=callbacks).fit()
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def drawn_after(seed):
    return torch.rand(4, generator=torch.Generator().manual_seed(seed))


class Drawing(Callback):
    def __init__(self):
        self.states = []

    def on_step(self, trainer):
        self.states.append(torch.get_rng_state())
        torch.rand(3)


class Failing(Callback):
    def on_step(self, trainer):
        raise RuntimeError("a callback's fault")


def test_a_fit_leaves_the_generator_as_it_was(small):
    fitted(small)
    assert torch.equal(torch.rand(4), drawn_after(77))


def test_so_does_one_that_fails(small):
    with pytest.raises(RuntimeError, match="fault"):
        fitted(small, Failing())
    assert torch.equal(torch.rand(4), drawn_after(77))


def test_inside_the_fit_dropout_draws_from_the_fit_s_own_seeds(small):
    plain, moved = fitted(small), Drawing()
    assert torch.equal(fitted(small, moved), plain)
    assert not any(torch.equal(state, torch.Generator().manual_seed(77).get_state()) for state in moved.states)


@pytest.mark.parametrize("by", ["train", "estimator", "preview"])
def test_the_whole_road_leaves_it_as_it_was_and_does_not_hang_on_it(tmp_path, by):
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 2)).astype(np.float32)
    y = np.where(x[:, 0] > 0, "yes", "no")
    pa.csv.write_csv(pa.table({"a": x[:, 0], "b": x[:, 1], "y": y}), tmp_path / "d.csv")
    job = {"name": "d", "data": {"source": str(tmp_path / "d.csv"), "target": "y"}, "model": {"type": "mlp", "dropout": 0.3}}
    job["train"] = {"max_steps": 5, "precision": "fp32", "batch_size": 32}
    found = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        if by == "train":
            found.append((deepseek.run(job, out=tmp_path / str(seed)).run / "bundle" / "weights.safetensors").read_bytes())
        elif by == "estimator":
            model = deepseek.DeepSeekClassifier(model="mlp", epochs=2, random_state=1, device="cpu")
            found.append(model.fit(x, y).predict_proba(x).tobytes())
        else:
            deepseek.preview(job, out=tmp_path / "runs")
        assert torch.equal(torch.rand(4), drawn_after(seed))
    assert len(set(found)) <= 1

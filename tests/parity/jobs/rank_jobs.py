"""What ranks do in the tests: functions of a module, so that a fresh process can import them."""

from __future__ import annotations

import os
import time

import numpy as np
import torch
from torch import nn

from deepseek.data.augment.base import Augmentation
from deepseek.data.batch import Batch
from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.distributed import GradientSync
from deepseek.errors import DataError
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings, evaluate


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, inputs):
        return self.net(inputs["x"]).unsqueeze(1)


class Noise(Augmentation):
    def apply(self, batch, draw):
        return Batch({"x": batch.inputs["x"] + draw.uniform(len(batch), 4)}, batch.targets, batch.weight, batch.row)


def rows(count: int, seed: int) -> PreparedDataset:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    return PreparedDataset.from_arrays({"x": x}, {"target": y}, weight=generator.random(count).astype(np.float32))


def fit(context, folder=None, resume=False, **changes):
    """Train on 81 weighted rows in batches of 16: the last batch of an epoch has one row, and a rank has none of it."""
    given = {"epochs": 18, "batch_size": 16, "precision": "fp32", "optimizer": {"type": "sgd", "learning_rate": 0.05}, "clip_norm": 1.0}
    settings = TrainSettings(**{**given, **changes})
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))
    trainer = Trainer(Net(), task, rows(81, 0), rows(33, 1), settings=settings, augment=[Noise({})], folder=folder, ranks=context)
    result = trainer.fit(resume=resume)
    weights = {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()}
    return weights, result.history, trainer.state.step


def fit_with(context, folder, resume, changes):
    return fit(context, folder, resume, **changes)


def fit_and_measure_all(context, cases):
    return [fit_and_measure(context, **case) for case in cases]


def fit_and_measure(context, *, validate, **changes):
    """Return what is measured at the end on all ranks, and what rank 0 measures alone with the weights that it would write."""
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))
    given = {"epochs": 3, "batch_size": 16, "precision": "fp32", "optimizer": {"type": "sgd", "learning_rate": 0.5}}
    test, model = rows(64, 2), Net()
    model.net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    trainer = Trainer(model, task, rows(81, 0), test if validate else None, settings=TrainSettings(**{**given, **changes}), ranks=context)
    result = trainer.fit()
    together = evaluate(
        model, task, Loader(test, batch_size=16, rank=context.rank, ranks=context.ranks, shuffle=False).batches(0), context=context
    )
    alone = evaluate(model, task, Loader(test, batch_size=16, shuffle=False).batches(0))
    return together, alone, result.best, trainer.state.decisions


def fail_on_rank_1(context):
    if context.rank == 1:
        raise DataError("row 7 is broken", hint="mend it")
    torch.distributed.barrier()


def fail_strangely_on_rank_1(context):
    if context.rank == 1:
        raise ZeroDivisionError("seven")
    torch.distributed.barrier()


def die_on_rank_1(context):
    if context.rank == 1:
        os._exit(9)
    torch.distributed.barrier()


def wait_and_tell(context, path):
    path.joinpath(str(context.rank)).write_text(str(os.getpid()))
    time.sleep(600)


def parent(path):
    from deepseek.distributed import launch

    launch(wait_and_tell, 2, path, device="cpu")


def overlap(context):
    """Return how many sums had been started when the backward pass ended, of how many buckets."""
    net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)])
    sync = GradientSync(list(net.parameters()), bucket_bytes=300)
    sync.zero()
    sync.arm(torch.tensor(float(context.rank + 1)))
    net(torch.ones(2, 8)).sum().backward()
    started = len(sync._started)
    total = sync.finish()
    return started, len(sync._flats), float(total), context.rank

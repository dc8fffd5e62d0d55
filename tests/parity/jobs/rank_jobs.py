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
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.distributed import GradientSync
from deepseek.errors import DataError
from deepseek.fields import Kind
from deepseek.models.network import Network
from deepseek.models.sequence import SequenceNetwork
from deepseek.tasks.detection import DetectionTask
from deepseek.tasks.language_modelling import LanguageModellingTask
from deepseek.tasks.model import TaskModel
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings, evaluate
from deepseek.training.callbacks.base import Callback


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


def fit(context, folder=None, resume=False, callbacks=(), **changes):
    """Train on 81 weighted rows in batches of 16: the last batch of an epoch has one row, and a rank has none of it."""
    given = {"epochs": 18, "batch_size": 16, "precision": "fp32", "optimizer": {"type": "sgd", "learning_rate": 0.05}, "clip_norm": 1.0}
    settings = TrainSettings(**{**given, **changes})
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))
    data, others = (rows(81, 0), rows(33, 1)), {"folder": folder, "ranks": context, "callbacks": callbacks}
    trainer = Trainer(Net(), task, *data, settings=settings, augment=[Noise({})], **others)
    result = trainer.fit(resume=resume)
    weights = {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()}
    return weights, result.history, trainer.state.step


def fit_with(context, folder, resume, changes):
    return fit(context, folder, resume, **changes)


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 16, 3))

    def forward(self, inputs):
        return self.net(inputs["x"]).unsqueeze(1)


def fit_pictures(context, optimizer):
    """Train a convolution on 45 weighted pictures, with their channels last."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((45, 3, 6, 6)).astype(np.float32)
    y = (x[:, 0, 2, 3] > 0).astype(np.int64) + (x[:, 1, 3, 2] > 0.5)
    data = PreparedDataset.from_arrays({"x": x}, {"target": y}, weight=generator.random(45).astype(np.float32))
    settings = TrainSettings(epochs=3, batch_size=8, precision="fp32", channels_last=True, clip_norm=1.0, optimizer=optimizer)
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))
    trainer = Trainer(Pictures(), task, data, settings=settings, ranks=context)
    trainer.fit()
    return {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()}


def fit_all_pictures(context, optimizers):
    return [fit_pictures(context, optimizer) for optimizer in optimizers]


class Disagree(Callback):
    """Makes every rank but the first see a spike in every step."""

    def on_fit_start(self, trainer):
        if not trainer.is_main:
            trainer.step.adaptive.clip[0].state["quantile"].zero_()


def fit_in_disagreement(context):
    """Train with steps that may be left out, on ranks whose own norms say otherwise."""
    changes = {"epochs": 2, "clip_norm": None, "clip": [{"type": "skip_spikes", "factor": 3.0, "warmup": 5}]}
    return fit(context, callbacks=[Disagree()], **changes)


class Kill(Callback):
    """Dies in the middle of an epoch, after the checkpoint of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, trainer):
        if trainer.state.step == self.step:
            raise KeyboardInterrupt


TEXT = {"text": InputSpec("text", Kind.TEXT, ("text",), (), "int32", cardinalities=(30,), ragged=True)}


def texts(count: int, seed: int) -> PreparedDataset:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 20, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(4, 30, offsets[-1]).astype(np.int32)
    ids[offsets[:-1]] = 2
    target = np.array([np.isin(row, (5, 6)).sum().clip(0, 2) for row in np.split(ids, offsets[1:-1])])
    weight = generator.random(count).astype(np.float32)
    return PreparedDataset.from_arrays({"text": Ragged(ids, offsets)}, {"target": target}, weight=weight, specs=TEXT)


def fit_texts(context, encoder, folder=None, resume=False, callbacks=(), **changes):
    """Train on 549 weighted texts, grouped by length in two stretches; the last batch has 5 of them, so that a rank has 2."""
    # so gently that a difference in the last bit stays one: a larger rate doubles it every few steps
    optimizer = {"type": "sgd", "learning_rate": 0.05, "momentum": 0.0}
    given = {"epochs": 1, "batch_size": 8, "precision": "fp32", "optimizer": optimizer, "clip_norm": 1.0}
    torch.manual_seed(0)
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))
    model = TaskModel(Network(TEXT, {}, encoders={"text": encoder}, trunk={"type": "mlp", "width": 16, "depth": 1, "dropout": 0.0}), task)
    settings = TrainSettings(**{**given, **changes})
    trainer = Trainer(model, task, texts(549, 0), texts(77, 1), settings=settings, folder=folder, ranks=context, callbacks=callbacks)
    result = trainer.fit(resume=resume)
    history = [{name: value for name, value in entry.items() if name != "seconds"} for entry in result.history]
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, history


def fit_all_texts(context, encoders):
    return [(fit_texts(context, encoder), fit_texts(context, encoder, accumulate=2)) for encoder in encoders]


LENGTHS = (0, 1, 0, 0, *(1 for _ in range(26)))


def book(count: int, seed: int) -> PreparedDataset:
    """A text whose next token hangs on one that lies further back than a window reaches."""
    ids = np.random.default_rng(seed).integers(4, 30, count).astype(np.int32)
    ids[9::2] = ids[:-9:2]
    return PreparedDataset.from_arrays({"text": Ragged(ids, np.array([0, count]))}, specs=TEXT)


def fit_language(context, model, folder=None, resume=False, callbacks=(), **changes):
    """Train a small language model in five lanes, or on windows in a random order, over two epochs."""
    optimizer = {"type": "sgd", "learning_rate": 0.05, "momentum": 0.0}
    given = {"epochs": 2, "batch_size": 5, "precision": "fp32", "optimizer": optimizer, "clip_norm": 1.0}
    torch.manual_seed(0)
    encoder = {"width": 16, "depth": 2, "heads": 2, "dropout": 0.0, "embedding_scale": 0.3, **model}
    task = LanguageModellingTask(TargetSpec("tokens", ("text",), lengths=LENGTHS), length=6)
    network = TaskModel(SequenceNetwork(TEXT, {}, encoder=encoder), task)
    settings = TrainSettings(**{**given, **changes})
    trainer = Trainer(network, task, book(700, 0), book(211, 1), settings=settings, folder=folder, ranks=context, callbacks=callbacks)
    result = trainer.fit(resume=resume)
    history = [{name: value for name, value in entry.items() if name != "seconds"} for entry in result.history]
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}, history


def fit_language_and_again(context, model, folder):
    """Train, and in the folder train again until it is killed, and once more; elsewhere somebody goes on."""
    whole = fit_language(context, model)
    for resume, last in ((False, 20), (True, 30)):
        try:
            fit_language(context, model, folder, resume=resume, checkpoint_every=10, callbacks=[Kill(last)])
        except KeyboardInterrupt:
            torch.distributed.barrier()  # rank 0 has written it
        else:
            raise AssertionError("nobody killed it")
    return whole


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


class Found(nn.Module):
    """Says what it is given: random answers that were drawn beforehand."""

    def forward(self, inputs):
        return inputs["out"]


def find(context, rows=23):
    """Measure a detector's answers on uneven shares of some pictures."""
    torch.manual_seed(0)
    task = DetectionTask(
        TargetSpec("boxes", ("boxes",), ("a", "b"), (1, 1), 2, shape=(64, 64)), metrics=["map50", "map", "box_recall", "miss_rate"]
    )
    corner, size = torch.rand(rows, 4, 2) * 40, torch.rand(rows, 4, 2) * 15 + 8
    truth = torch.cat([corner, corner + size, torch.randint(0, 2, (rows, 4, 1)), torch.zeros(rows, 4, 1)], dim=-1)
    middle = corner + size / 2 + torch.randn(rows, 4, 2)
    out = torch.cat([torch.zeros(rows, 4, 2), (size / 8).log(), torch.randn(rows, 4, 2), middle, torch.full((rows, 4, 1), 8.0)], dim=-1)
    share = torch.arange(rows)[: rows // 3] if context.rank else torch.arange(rows)[rows // 3 :]
    share = torch.arange(rows) if context.is_single else share
    parts = [Batch({"out": out[some]}, {"target": truth[some]}, row=some) for some in share.split(5)]
    return evaluate(Found(), task, parts, context=context)

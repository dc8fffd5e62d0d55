"""What ranks do in the tests of strategies: functions of a module, so that a fresh process can import them."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from rank_jobs import fit_texts
from torch import nn

from deepseek.data.augment.base import Augmentation
from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import DeepSeekError
from deepseek.fields import Kind
from deepseek.models.network import Network
from deepseek.tasks.model import TaskModel
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training import trainer as trainer_module
from deepseek.training.callbacks.base import Callback
from deepseek.training.checkpoints import files, keeper, shards

TRUNKS = {
    "mlp": {"type": "mlp", "width": 16, "depth": 4, "dropout": 0.0},
    "dropping": {"type": "mlp", "width": 16, "depth": 4, "dropout": 0.2, "normalization": "layer"},
    "ways_round": {"type": "mlp", "width": 16, "depth": 5, "dropout": 0.0, "residual_every": 2, "normalization": "layer"},
    "residual": {"type": "residual", "width": 12, "depth": 3, "dropout": 0.0, "normalization": "layer"},
    "normed": {"type": "mlp", "width": 16, "depth": 4, "dropout": 0.0, "normalization": "batch"},
    "tabm": {"type": "tabm", "width": 8, "depth": 3, "members": 3, "dropout": 0.0, "variant": "mini"},
}
SPECS = {"x": InputSpec("x", Kind.NUMBER, ("a", "b", "c", "d"), (4,), "float32")}


def rows(count: int, seed: int) -> PreparedDataset:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    return PreparedDataset.from_arrays({"x": x}, {"target": y}, weight=generator.random(count).astype(np.float32), specs=SPECS)


class Noise(Augmentation):
    """Random changes of the rows, which have to come again as they were."""

    def apply(self, batch, draw):
        return Batch({"x": batch.inputs["x"] + 0.1 * draw.uniform(len(batch), 4)}, batch.targets, batch.weight, batch.row)


def model_of(trunk: str) -> TaskModel:
    torch.manual_seed(0)
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))
    encoder = {"type": "table", "numbers": "identity"}
    return TaskModel(Network(SPECS, {}, encoders={"table": encoder}, trunk=TRUNKS[trunk]), task)


def fit(context, strategy, *, trunk="mlp", folder=None, resume=False, callbacks=(), augment=(), count=81, **changes):
    """Train on 81 weighted rows in batches of 16: the last batch of an epoch has one row, and a rank has none of it."""
    given = {"epochs": 4, "batch_size": 16, "precision": "fp32", "clip_norm": 0.5, "ema": 0.9, "l2": 0.01}
    optimizer = {"type": "adamw", "learning_rate": 0.01}
    settings = TrainSettings(**{**given, "optimizer": optimizer, "strategy": strategy, **changes})
    model = model_of(trunk)
    given = {"settings": settings, "folder": folder, "ranks": context, "callbacks": callbacks, "augment": augment}
    trainer = Trainer(model, model.task, rows(count, 0), rows(33, 1), **given)
    result = trainer.fit(resume=resume)
    history = [{name: value for name, value in entry.items() if name != "seconds"} for entry in result.history]
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return weights, history, trainer.state.decisions.get("strategy")


def fit_all(context, cases):
    return [fit(context, **case) for case in cases]


def refusals(context, cases):
    """Return what each case is refused with."""
    words = []
    for case in cases:
        try:
            fit(context, **case)
        except DeepSeekError as error:
            words.append(f"{error}")
        else:
            words.append("nothing")
    return words


def fit_texts_by(context, strategies):
    """Train a small Transformer on texts of unequal length, one strategy after the other."""
    encoder = {"type": "text_transformer", "width": 16, "heads": 2, "depth": 2, "dropout": 0.0}
    return [fit_texts(context, encoder, strategy=strategy, max_steps=30) for strategy in strategies]


class Stop(Callback):
    """Ends the training after the checkpoint of a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, trainer):
        if trainer.state.step == self.step:
            raise KeyboardInterrupt


def fit_until(context, step, case):
    """Train until the checkpoint of a step."""
    try:
        fit(context, callbacks=[Stop(step)], checkpoint_every=step, **case)
    except KeyboardInterrupt:
        return "stopped"
    raise AssertionError("nobody stopped it")


def fit_until_all(context, step, cases):
    return [fit_until(context, step, case) for case in cases]


def fit_broken_off(context, folder, step, cases):
    """Train each case to its end, again until the checkpoint of a step, and go on from there; return both ends."""
    found = []
    for number, case in enumerate(cases):
        whole = fit(context, augment=[Noise({})], **case)
        place = folder / str(number)
        fit_until(context, step, {**case, "folder": place, "augment": [Noise({})]})
        if not context.is_single:
            dist.barrier()  # rank 0 has written it
        torch.rand(7)  # whoever goes on is another process with other generators
        found.append((whole, fit(context, augment=[Noise({})], folder=place, resume=True, checkpoint_every=step, **case)))
    return found


def go_on(context, case):
    return fit(context, resume=True, **case)


def go_on_all(context, cases):
    return [go_on(context, case) for case in cases]


def go_on_apart(context, folders):
    """Go on from folders that the ranks do not share, as where a disk shows one of them less than another."""
    keeper.SEEN_S = 0.5
    return go_on(context, {"strategy": "ddp", "folder": folders[context.rank]})


class Entwined(nn.Module):
    """A chain in which two layers of one stage have the same weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in ((4, 8), (8, 8), (8, 8), (8, 16), (16, 3)))
        self.blocks[2].weight = self.blocks[1].weight

    def chain(self):
        return [_Take(), *(nn.Sequential(block, nn.Tanh()) for block in self.blocks), nn.Unflatten(1, (1, 3))]

    def forward(self, inputs):
        out = inputs
        for part in self.chain():
            out = part(out)
        return out


class _Take(nn.Module):
    def forward(self, inputs):
        return inputs["x"]


def fit_entwined(context, strategy, *, folder=None, resume=False, callbacks=(), **changes):
    """Train the chain with the weight that two of its layers share."""
    given = {"epochs": 2, "batch_size": 16, "precision": "fp32", "ema": 0.9, "clip_norm": 0.5}
    optimizer = {"type": "adamw", "learning_rate": 0.01}
    settings = TrainSettings(**{**given, "optimizer": optimizer, "strategy": strategy, **changes})
    task, others = model_of("mlp").task, {"folder": folder, "ranks": context, "callbacks": callbacks}
    trainer = Trainer(Entwined(), task, rows(81, 0), rows(33, 1), settings=settings, **others)
    history = trainer.fit(resume=resume).history
    weights = {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()}
    return weights, [{name: value for name, value in entry.items() if name != "seconds"} for entry in history], None


def fit_entwined_broken_off(context, folder, strategies):
    """Train by each strategy until the fifth step, and go on from there; return the ends."""
    found = []
    for strategy in strategies:
        place = folder / strategy
        try:
            fit_entwined(context, strategy, folder=place, callbacks=[Stop(5)], checkpoint_every=5)
        except KeyboardInterrupt:
            dist.barrier()
        found.append(fit_entwined(context, strategy, folder=place, resume=True))
    return found


def fit_signalled(context, rank, step, number, case):
    """Train until a signal comes to one rank alone, as where the machine that it runs on is taken back."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as under torchrun, where nobody tells the ranks but torchrun
    return fit(context, callbacks=[AtStep(rank, step, lambda: signal.raise_signal(number))], **case)


class Slowly(Callback):
    """Gives whoever looks on the time to do something, and says when it may."""

    def on_step(self, trainer):
        time.sleep(0.02)
        if trainer.is_main and trainer.state.step == 5:
            (trainer.folder / "begun").touch()


def fit_slowly(context, folder):
    return fit(context, "ddp", folder=folder, callbacks=[Slowly()], epochs=2000, log_every=5)


def fit_signalled_on_a_full_disk(context, case):
    """Be told to end, and have no room for what is to be saved."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    files.save_file = full
    return fit_signalled(context, 1, 7, signal.SIGINT, case)


def fit_and_disagree(context, folder):
    """Train in parts, on ranks of which one finds other metrics than the rest; each writes down what it has seen."""
    evaluate, measured = trainer_module.evaluate, []

    def other(*args, **kwargs):
        measured.append(1)
        found = evaluate(*args, **kwargs)
        return {name: value + 0.1 * len(measured) * context.rank for name, value in found.items()}

    trainer_module.evaluate = other
    try:
        history = fit(context, "fsdp", ema=None, monitor="loss")[1]
    finally:
        trainer_module.evaluate = evaluate
    (folder / f"history-{context.rank}").write_text(json.dumps(history))


def flops_by(context, strategies):
    """Return how many operations a row is said to ask for."""

    class Asked(Callback):
        def on_fit_end(self, trainer):
            self.found = trainer.usage.flops_per_row, trainer.usage.mfu

    found = []
    for strategy in strategies:
        asked = Asked()
        fit(context, strategy, callbacks=[asked], epochs=1, peak_tflops=1e-3)
        found.append(asked.found)
    return found


NORMED = {"strategy": "ddp", "trunk": "normed", "count": 83, "ema": None}
"""Batch statistics, and three rows left for the last batch of an epoch: enough for one rank, too few for two."""


def fit_together(context, folder):
    """Do what several tests look at; where it is the same error on all ranks, its words stand for what it comes to."""
    fit_until(context, 5, {**NORMED, "folder": folder / "two"})
    fit_until(context, 5, {"strategy": "ddp", "folder": folder / "apart"})
    in_pieces = {"trunk": "normed", "count": 101, "ema": None, "epochs": 2}
    fit_and_disagree(context, folder)
    return {
        "refused": refusals(context, [{**NORMED, "folder": folder / "one", "resume": True}])[0],
        "normed": fit_all(context, [{**in_pieces, "strategy": "fsdp", "accumulate": 4}, {**in_pieces, "strategy": "ddp"}]),
        "entwined": fit_entwined_broken_off(context, folder / "entwined", ["pipeline", "fsdp"]),
        "flops": flops_by(context, ["ddp", "fsdp", "tensor", "pipeline"]),
    }


class AtStep(Callback):
    """Does something on one rank when a step is about to be counted."""

    def __init__(self, rank: int, step: int, what) -> None:
        self.rank, self.step, self.what = rank, step, what

    def on_step(self, trainer):
        if trainer.ranks.rank == self.rank and trainer.state.step == self.step:
            self.what()


def sleep_long():
    time.sleep(600)


def hang(context, rank, step):
    return fit(context, "ddp", callbacks=[AtStep(rank, step, sleep_long)], stall_s=3.0)


def freeze(context, rank, step, folder):
    def stop():
        time.sleep(2.5)  # until it has written that it is here
        (folder / "pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)

    return fit(context, "ddp", callbacks=[AtStep(rank, step, stop)], stall_s=3.0)


def cut_the_network():
    """End every connection of this process, as a cable that is pulled out does: nothing is said, and nothing comes any more."""
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as connection:
                    if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # what listed the folder is closed again


def cut(context, rank, step, case):
    return fit(context, callbacks=[AtStep(rank, step, cut_the_network)], **case)


def kill(context, rank, step, strategy):
    return fit(context, strategy, callbacks=[AtStep(rank, step, lambda: os.kill(os.getpid(), signal.SIGKILL))])


def fit_on_a_full_disk(context, good, case):
    """Train with a disk that has room for so many checkpoints of rank 1, and no more."""
    written = []

    def save_file(tensors, path):
        written.append(path)
        if context.rank == 1 and len(written) > good - 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        shards_save(tensors, path)

    shards_save, shards.save_file = shards.save_file, save_file
    return fit(context, **case)

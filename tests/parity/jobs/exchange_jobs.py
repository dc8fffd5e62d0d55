"""What ranks do in the tests of exchanges and shares: functions of a module, so that a fresh process can import them."""

from __future__ import annotations

import json
import shutil

import torch
import torch.distributed as dist
from rank_jobs import Kill, Net, Noise, rows
from torch import nn

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.distributed import GradientSync
from deepseek.distributed.exchange import Exchange
from deepseek.distributed.pace import Pace
from deepseek.errors import DeepSeekError
from deepseek.optim import make_adaptive
from deepseek.registry import family
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.json_lines import JsonLines
from deepseek.training.step import StepRules, TrainingStep


class Wide(Net):
    """A network with a matrix that is worth two factors."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 3))


class Pretence(Callback):
    """Makes ranks take as long as they are told to for a row, whatever the clock says."""

    def __init__(self, seconds) -> None:
        self.seconds = seconds

    def on_fit_start(self, trainer):
        seconds = self.seconds[trainer.ranks.rank]

        class Pretended(Pace):
            rows = 0

            def take(self):
                taken, self.rows = trainer._rows - self.rows, trainer._rows
                return taken * seconds

        assert trainer.balance._pace is not None
        trainer.balance._pace = Pretended(trainer.ranks.device)


def train(context, folder=None, resume=False, callbacks=(), model=Net, **changes):
    """Train on 81 weighted rows in batches of 16: an epoch's last batch has one row, and a rank has none of it."""
    given = {
        "epochs": 40,
        "max_steps": 200,
        "batch_size": 16,
        "precision": "fp32",
        "optimizer": {"type": "sgd", "learning_rate": 0.05},
        "clip_norm": 1.0,
        "log_every": 10,
        "validate_every": 20,
        "validate_unit": "steps",
    }
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3))
    trainer = Trainer(
        model(),
        task,
        rows(81, 0),
        rows(33, 1),
        settings=TrainSettings(**{**given, **changes}),
        augment=[Noise({})],
        folder=folder,
        ranks=context,
        callbacks=callbacks,
    )
    result = trainer.fit(resume=resume)
    weights = {name: tensor.numpy().copy() for name, tensor in trainer.model.state_dict().items()}
    history = [{name: value for name, value in entry.items() if name != "seconds"} for entry in result.history]
    return weights, history, trainer


def train_all(context, cases):
    """Return weights and history of each case."""
    return [train(context, **case)[:2] for case in cases]


def train_and_resume(context, folder, cases):
    """Train each case, again until killed in the middle of an epoch, and go on; return both ends and the files of the checkpoint."""
    found = []
    for number, case in enumerate(cases):
        place = folder / str(number)
        whole = train(context, model=Wide, max_steps=40, **case)[:2]
        try:
            train(context, place, model=Wide, max_steps=40, checkpoint_every=23, callbacks=[Kill(23)], **case)
        except KeyboardInterrupt:
            dist.barrier()  # rank 0 has written it
        kept = sorted(path.name for path in next((place / "checkpoints").iterdir()).iterdir())
        resumed = train(context, place, model=Wide, resume=True, max_steps=40, **case)[:2]
        found.append((whole, resumed, kept))
    return found


def balance(context, folder, seconds):
    """Train with ranks that pretend to be of unlike speed, and once more from a checkpoint in the middle."""
    settings = {"shares": "auto", "max_steps": 60, "checkpoint_every": 40, "checkpoint_every_s": None, "keep": 9}
    weights, history, trainer = train(context, folder, callbacks=[Pretence(seconds), JsonLines()], **settings)
    decisions = trainer.state.decisions
    if context.is_main:
        shutil.copytree(folder / "checkpoints" / "step-000040", folder / "again" / "checkpoints" / "step-000040")
    dist.barrier()
    resumed, _, other = train(context, folder / "again", resume=True, callbacks=[Pretence(seconds)], **settings)
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()] if context.is_main else []
    logged = [(line["shares"], line["sent_share"]) for line in lines if line["event"] == "log"]
    return weights, history, decisions, resumed, other.state.decisions, logged


def feedback(context, specs, steps=30):
    """Return how far the sum over all steps of one and the same gradient is from what it should be, in shares of a step's."""
    found = []
    for spec in specs:
        exchange = family("exchange").build(spec, context)
        weight = nn.Parameter(torch.zeros(48, 32))
        sync = GradientSync([weight], exchange=exchange)
        gradient = torch.randn(48, 32, generator=torch.Generator().manual_seed(context.rank))
        exact = sum(torch.randn(48, 32, generator=torch.Generator().manual_seed(rank)) for rank in range(context.ranks))
        total = torch.zeros(48, 32)
        for step in range(steps):
            share = 1.0 if step % 3 else 0.01  # every third batch is a small one: what was lost must be scaled with it
            exchange.begin(10 * step + context.rank)
            sync.zero()
            sync.arm(torch.tensor(share))
            with torch.no_grad():
                weight.grad.copy_(gradient * share)
            denominator = sync.finish()
            total += weight.grad / denominator * context.ranks
        found.append(float((total - steps * exact).norm() / exact.norm()))
    return found


def spiked(context, specs, steps=40, spike=25):
    """Return, for each exchange, which steps were left out where one batch is a spike, and whether what is kept was then left as it was."""
    return [spiked_by(context, spec, steps, spike) for spec in specs], [nan_skipped(context, spec) for spec in specs]


def stepping(context, spec, *, clip=None, **rules):
    """Return a step of a network worth two factors, with its exchange and its clippings."""
    torch.manual_seed(0)
    net = nn.Linear(48, 32)
    exchange, optimizer = family("exchange").build(spec, context), torch.optim.SGD(net.parameters(), lr=1e-3)
    step = TrainingStep(
        lambda inputs: net(inputs["x"]),
        lambda out, batch: ((out - batch.targets["y"]).square().sum(), torch.tensor(float(len(batch)))),
        optimizer,
        rules=StepRules(**rules),
        sync=GradientSync(list(net.parameters()), exchange=exchange),
        adaptive=make_adaptive(net, optimizer, clip=clip),
    )
    return step, exchange


def noise(context, step, size=1.0):
    generator = torch.Generator().manual_seed(100 * step + context.rank)
    return Batch({"x": torch.randn(16, 48, generator=generator)}, {"y": torch.randn(16, 32, generator=generator) * size})


def spiked_by(context, spec, steps, spike):
    step, exchange = stepping(context, spec, clip=[{"type": "skip_spikes", "warmup": 20, "every": 1}])
    left_out, as_it_was = [], True
    for number in range(steps):
        before = {name: tensor.clone() for name, tensor in exchange.own_state().items()}
        known = step.told().left_out.steps
        exchange.begin(10 * number + context.rank)
        step(noise(context, number, 1000.0 if number == spike else 1.0))
        if step.told().left_out.steps > known:
            left_out.append(number)
            as_it_was &= same(exchange, before)
        else:
            assert not before or not same(exchange, before)
    return left_out, as_it_was


def nan_skipped(context, spec):
    """Return whether a step that is skipped leaves what is kept as it was."""
    step, exchange = stepping(context, spec, on_nonfinite="skip")
    for number in range(3):
        before = {name: tensor.clone() for name, tensor in exchange.own_state().items()}
        batch = noise(context, number)
        if number == 2 and context.rank == 1:
            batch.targets["y"][0, 0] = float("nan")
        exchange.begin(10 * number + context.rank)
        step(batch)
    assert step.skipped == 1
    return same(exchange, before)


def same(exchange, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in exchange.own_state().items())


def low_rank(context, steps=8):
    """Return how far the exchange is from the best approximation of the same rank, by step, and from a gradient of that very rank."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(60, 12, generator=generator)).Q, torch.linalg.qr(torch.randn(40, 12, generator=generator)).Q
    strong = torch.tensor([9.0, 8.0, 7.0, *[0.5] * 9])
    found = []
    for kept in (12, 3):
        matrix = (left[:, :kept] * strong[:kept]) @ right[:, :kept].T
        best = (left[:, :3] * strong[:3]) @ right[:, :3].T
        exchange = family("exchange").build({"type": "power_sgd", "rank": 3, "error_feedback": False}, context)
        weight = nn.Parameter(torch.zeros(60, 40))
        sync = GradientSync([weight], exchange=exchange)
        errors = []
        for _ in range(steps):
            sync.zero()
            sync.arm(torch.tensor(1.0))
            with torch.no_grad():
                weight.grad.copy_(matrix * (0.25 if context.rank else 0.75))
            sync.finish()
            errors.append(float((weight.grad - best).norm() / best.norm()))
        found.append((errors, exchange.traffic.share))
    return found


class Counted(Exchange):
    """Notes in which order collectives were started, and by which bucket."""

    lossy = True

    def __init__(self, context, /) -> None:
        super().__init__(context)
        self.order = []

    def exchange(self, bucket, weight):
        for phase in range(1 + bucket.index % 2):
            self.order.append((phase, bucket.index))
            yield self.sum_in_place(bucket.flat.clone())


def phases(context):
    """Return in which order the collectives of several buckets were started, and how many during the backward pass."""
    net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)])
    exchange = Counted(context)
    sync = GradientSync(list(net.parameters()), bucket_bytes=300, exchange=exchange)
    sync.zero()
    sync.arm(torch.tensor(1.0))
    net(torch.ones(2, 8)).sum().backward()
    during = len(exchange.order)
    sync.finish()
    return exchange.order, during


def parts(context, specs):
    """Return what the three jobs above found: in one, as processes are slow to start."""
    return feedback(context, specs), low_rank(context), phases(context)


def wrong(context, folder):
    """Return the errors of settings that do not go together, and of resumes that cannot be exact."""
    cases = {
        "group": {"communication": {"type": "hierarchical", "group": 2}},
        "server": {"communication": {"type": "parameter_server", "server": 2}},
        "scale": {"communication": "power_sgd", "precision": "fp16"},
        "shares": {"shares": [1, 2, 3]},
        "resume": {"communication": {"type": "qsgd", "error_feedback": True}, "folder": folder, "resume": True},
    }
    train(context, folder, max_steps=5)
    dist.barrier()
    found = {}
    for name, case in cases.items():
        try:
            train(context, max_steps=6, **case)
        except DeepSeekError as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found

"""What a training step costs: a bare PyTorch loop, the same with the fused optimizer, this framework, and its peers if installed.

Task: an MLP of three hidden layers of 128, batch 32, Adam, cross-entropy, data in memory, one thread. Every contestant runs whole fits of
the same number of steps; they take turns, so that a noisy neighbour disturbs all alike, and medians are compared. Seconds spent compiling
are not in the steps' time and stand beside it. On a busy machine the best rounds say more than the medians. Prints one JSON line.

    python benchmarks/step.py --steps 2000 --rounds 5 --compiled
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS, FEATURES, CLASSES, WIDTH, BATCH = 20_000, 32, 10, 128, 32
Contestant = Callable[[int], float]
COMPILE_S: dict[str, list[float]] = {}
"""Seconds spent compiling in each round; from the second on the compiler finds its own results on disk."""


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, FEATURES, generator=generator), torch.randint(0, CLASSES, (ROWS,), generator=generator)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    widths = [FEATURES, WIDTH, WIDTH, WIDTH]
    hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, CLASSES))


def bare(steps: int, **options: bool) -> float:
    x, y = data()
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), **options)
    began, done = time.perf_counter(), 0
    while done < steps:
        for rows in torch.randperm(ROWS).split(BATCH)[: steps - done]:
            optimizer.zero_grad()
            functional.cross_entropy(net(x.index_select(0, rows)), y.index_select(0, rows)).backward()
            optimizer.step()
            done += 1
    return (time.perf_counter() - began) / steps


def bare_fused(steps: int) -> float:
    return bare(steps, fused=True)


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.net(inputs["x"]).unsqueeze(1)


def ours(steps: int, **settings: object) -> float:
    from deepseek.data.prepared import PreparedDataset
    from deepseek.data.targets import TargetSpec
    from deepseek.tasks.multiclass import MulticlassTask
    from deepseek.training import Trainer, TrainSettings

    x, y = data()
    rows = PreparedDataset.from_arrays({"x": x.numpy()}, {"target": y.numpy()})
    target = TargetSpec("classes", ("y",), tuple(map(str, range(CLASSES))), (1,) * CLASSES, CLASSES)
    given = TrainSettings(epochs=10_000, max_steps=steps, batch_size=BATCH, optimizer="adam", **settings)  # type: ignore[arg-type]
    trainer = Trainer(_Model(), MulticlassTask(target), rows, settings=given)  # type: ignore[arg-type]
    began = time.perf_counter()
    trainer.fit()
    compile_s = getattr(trainer.step, "compile_s", 0.0)
    if settings.get("compile") == "step":
        COMPILE_S.setdefault(f"ours_compiled_{trainer.step.steps_per_call}", []).append(round(compile_s, 1))
    return (time.perf_counter() - began - compile_s) / steps


def ours_fp32(steps: int) -> float:
    return ours(steps, precision="fp32")


def ours_compiled_1(steps: int) -> float:
    return ours(steps, precision="fp32", compile="step", steps_per_call=1)


def ours_compiled_4(steps: int) -> float:
    return ours(steps, precision="fp32", compile="step", steps_per_call=4)


def lightning(steps: int) -> float:
    import lightning as peer

    class Module(peer.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            return functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    options = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = peer.Trainer(max_steps=steps, max_epochs=-1, accelerator="cpu", **options)
    return _timed(lambda: trainer.fit(Module(), _torch_loader()), steps)


def accelerate(steps: int) -> float:
    import accelerate as peer

    accelerator = peer.Accelerator(cpu=True)
    net = network()
    model, optimizer, loader = accelerator.prepare(net, torch.optim.Adam(net.parameters()), _torch_loader())

    def run() -> None:
        done = 0
        while done < steps:
            for x, y in loader:
                optimizer.zero_grad()
                accelerator.backward(functional.cross_entropy(model(x), y))
                optimizer.step()
                done += 1
                if done == steps:
                    return

    return _timed(run, steps)


def keras(steps: int) -> float:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as peer

    layers = [peer.layers.Dense(WIDTH, activation="relu") for _ in range(3)]
    model = peer.Sequential([peer.Input((FEATURES,)), *layers, peer.layers.Dense(CLASSES)])
    model.compile(optimizer="adam", loss=peer.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = (tensor.numpy() for tensor in data())
    rows = steps * BATCH
    repeats = -(-rows // ROWS)
    x, y = np.tile(x, (repeats, 1))[:rows], np.tile(y, repeats)[:rows]
    return _timed(lambda: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0), steps)


def skorch(steps: int) -> float:
    import skorch as peer

    epochs = max(steps * BATCH // ROWS, 1)
    options = {"max_epochs": epochs, "batch_size": BATCH, "iterator_train__shuffle": True, "train_split": None, "verbose": 0}
    net = peer.NeuralNetClassifier(network(), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=1e-3, **options)
    x, y = (tensor.numpy() for tensor in data())
    return _timed(lambda: net.fit(x, y), epochs * -(-ROWS // BATCH))


def transformers(steps: int) -> float:
    import tempfile

    import transformers as peer

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor, labels: Tensor) -> SimpleNamespace | dict[str, Tensor]:
            out = self.net(x)
            return {"loss": functional.cross_entropy(out, labels), "logits": out}

    x, y = data()
    rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_steps": steps, "per_device_train_batch_size": BATCH, "report_to": [], "save_strategy": "no", "use_cpu": True}
        trainer = peer.Trainer(Module(), peer.TrainingArguments(folder, disable_tqdm=True, **options), train_dataset=rows)
        return _timed(trainer.train, steps)


def _torch_loader() -> torch.utils.data.DataLoader[tuple[Tensor, ...]]:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=BATCH, shuffle=True)


def _timed(run: Callable[[], object], steps: int) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) / steps


CONTESTANTS: dict[str, Contestant] = {"bare": bare, "bare_fused": bare_fused, "ours": ours, "ours_fp32": ours_fp32}
PEERS: dict[str, Contestant] = {
    "lightning": lightning,
    "accelerate": accelerate,
    "keras": keras,
    "skorch": skorch,
    "transformers": transformers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiled", action="store_true", help="also the compiled whole step, one and four steps a call")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contestants = dict(CONTESTANTS)
    if arguments.compiled:
        contestants |= {"ours_compiled_1": ours_compiled_1, "ours_compiled_4": ours_compiled_4}
    if not arguments.no_peers:
        contestants |= {name: run for name, run in PEERS.items() if importlib.util.find_spec(name)}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, run in contestants.items():
            times[name].append(run(arguments.steps))
    middle, least = ({name: pick(values) for name, values in times.items()} for pick in (statistics.median, min))
    result = {
        name: {
            "us_per_step": round(middle[name] * 1e6, 1),
            "of_bare": round(middle[name] / middle["bare"], 3),
            "best_of_bares_best": round(least[name] / least["bare"], 3),
        }
        for name in times
    }
    sys.stdout.write(
        json.dumps({"benchmark": "step", "torch": torch.__version__, "steps": arguments.steps, "compile_s": COMPILE_S, "result": result})
        + "\n"
    )


if __name__ == "__main__":
    main()

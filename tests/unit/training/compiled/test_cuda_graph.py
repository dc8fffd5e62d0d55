"""What is recorded and replayed, with a recorder that needs no GPU: what it repeats reads and writes the addresses of the recorded call."""

from __future__ import annotations

import pytest
import torch

from deepseek.errors import InputError
from deepseek.training import Trainer, TrainSettings
from deepseek.training.compiled.cuda_graph import WARM_CALLS, GraphedProgram


class Recorder:
    def __init__(self) -> None:
        self.recorded, self.replayed, self.aside = 0, 0, 0

    def capture(self, run):
        self.recorded += 1

        def replay():
            self.replayed += 1
            run()

        return replay

    def run_aside(self, run):
        self.aside += 1
        run()


def test_every_call_is_made_once_and_from_its_own_tensors():
    seen = Recorder()

    def program(weight, rate, batch):
        weight -= rate * batch.sum()

    graphed = GraphedProgram(program, fixed=1, capture=seen.capture, aside=seen.run_aside)
    weight, plain = torch.zeros(2), torch.zeros(2)
    for call in range(9):
        rate, batch = torch.tensor(0.1 * (call + 1)), torch.full((3,), float(call))
        graphed(weight, rate, batch)
        program(plain, rate, batch)
        rate.fill_(float("nan"))  # what a replay reads is its own
        batch.fill_(float("nan"))
        assert torch.equal(weight, plain)
        assert graphed.recorded is (call >= WARM_CALLS)
    assert (seen.aside, seen.recorded, seen.replayed) == (WARM_CALLS, 1, 9 - WARM_CALLS)


def test_it_is_refused_where_there_is_nothing_to_record(small):
    with pytest.raises(InputError, match="cuda_graphs needs compile: step"):
        TrainSettings(cuda_graphs=True)
    settings = TrainSettings(cuda_graphs=True, compile="step", precision="fp32", batch_size=32, epochs=1)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cuda_graphs needs a CUDA device, and this is cpu"):
            Trainer(small.net(), small.task(), small.data(), settings=settings).fit()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_replayed_steps_are_those_that_are_launched_one_by_one(small):
    from deepseek.distributed import RankContext

    def fitted(graphs):
        settings = TrainSettings(cuda_graphs=graphs, compile="step", precision="fp32", batch_size=32, epochs=4)
        ranks = RankContext(device=torch.device("cuda", 0))
        trainer = Trainer(small.net(), small.task(), small.data(), settings=settings, ranks=ranks)
        trainer.fit()
        return [parameter.detach().cpu() for parameter in trainer.model.parameters()]

    assert all(map(torch.equal, fitted(False), fitted(True)))

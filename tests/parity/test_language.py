"""Language models whose memory goes from batch to batch: ranks, small pieces and resumes are one uninterrupted run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deepseek.distributed import RankContext, launch
from deepseek.training.callbacks.base import Callback
from deepseek.training.checkpoints.files import list_checkpoints, load_checkpoint

JOBS = Path(__file__).parent / "jobs"
MODELS = [{"type": "transformer_xl", "mem_len": 8}, {"type": "text_decoder", "length": 6}]


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.syspath_prepend(JOBS)
    import rank_jobs

    return rank_jobs


def assert_alike(one, other, *, atol=0.0):
    for name, value in one[0].items():
        np.testing.assert_allclose(other[0][name], value, rtol=0, atol=atol)
    for a, b in zip(one[1], other[1], strict=True):
        assert a == pytest.approx(b, abs=1e-5) if atol else a == b


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["type"])
def test_small_pieces_and_two_ranks_are_one(jobs, tmp_path, model):
    alone = jobs.fit_language(RankContext(), model)
    assert_alike(alone, jobs.fit_language(RankContext(), model, accumulate=2), atol=1e-6)
    together = launch(jobs.fit_language_and_again, 2, model, tmp_path, device="cpu")
    assert_alike(alone, together, atol=1e-6)
    resumed = jobs.fit_language(RankContext(), model, tmp_path, resume=True, checkpoint_every=30)
    assert_alike(alone, resumed, atol=1e-6)  # what two ranks remembered, and remembered once more after a resume, one goes on with


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["type"])
def test_a_resume_is_the_uninterrupted_run_bit_for_bit(jobs, tmp_path, model):
    alone = jobs.fit_language(RankContext(), model)
    with pytest.raises(KeyboardInterrupt):
        jobs.fit_language(RankContext(), model, tmp_path, checkpoint_every=31, callbacks=[jobs.Kill(31)])
    assert_alike(alone, jobs.fit_language(RankContext(), model, tmp_path, resume=True, checkpoint_every=31))


class Full(Callback):
    """Lets memory run out once, when the network has read a window of the third step and remembers it."""

    left = 3

    def on_fit_start(self, trainer):
        def look(network, _, __):
            if network.training:
                self.left -= 1
                if not self.left:
                    raise torch.OutOfMemoryError("out of memory")

        trainer.model.register_forward_hook(look)


def test_a_step_that_begins_anew_in_smaller_pieces_has_not_read_its_windows_before(jobs):
    full = Full()
    found = jobs.fit_language(RankContext(), MODELS[0], callbacks=[full])
    assert full.left < 0
    assert_alike(jobs.fit_language(RankContext(), MODELS[0]), found, atol=1e-6)


def test_without_its_memory_a_resumed_run_would_be_another(jobs, tmp_path, monkeypatch):
    model = MODELS[0]
    alone, history = jobs.fit_language(RankContext(), model)
    with pytest.raises(KeyboardInterrupt):
        jobs.fit_language(RankContext(), model, tmp_path, checkpoint_every=31, callbacks=[jobs.Kill(31)])
    tensors, _ = load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1])
    assert {name.rpartition("/")[2] for name in tensors["carried"]} == {"states", "known"}
    monkeypatch.setattr("deepseek.training.checkpoints.keeper.carry", lambda *_, **__: None)
    resumed, _ = jobs.fit_language(RankContext(), model, tmp_path, resume=True, checkpoint_every=31)
    assert max(np.abs(resumed[name] - alone[name]).max() for name in alone) > 1e-6
    del history

"""The compiled step against the ordinary one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.errors import InputError
from deepseek.training import Trainer, TrainSettings


def fit(small, **changes):
    given = {"epochs": 3, "batch_size": 20, "precision": "fp32", "schedule": "cosine", "clip_norm": 0.5}
    trainer = Trainer(small.net(), small.task(), small.data(weighted=True), settings=TrainSettings(**{**given, **changes}))
    trainer.fit()
    return trainer


@pytest.mark.slow
def test_it_is_the_ordinary_step_but_for_roundings(small):
    plain, compiled = fit(small), fit(small, compile="step")
    assert compiled.step._shapes is not None
    for a, b in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert np.isclose(plain.history[-1]["train_loss"], compiled.history[-1]["train_loss"], rtol=1e-5)


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {"precision": "bf16"}, {"l1": 0.1}], ids=str)
def test_what_it_cannot_do_is_refused(small, changes):
    with pytest.raises(InputError, match="compile: step does not go with"):
        fit(small, compile="step", **changes)

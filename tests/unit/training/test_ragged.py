"""Training on rows of unequal length: batches are padded, grouped, cut and resumed without a trace in the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.augment.flip import Flip
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.training import Trainer, TrainSettings
from deepseek.training.autotune import with_channels_last
from deepseek.training.callbacks.base import Callback
from deepseek.training.decisions import rows_like


class Words(nn.Module):
    """Three classes from the mean of a text's vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.vectors, self.head = nn.Embedding(12, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        mask = inputs["note_mask"].unsqueeze(-1).float()
        return self.head((self.vectors(inputs["note"]) * mask).sum(1) / mask.sum(1)).unsqueeze(1)


def texts(rows=90, seed=0):
    draw = np.random.default_rng(seed)
    lengths = draw.lognormal(1.5, 0.8, rows).astype(np.int64) + 1
    values = draw.integers(4, 12, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    target = np.array([int(values[start]) % 3 for start in offsets[:-1]])
    photo = draw.integers(0, 255, (rows, 2, 2, 3)).astype(np.uint8)
    return PreparedDataset.from_arrays({"note": Ragged(values, offsets), "photo": photo}, {"target": target})


def fit(small, *, data=None, folder=None, callbacks=(), augment=(), resume=False, **changes):
    settings = TrainSettings(
        **{"epochs": 3, "batch_size": 16, "precision": "fp32", "optimizer": {"type": "adam", "learning_rate": 0.01}, **changes}
    )
    trainer = Trainer(
        Words(), small.task(), data or texts(), texts(30, 1), settings=settings, folder=folder, callbacks=callbacks, augment=augment
    )
    trainer.fit(resume=resume)
    return {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}


def same(one, other, **tolerance):
    return all(torch.allclose(one[name], other[name], **tolerance) for name in one)


def test_pieces_of_a_batch_make_the_same_step(small):
    assert same(fit(small), fit(small, accumulate=4), atol=1e-5)


class Stop(Callback):
    def on_step(self, trainer):
        if trainer.state.step == 8:
            trainer.stop("the test says so")


def test_a_resume_in_the_middle_of_an_epoch_is_exact(small, tmp_path):
    whole = fit(small)
    fit(small, folder=tmp_path, callbacks=[Stop()])
    assert same(whole, fit(small, folder=tmp_path, resume=True), rtol=0, atol=0)


def test_an_augmentation_of_images_leaves_texts_alone(small):
    photo = InputSpec("photo", Kind.IMAGE, ("photo",), (2, 2, 3), "uint8")
    assert same(fit(small), fit(small, augment=[Flip({"photo": photo})]), rtol=0, atol=0)


def test_a_step_for_one_shape_is_refused(small):
    with pytest.raises(InputError, match="compile: step needs batches of one shape"):
        fit(small, compile="step")


def test_ids_and_masks_keep_their_layout():
    batch = texts().take(np.arange(4))
    laid = with_channels_last(batch)
    assert laid.inputs["note"] is batch.inputs["note"]
    assert laid.inputs["note_mask"] is batch.inputs["note_mask"]


def test_measuring_takes_usual_and_longest_rows():
    data = texts()
    lengths = data.lengths(np.arange(len(data)))
    assert lengths[rows_like(data, 5, longest=True)].tolist() == sorted(lengths, reverse=True)[:5]
    assert np.abs(lengths[rows_like(data, 5, longest=False)] - lengths.mean()).max() <= 1
    assert len(rows_like(data, 200, longest=True)) == 200
    plain = PreparedDataset.from_arrays({"x": np.zeros((3, 1))})
    assert rows_like(plain, 4, longest=True).tolist() == [0, 1, 2, 0]

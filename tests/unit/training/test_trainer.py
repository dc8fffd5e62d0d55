"""The trainer: what it stops for, keeps, refuses and reports. Each feature is also tested switched off."""

from __future__ import annotations

import json
import re
import signal
import time

import numpy as np
import pytest
import torch

from deepseek.data.augment.base import Augmentation
from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.errors import CheckpointError, InputError, NonFiniteError, TrainingError, UnknownNameError
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.json_lines import JsonLines
from deepseek.training.callbacks.progress import ProgressBar
from deepseek.training.callbacks.tensorboard import TensorBoard


def settings(**changes) -> TrainSettings:
    return TrainSettings(
        **{"epochs": 2, "batch_size": 32, "precision": "fp32", "optimizer": {"type": "adam", "learning_rate": 0.01}, **changes}
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}


def trained(small, *, validate=True, callbacks=(), folder=None, augment=(), net=None, **changes) -> Trainer:
    validation = small.data(40, seed=1) if validate else None
    trainer = Trainer(
        net or small.net(),
        small.task(),
        small.data(),
        validation,
        settings=settings(**changes),
        callbacks=callbacks,
        folder=folder,
        augment=augment,
    )
    trainer.result = trainer.fit()
    return trainer


def differ(a: Trainer, b: Trainer) -> bool:
    return any(not torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values(), strict=True))


def test_it_learns_and_says_how(small):
    result = trained(small, epochs=20).result
    assert result.stopped_reason == "finished"
    assert result.best.metrics["accuracy"] > 0.7
    assert result.history[-1]["step"] == 60
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.samples_per_s > 0
    assert 0 <= result.data_wait_share <= 1


def test_the_same_seed_gives_the_same_weights_and_another_does_not(small):
    first = trained(small, net=small.net(dropout=0.5))
    assert not differ(first, trained(small, net=small.net(dropout=0.5)))
    assert differ(first, trained(small, net=small.net(dropout=0.5), seed=1))


@pytest.mark.parametrize(
    "change",
    [
        {"ema": 0.9},
        {"l1": 0.1},
        {"l2": 0.1},
        {"max_norm": 0.2},
        {"clip_norm": 0.01},
        {"clip_value": 0.001},
        {"schedule": "cosine"},
        {"learning_rate": 0.02},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_every_switch_changes_the_weights(small, change):
    assert differ(trained(small), trained(small, **change))


def test_accumulation_changes_nothing_but_roundings(small):
    for a, b in zip(weights(trained(small)).values(), weights(trained(small, accumulate=4)).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class Worsening(Callback):
    """Makes the model worse after a step, so that the best is behind."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, trainer: Trainer) -> None:
        if trainer.state.step >= self.after:
            with torch.no_grad():
                trainer.model.head.weight.mul_(-1 if trainer.state.step == self.after else 1.5)


def test_early_stopping_stops_and_the_best_weights_come_back(small):
    trainer = trained(small, epochs=40, early_stopping={"patience": 2}, callbacks=[Worsening(9)], learning_rate=1e-4)
    assert "early stopping" in trainer.result.stopped_reason
    assert trainer.result.best.step <= 9
    assert trainer.state.step < 120
    kept = trained(small, epochs=40, max_steps=trainer.result.best.step, learning_rate=1e-4)
    assert not differ(trainer, kept)


def test_without_it_training_goes_on_and_without_restoring_the_last_weights_stay(small):
    trainer = trained(small, epochs=10, callbacks=[Worsening(9)], learning_rate=1e-4)
    assert trainer.state.step == 30
    assert differ(trainer, trained(small, epochs=10, callbacks=[Worsening(9)], learning_rate=1e-4, restore_best=False))


def test_an_unknown_metric_is_refused_before_the_first_step(small):
    with pytest.raises(UnknownNameError, match="loss, accuracy, balanced_accuracy, f1, log_loss"):
        trained(small, monitor="acuracy")


def test_the_monitored_metric_decides_what_is_best(small):
    trainer = trained(small, epochs=12, monitor="log_loss", learning_rate=0.5)
    assert trainer.result.best.value == min(entry["log_loss"] for entry in trainer.history)


@pytest.mark.parametrize("change", [{"early_stopping": {}}, {"schedule": "plateau"}], ids=str)
def test_what_needs_validation_rows_is_refused_without_any(small, change):
    with pytest.raises(InputError, match="validation rows"):
        trained(small, validate=False, **change)


def test_without_validation_the_last_weights_are_kept_or_their_average(small):
    trainer = trained(small, validate=False)
    assert trainer.result.best is None
    assert "train_loss" in trainer.history[-1]
    averaged = trained(small, validate=False, ema=0.9)
    assert all(torch.equal(tensor, averaged.average.average[name]) for name, tensor in averaged.model.named_parameters())


class Poison(Augmentation):
    """Puts a NaN into one step's batch."""

    def __init__(self, step: int) -> None:
        self.left = step

    def apply(self, batch, draw):
        self.left -= 1
        if self.left:
            return batch
        return Batch({"x": batch.inputs["x"] * float("nan")}, batch.targets, batch.weight, batch.row)


def test_a_nan_stops_training_and_names_the_steps(small, tmp_path):
    with pytest.raises(NonFiniteError, match="the loss became NaN or infinite between step") as caught:
        trained(small, augment=[Poison(5)], epochs=50, folder=tmp_path, validate=False)
    first, last = map(int, re.findall(r"step (\d+)", caught.value.message))
    assert first <= 5 <= last <= 55
    assert "learning_rate" in caught.value.hint
    with pytest.raises(NonFiniteError) as caught:
        trained(small, augment=[Poison(8)], epochs=50, folder=tmp_path / "b", checkpoint_every=3, validate=False)
    assert "step-000006" in caught.value.hint


def test_a_nan_in_the_very_last_step_is_not_missed(small):
    with pytest.raises(NonFiniteError):
        trained(small, augment=[Poison(6)], validate=False)


def test_a_nan_step_can_be_skipped(small):
    trainer = trained(small, augment=[Poison(5)], on_nonfinite="skip", validate=False)
    assert trainer.progress.skipped_steps == 1
    assert np.isfinite(trainer.history[-1]["train_loss"])
    assert all(torch.isfinite(tensor).all() for tensor in weights(trainer).values())


class Hungry(torch.nn.Module):
    """Has memory for few rows only."""

    def __init__(self, net, most: int) -> None:
        super().__init__()
        self.net, self.most = net, most

    def forward(self, inputs):
        if self.training and len(inputs["x"]) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return self.net(inputs)


def test_out_of_memory_makes_smaller_pieces_of_the_same_batch(small):
    plain, hungry = trained(small, net=Hungry(small.net(), 1000)), trained(small, net=Hungry(small.net(), 10))
    assert hungry.state.decisions["micro_batches"] == 4
    assert "micro_batches" not in plain.state.decisions
    for a, b in zip(weights(plain).values(), weights(hungry).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(TrainingError, match="32 micro-batches of 32 rows"):
        trained(small, net=Hungry(small.net(), 0))


def test_augmentation_sees_training_batches_only_and_depends_on_the_seed(small):
    class Noise(Augmentation):
        def apply(self, batch, draw):
            noise = draw.uniform(len(batch), 4)
            return Batch({"x": batch.inputs["x"] + noise}, batch.targets, batch.weight, batch.row)

    first = trained(small, augment=[Noise({})])
    assert not differ(first, trained(small, augment=[Noise({})]))
    assert differ(first, trained(small, augment=[Noise({})], seed=1))
    assert differ(first, trained(small))


def test_time_limit_stops(small):
    class Slow(Callback):
        def on_step(self, trainer):
            time.sleep(0.02)

    trainer = trained(small, epochs=1000, time_limit_s=0.2, callbacks=[Slow()], validate=False)
    assert "time limit" in trainer.result.stopped_reason
    assert trainer.state.step < 60


def test_a_callback_can_stop_at_a_step(small):
    class At(Callback):
        def on_step(self, trainer):
            if trainer.state.step == 4:
                trainer.stop("enough")

    trainer = trained(small, callbacks=[At()], epochs=9)
    assert (trainer.state.step, trainer.result.stopped_reason) == (4, "enough")


def test_only_callbacks_that_look_at_steps_are_called_for_them(small):
    assert trained(small, callbacks=[ProgressBar(quiet=True)])._on_step == []
    assert len(trained(small, callbacks=[Worsening(99)])._on_step) == 1


def test_steps_epochs_and_validations_are_counted(small):
    trainer = trained(small, epochs=9, max_steps=8, validate_every=3, validate_unit="steps")
    assert [entry["step"] for entry in trainer.history] == [3, 6, 8]
    assert trainer.state.epoch == 2


def test_json_lines_tell_the_whole_story(small, tmp_path):
    trained(small, folder=tmp_path, callbacks=[JsonLines()])
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("validation") == 2
    assert events[-1]["stopped_reason"] == "finished"
    with pytest.raises(NonFiniteError):
        trained(small, folder=tmp_path / "b", callbacks=[JsonLines()], augment=[Poison(2)])
    last = json.loads((tmp_path / "b" / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["error"]) == ("error", "NonFiniteError")


def test_tensorboard_gets_the_metrics(small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = trained(small, callbacks=[TensorBoard(path=tmp_path)])
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    values = [event.value for event in reader.Scalars("validation/accuracy")]
    assert values == pytest.approx([entry["accuracy"] for entry in trainer.history])
    assert "train/loss" in reader.Tags()["scalars"]


def test_progress_writes_lines_where_there_is_no_terminal(small, capsys):
    trained(small, callbacks=[ProgressBar()])
    text = capsys.readouterr().err
    assert "epoch 1  step 3/6" in text
    assert "best so far" in text
    assert "rows/s" in text
    trained(small, callbacks=[ProgressBar(quiet=True)])
    assert capsys.readouterr().err == ""


def test_auto_is_measured_on_copies_and_written_down(small):
    auto, plain = trained(small, precision="auto"), trained(small)
    decisions = auto.state.decisions
    assert decisions["reason"]
    if decisions["precision"] == "fp32":
        assert not differ(auto, plain)


def test_batch_size_auto(small):
    trainer = trained(small, batch_size="auto")
    assert trainer.loader.batch_size == 32
    assert "hundredth" in trainer.state.decisions["batch_size_reason"]


@pytest.mark.parametrize(
    ("key", "value"), [("epochs", 0), ("ema", 1.0), ("precision", "fp8"), ("batch_size", True), ("learning_rate", "fast")], ids=str
)
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(InputError, match=f"train.{key} is"):
        TrainSettings(**{key: value})


def test_settings_take_what_they_should():
    TrainSettings(
        epochs=3, learning_rate=1, channels_last=True, early_stopping={"patience": 3}, optimizer={"type": "sgd"}, batch_size="auto"
    )


def test_empty_data_is_refused(small):
    with pytest.raises(InputError, match="no rows"):
        Trainer(small.net(), small.task(), [], settings=settings())


def test_batchnorm_trains_with_an_average(small):
    trainer = trained(small, net=small.net(norm=True), ema=0.9, epochs=5)
    assert np.isfinite(trainer.history[-1]["loss"])


@pytest.mark.parametrize("changes", [{"batch_size": 95}, {"batch_size": 5, "accumulate": 4}], ids=str)
def test_batch_statistics_never_meet_a_single_row(small, changes):
    trainer = trained(small, net=small.net(norm=True), **changes)
    assert trainer.state.step == 2 * (96 // changes["batch_size"])
    assert trained(small, **changes).state.step == 2 * -(-96 // changes["batch_size"])


def test_batches_too_small_for_batch_statistics_are_refused_before_the_first_step(small):
    with pytest.raises(InputError, match="needs 2 rows of every batch; batch_size is 1"):
        Trainer(small.net(norm=True), small.task(), small.data(), settings=settings(batch_size=1))
    trained(small, batch_size=1, epochs=1)


class Breaking(Callback):
    """Makes a weight NaN in the last step before a validation, after the loss was looked at."""

    def on_log(self, trainer: Trainer) -> None:
        if trainer.state.step == 3:
            with torch.no_grad():
                trainer.model.head.weight.fill_(float("nan"))


def test_a_nan_weight_is_found_before_it_is_validated(small):
    with pytest.raises(NonFiniteError, match="a weight became NaN"):
        trained(small, callbacks=[Breaking()])


def test_tiny_weights_train_as_large_ones_do(small):
    def weighted(unit: float) -> Trainer:
        data = small.data()
        rows = data.take(np.arange(96))
        unit_data = PreparedDataset.from_arrays(rows.inputs, rows.targets, weight=torch.full((96,), unit))
        trainer = Trainer(small.net(), small.task(), unit_data, settings=settings(optimizer={"type": "sgd", "learning_rate": 0.1}))
        trainer.fit()
        return trainer

    for a, b in zip(weights(weighted(1.0)).values(), weights(weighted(1e-20)).values(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_checkpoint_of_another_way_of_reckoning_is_not_taken_up(small, tmp_path):
    def trainer(revision: int) -> Trainer:
        net = small.net()
        net.register_buffer("revised", torch.tensor(revision))
        return Trainer(net, small.task(), small.data(), settings=settings(), folder=tmp_path)

    trainer(2).fit()
    with pytest.raises(CheckpointError, match="is revision 3, not 2"):
        trainer(3).fit(resume=True)


def test_another_datas_checkpoint_is_not_taken_up(small, tmp_path):
    def trainer(data_id: str) -> Trainer:
        return Trainer(small.net(), small.task(), small.data(), settings=settings(), folder=tmp_path, data_id=data_id)

    trainer("a").fit()
    with pytest.raises(CheckpointError, match="the data changed"):
        trainer("b").fit(resume=True)
    trainer("a").fit(resume=True)


def test_a_time_limit_plans_a_run_whose_schedule_ends_within_it(small, monkeypatch):
    monkeypatch.setattr("deepseek.training.decisions.step_seconds", lambda *_, **__: 0.5)
    limited = trained(small, epochs=1_000_000, time_limit_s=50.0, schedule="cosine", validate=False)
    assert limited.stopped_reason == "finished"
    assert limited.total_steps == limited.state.step == 80
    assert limited.progress.learning_rate < 0.01 * limited.optimizer_spec.learning_rate


def test_a_step_is_timed_with_as_many_rows_as_batch_statistics_need(small):
    """A batch in as many pieces as rows is cut into pairs there: a single row, which has no variance, is no step to be timed either."""
    timed = trained(small, net=small.net(norm=True), epochs=1, batch_size=8, accumulate=8, time_limit_s=30.0)
    assert timed.stopped_reason == "finished"


def test_without_a_time_limit_no_step_is_left_out(small):
    assert trained(small, epochs=3).state.decisions["step_limit"] == 0


@pytest.mark.parametrize(("wanted", "within"), [(True, 2), (False, 0)])
def test_pytorchs_switch_for_reproducible_operations_is_left_as_it_was(small, wanted, within):
    seen = []

    class Look(Callback):
        def on_step(self, trainer):
            seen.append(torch.get_deterministic_debug_mode())

    def fit(callback):
        Trainer(small.net(), small.task(), small.data(), settings=settings(deterministic=wanted, epochs=1), callbacks=[callback]).fit()

    fit(Look())
    assert set(seen) == {within}
    assert torch.get_deterministic_debug_mode() == 0


def test_signal_handlers_are_those_from_before_after_an_error_too(small, monkeypatch):
    class Fail(Callback):
        def on_step(self, trainer):
            raise ValueError("seven")

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="seven"):
        Trainer(small.net(), small.task(), small.data(), settings=settings(), callbacks=[Fail()]).fit()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    given = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: given.append(handler))  # none was Python's
    Trainer(small.net(), small.task(), small.data(), settings=settings(epochs=1)).fit()
    assert given[2:] == [signal.SIG_DFL] * 2


def test_a_signal_that_is_ignored_stays_so(small):
    class Send(Callback):
        def on_step(self, trainer):
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        result = Trainer(small.net(), small.task(), small.data(), settings=settings(), callbacks=[Send()]).fit()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.stopped_reason == "finished"


def fit_resampled(small, folder=None, *, resample="over", resume=False, net=None, **changes):
    task = MulticlassTask(TargetSpec("classes", ("y",), ("a", "b", "c"), (1, 1, 1), 3), resample=resample)
    made = Trainer(net or small.net(dropout=0.2), task, small.data(), settings=settings(checkpoint_every=2, **changes), folder=folder)
    made.fit(resume=resume)
    return made


def test_resampling_changes_what_is_learnt_and_accumulation_does_not_change_it(small):
    assert differ(fit_resampled(small), fit_resampled(small, resample=None))
    whole, pieces = (fit_resampled(small, net=small.net(), accumulate=accumulate) for accumulate in (1, 4))
    assert whole.state.step == pieces.state.step > 2 * 3
    for a, b in zip(weights(whole).values(), weights(pieces).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_resampled_run_resumes_bit_for_bit(small, tmp_path):
    whole = fit_resampled(small, epochs=3)
    fit_resampled(small, tmp_path, epochs=3, max_steps=5)
    resumed = fit_resampled(small, tmp_path, epochs=3, resume=True)
    assert resumed.state.step == whole.state.step
    assert not differ(whole, resumed)

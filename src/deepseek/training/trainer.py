"""The loop that trains: steps, and between them, at moments that all ranks agree on, everything else.

The loop itself does three things: take a batch, make a step, count. Looking at the loss, validating, checkpointing and stopping happen at
*events*, steps planned ahead: at most `log_every` steps apart, and about half a second, so that clocks are looked at often enough on slow
steps and the loss seldom enough on fast ones. Nothing that an event does depends on the clock, save where a checkpoint lies or training
stops.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from deepseek import progress
from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import Batch, with_channels_last
from deepseek.data.loader import Loader, rows_within
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import GradientSync, RankContext, broadcast_, broadcast_message, broadcast_numbers, make_precision, sum_across
from deepseek.distributed.devices import empty_cache, is_out_of_memory
from deepseek.distributed.strategies import Placement
from deepseek.distributed.watch import watched
from deepseek.errors import NonFiniteError, TrainingError, UnknownNameError
from deepseek.optim import OptimizerSpec, Schedule, WeightAverage, decay_groups, make_adaptive
from deepseek.registry import family
from deepseek.tasks.base import Task
from deepseek.tasks.model import TaskModel
from deepseek.training.balance import Balance
from deepseek.training.batch_dependence import STATISTICS_ROWS, division_note, has_batch_statistics
from deepseek.training.callbacks.base import Callback
from deepseek.training.callbacks.usage import Usage
from deepseek.training.carried import CarriedBefore, carried_of
from deepseek.training.checkpoints.files import load_optimizer, optimizer_tensors
from deepseek.training.checkpoints.keeper import Keeper
from deepseek.training.communication import begin_exchange, exchanged_of, make_exchange
from deepseek.training.compiled.step import STEPS_PER_CALL, CompiledStep
from deepseek.training.decisions import decide
from deepseek.training.evaluation import LEAST_TOGETHER, evaluate
from deepseek.training.fine_tuning import FineTuning
from deepseek.training.guards.interruption import Interruption, act_on, signal_of_any
from deepseek.training.guards.nonfinite import NonFiniteGuard
from deepseek.training.guards.post_mortem import explained, first_weights
from deepseek.training.guards.stalls import reported_stalls
from deepseek.training.implied import callbacks_of, optimizer_of
from deepseek.training.memory.allocator import freed_memory_kept
from deepseek.training.memory.recomputation import apply_recomputation
from deepseek.training.placed_step import PlacedStep
from deepseek.training.placing import (
    NOT_IN_PARTS,
    choose_strategy,
    decide_unmeasured,
    require_format,
    require_rows,
    situation_of,
    strategy_note,
)
from deepseek.training.refusals import refuse_contradictions
from deepseek.training.remarks import Remarks
from deepseek.training.results import FitResult, Progress
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Best, State, kept_generators, only_reproducible, seed_generators, seed_of
from deepseek.training.step import StepRules, TrainingStep

_EVENT_S = 0.5
MEASURED_ROWS = 256
"""How many rows a batch has where its size is still to be measured."""
_DROPOUT, _AUGMENT = 1, 2
"""Streams of randomness: what is drawn for one purpose must not move what is drawn for another."""


class Trainer:
    """Trains a model on prepared rows.

    Args:
        model: Network and decision layer; changed in place, and moved to the rank's device. Adapters that `settings.fine_tune` asks for are
            put on it now, and merged into it when training has ended.
        task: Gives the loss and the metrics.
        train: The training rows.
        validation: The rows by which training is stopped and the best weights are chosen; none for neither.
        settings: Everything else.
        callbacks: What happens beside the steps.
        augment: Random changes of training batches, in order.
        folder: The run's folder; checkpoints go into `checkpoints/` in it. None for no files.
        ranks: This process's place in the job.
        data_id: What the rows are, as a hash for example: a resume refuses other data than those a checkpoint was trained on.

    Attributes:
        state: Where the run stands.
        total_steps: How many steps the whole run has.
        monitor: The name of the monitored metric.
        metric_names: All validation metrics.
        progress: How training goes, as of the last event.
        usage: How well the device is used, as of the last event.
        remarks: What was worth a word on the way.
        stopped_reason: Why training ends, once it does.
        placement: What of the model this rank has, and which rows.
        final_metrics: What the finished model reaches, by split; whoever trains it measures that, and puts it here for the callbacks.

    Raises:
        InputError: Settings, model and data do not fit together; before the first step.
    """

    def __init__(  # noqa: PLR0913 (what is trained, on what, how, and what looks on)
        self,
        model: TaskModel,
        task: Task,
        train: PreparedDataset,
        validation: PreparedDataset | None = None,
        *,
        settings: TrainSettings | None = None,
        callbacks: Sequence[Callback] = (),
        augment: Sequence[Augmentation] = (),
        folder: Path | None = None,
        ranks: RankContext | None = None,
        data_id: str | None = None,
    ) -> None:
        self.data_id = data_id
        self.settings, self.ranks, self.folder = settings or TrainSettings(), ranks or RankContext(), folder
        self.model, self.task, self.train, self.validation, self.augment = model, task, train, validation, tuple(augment)
        self.placement, self.remarks, self.usage = Placement(model, self.ranks), Remarks(), Usage(peak_tflops=self.settings.peak_tflops)
        self.callbacks = [self.usage, *callbacks_of(self.settings), *callbacks]
        self.state, self.progress, self.guard = State(), Progress(), NonFiniteGuard()
        self.keeper = Keeper(folder / "checkpoints" if folder else None, keep=self.settings.keep)
        self.schedule: Schedule = family("schedule").build(self.settings.schedule)
        self.optimizer_spec: OptimizerSpec = family("optimizer").build(optimizer_of(self.settings))
        metrics = task.metrics()
        self.metric_names = tuple(metrics)
        self.monitor = self.settings.monitor or task.monitor
        if self.monitor not in metrics:
            raise UnknownNameError("metric to monitor", self.monitor, metrics)
        self.higher_is_better = metrics[self.monitor].higher_is_better
        refuse_contradictions(self.settings, model, self.schedule, ranks=self.ranks, train=train, validation=validation)
        if self.settings.batch_size != "auto":
            self._make_loader(self.settings.batch_size)  # raises where batches would be too small for the model
        self.tuning = FineTuning(model, self.settings.fine_tune) if self.settings.fine_tune is not None else None
        self.stopped_reason = ""
        self.final_metrics: dict[str, dict[str, float] | None] = {}
        self._on_step = [callback.on_step for callback in self.callbacks if type(callback).on_step is not Callback.on_step]
        self._aside_s = self._spent_before = 0.0
        self._rows = self._next_event = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.ranks.is_main

    @property
    def history(self) -> list[dict[str, float]]:
        """The entries of all validations so far."""
        return self.state.history

    @property
    def seconds(self) -> float:
        """Time spent so far, over all resumes."""
        return self._spent_before + time.perf_counter() - self._began

    @property
    def checkpoint(self) -> Path | None:
        """The last checkpoint."""
        return self.guard.checkpoint

    def stop(self, reason: str) -> None:
        """End training after the current step; of several ranks, what rank 0 wants happens, at the next event."""
        self.stopped_reason = self.stopped_reason or reason
        if self.ranks.is_single:
            self._next_event = self.state.step

    def fit(self, *, resume: bool | Literal["auto"] = False) -> FitResult:
        """Train to the end; PyTorch's generators, which dropout draws from, are then as they were before.

        Args:
            resume: Go on from the newest checkpoint, which must be there and whole; with `auto`, from the newest that is, or from the
            beginning.

        Raises:
            CheckpointError: There is nothing to resume from.
            KeyboardInterrupt: Ctrl-C was pressed; the state of the step before it is saved, where the run has a folder.
            NonFiniteError: The loss or a weight became NaN or infinite.
            TrainingError: Memory does not suffice even for a single row.
        """
        self._began = time.perf_counter()
        try:
            reproducible = only_reproducible(self.settings.deterministic, compiled=self.settings.compile != "off")
            with kept_generators(self.ranks.device), reproducible, freed_memory_kept(), reported_stalls(self), explained(self):
                self._start(resume)
                with (
                    Interruption(self.stop) as self._interruption,
                    watched(self.ranks, self.ranks.store, timeout_s=self.settings.stall_s) as self.watch,
                ):
                    self._run()
                if signal := signal_of_any(self._interruption, self.ranks):
                    self._save()
                    self.keeper.wait()
                    act_on(signal, self.ranks)
                self._finish()
                self.keeper.wait()
        except BaseException as error:
            self.keeper.abandon(error)
            for callback in self.callbacks:
                callback.on_error(self, error)
            raise
        finally:
            apply_recomputation(self.model, 0)
        state = self.state
        return FitResult(
            state.history, state.best, self.stopped_reason, state.seconds, self.progress.samples_per_s, self.progress.data_wait_share
        )

    def peek(self, step: int = 0) -> tuple[Batch, Batch]:
        """Return the batch of a step as it is read and as the network is to meet it, without training: the same rows, the same draws.

        Args:
            step: The step, counted from 0. Where the batch size is to be measured, 256 rows are taken.
        """
        size = self.settings.batch_size
        self.loader = self._make_loader(MEASURED_ROWS if size == "auto" else size)
        epoch, first = divmod(step, self.loader.steps)
        batch = next(self.loader.batches(epoch, first))
        return batch, self.augmented(batch, step) if self.augment else batch

    def _start(self, resume: bool | Literal["auto"]) -> None:
        settings = self.settings
        loaded = self.keeper.find(resume, self.ranks)
        self.state = loaded.state if loaded else State()
        self._share_out(resumed=loaded is not None)
        if not loaded:
            self.guard.first_weights = first_weights(self)
        self._build(self.state.decisions)
        if note := division_note(self.model, self.ranks.ranks, sharers=self.placement.rows.ranks):
            self.state.decisions["ranks"] = note
            if self.is_main:
                progress.log(note)
        if self.tuning is not None and self.is_main and not loaded:
            self.tuning.tell(self.tuning.groups(self.optimizer_spec.learning_rate))
        if loaded:
            self.keeper.restore(self, loaded)
            if self.is_main:
                progress.log(f"going on after step {self.state.step:,}")
            self._spent_before, self.progress = self.state.seconds, Progress(told=self.step.told())
        self._train_mode()
        self._validate_steps = settings.validate_every * (self.loader.steps if settings.validate_unit == "epochs" else 1)
        for callback in self.callbacks:
            callback.on_fit_start(self)
        self._done = bool(broadcast_message([bool(self.stopped_reason)], self.ranks)[0])
        self._began_steps = self._saved_at = time.perf_counter()
        self._plan(1)

    def _share_out(self, *, resumed: bool) -> None:
        """Settle what is `auto` and give this rank its part of the model: all of it, or what the strategy says."""
        settings, known = self.settings, self.settings.batch_size
        rows = self.task.training_rows(self.train, batch_size=MEASURED_ROWS if known == "auto" else known)
        row = rows.take(np.zeros(1, np.int64))
        situation = situation_of(self.ranks, row, self.optimizer_spec)
        strategy, name, why = choose_strategy(settings, self.model, situation)
        if strategy.whole:
            self.placement = strategy.place(self.model, situation)
        if resumed:
            self.state.decisions["compile"] = settings.compile
        elif strategy.whole:
            self.state.decisions = decide(self.model, self.task.loss, rows, settings=settings, spec=self.optimizer_spec, ranks=self.ranks)
        else:
            self.state.decisions = decide_unmeasured(settings, self.model, self.task.loss, spec=self.optimizer_spec, rows=len(self.train))
        if not strategy.whole:
            self.state.decisions |= NOT_IN_PARTS
            require_format(strategy, name, str(self.state.decisions["precision"]))
            size = int(self.state.decisions["batch_size"])
            self.usage.count(self.model, rows, device=self.ranks.device, precision=str(self.state.decisions["precision"]))
            self.placement = strategy.place(self.model, situation_of(self.ranks, row, self.optimizer_spec, batch_rows=size))
        require_rows(self.placement, name)
        if not self.ranks.is_single:
            self.state.decisions |= {"strategy": name, "strategy_reason": why}
        if self.is_main and (note := strategy_note(settings, self.ranks, name=name, why=why)):
            progress.log(note)

    def _build(self, decisions: dict[str, object]) -> None:
        settings, ranks = self.settings, self.ranks
        apply_recomputation(self.model, int(str(decisions.get("activation_checkpointing", 0))))
        self._channels_last = bool(decisions["channels_last"])
        if self._channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        size = int(str(decisions["batch_size"]))
        self.loader = self._make_loader(size, steps=decisions.get("epoch_steps"))
        if self.loader.least:
            decisions["epoch_steps"] = self.loader.steps
        self.total_steps = min(
            settings.epochs * self.loader.steps, settings.max_steps or 1 << 62, int(str(decisions.get("step_limit") or 1 << 62))
        )
        self.average = WeightAverage(self.model, decay=settings.ema) if settings.ema else None
        self.precision = make_precision(str(decisions["precision"]), ranks.device)
        self.exchange = make_exchange(settings, ranks, self.placement)
        self.balance = Balance(settings.shares, self.loader, self.placement.rows, decisions=decisions)
        self.carried_before = CarriedBefore(self.model, self.loader.dataset.batch_rows)
        if self.tuning is not None:
            self.tuning.set_epoch(self.state.step // self.loader.steps)
            decisions["fine_tune"] = self.tuning.groups(self.optimizer_spec.learning_rate)
        self._make_step(str(decisions["compile"]))

    def _make_step(self, compiled: str) -> None:
        """Make optimizer and step for what trains now."""
        settings, ranks = self.settings, self.ranks
        factors = self.tuning.factors() if self.tuning is not None else None
        self.optimizer = self.optimizer_spec.build(decay_groups(self.model, factors))
        rules = StepRules(
            clip_norm=settings.clip_norm,
            clip_value=settings.clip_value,
            l1=settings.l1,
            l2=settings.l2,
            max_norm=settings.max_norm,
            on_nonfinite=settings.on_nonfinite,
        )
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        alone = ranks.is_single or self.placement.shards
        sync = None if alone else GradientSync(trained, exchange=self.exchange)
        self.balance.watch(sync)
        agree = None if alone else lambda flag: broadcast_([flag], ranks)
        adaptive = make_adaptive(self.model, self.optimizer, clip=settings.clip, layer_rates=settings.layer_rates, agree=agree)
        options = {"precision": self.precision, "rules": rules, "sync": sync, "average": self.average, "adaptive": adaptive}
        self.step: TrainingStep
        if self.placement.shards:
            self.step = PlacedStep(self.placement, self.task.loss, self.optimizer, **options)
        elif compiled == "step":
            rows, most = min(self.loader.batch_size, self.loader.length), self._steps_per_call()
            graphs = settings.cuda_graphs
            self.step = CompiledStep(
                self.model, self.task.loss, self.optimizer, rows=rows, steps_per_call=most, cuda_graphs=graphs, **options
            )
        else:
            forward = torch.compile(self.model) if compiled == "model" else self.model
            self.step = TrainingStep(forward, self.task.loss, self.optimizer, **options)  # type: ignore[arg-type]
        self.step.micro_batches, self.step.least_rows = settings.accumulate, max(self.loader.least, 1)

    def _train_mode(self) -> None:
        self.placement.module.train()
        if self.tuning is not None:
            self.tuning.keep_statistics()

    def _unfreeze(self, epoch: int) -> None:
        """Take up what begins to train with an epoch; what trained before goes on with the optimizer's state that it had."""
        if self.tuning is None or not self.tuning.set_epoch(epoch):
            return
        kept, before = optimizer_tensors(self.optimizer, self.model), self.step
        if before.sync is not None:
            before.sync.close()
        self._make_step(str(self.state.decisions["compile"]))
        load_optimizer(self.optimizer, self.model, kept)
        self.step.go_on(before)
        self._train_mode()

    def _make_loader(self, size: int, *, steps: object = None) -> Loader:
        ranks, known = self.placement.rows, None if steps is None else int(str(steps))
        least = STATISTICS_ROWS if has_batch_statistics(self.model) else 0
        pin = ranks.device.type == "cuda"
        seed, resample = self.settings.seed, self.task.resample
        rows = self.task.training_rows(self.train, batch_size=size)
        return Loader(
            rows, seed=seed, batch_size=size, rank=ranks.rank, ranks=ranks.ranks, least=least, steps=known, pin=pin, resample=resample
        )

    def _steps_per_call(self) -> int:
        given = self.settings.steps_per_call
        return 1 if self._on_step else STEPS_PER_CALL if given == "auto" else given

    def _run(self) -> None:
        state, loader = self.state, self.loader
        while state.step < self.total_steps and not self._done:
            state.epoch, first = divmod(state.step, loader.steps)
            self._unfreeze(state.epoch)
            batches = loader.batches(state.epoch, first)
            for batch in batches:
                self._train([batch, *islice(batches, self._more())])
                self.watch.at(state.step)
                for hook in self._on_step:
                    hook(self)
                if state.step >= self._next_event:
                    self._event()
                    if self._divided or self._done or state.step == self.total_steps:
                        break

    def _more(self) -> int:
        """Return how many further batches go into the next call: none past an event, and calls begin at the same steps after a resume."""
        most, step = self.step.steps_per_call, self.state.step
        return max(min(most - step % most, self._next_event - step) - 1, 0) if most > 1 else 0

    def _train(self, batches: Sequence[Batch]) -> None:
        """Make one step with each batch, in smaller pieces where memory does not suffice."""
        first = self.state.step
        ready = [self._ready(batch, step) for step, batch in enumerate(batches, first)]
        self._rows += sum(map(len, ready))
        if len(ready) > 1:
            self.step.many(ready, lambda place: self.begin(first + place))
        else:
            self.begin(first)
            self._make(ready[0])
        self.state.step += len(ready)

    def rewind(self, step: int) -> None:
        """Make loader, optimizer and step anew, to stand at a step; weights and state are put back by whoever rewinds."""
        self.state.step = step
        self._build(self.state.decisions)
        self._train_mode()

    def replay(self) -> Batch:
        """Make the step at which the run stands as it is made in training; return its batch as the network met it."""
        epoch, first = divmod(self.state.step, self.loader.steps)
        self._unfreeze(epoch)
        batch = self._ready(next(self.loader.batches(epoch, first)), self.state.step)
        self.begin(self.state.step)
        self._make(batch)
        return batch

    def begin(self, step: int) -> None:
        """Set what depends on the step's number alone."""
        self.step.set_factor(self.schedule.factor(step, self.total_steps))
        seed_generators(seed_of(self.settings.seed, _DROPOUT, step, self.placement.stream), self.ranks.device)
        begin_exchange(self.exchange, self.settings.seed, step)

    def _make(self, batch: Batch) -> None:
        self.carried_before.keep()
        while True:
            try:
                self.step(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._back_off(len(batch), error)
            else:
                return

    def _ready(self, batch: Batch, step: int) -> Batch:
        """Return the batch of a step as the network is to meet it."""
        if self.ranks.device.type != "cpu":
            batch = batch.to(self.ranks.device)
        if self.augment:
            batch = self.augmented(batch, step)
        return with_channels_last(batch) if self._channels_last else batch

    def augmented(self, batch: Batch, step: int) -> Batch:
        """Return the batch with the random changes of a step: the same for the same step, whatever was drawn before."""
        start, _, total = self.loader.share(step % self.loader.steps)
        generator = torch.Generator().manual_seed(seed_of(self.settings.seed, _AUGMENT, step))
        for augmentation in self.augment:
            batch = augmentation.apply(batch, Draw(generator, start, total))
        return batch

    def _back_off(self, rows: int, error: BaseException) -> None:
        """Cut the batch into twice as many pieces; the step's result stays the same."""
        sync = self.step.sync
        if not self.step.repeatable:
            hint = "take a smaller model, or an optimizer that keeps less"
            raise TrainingError(f"out of memory behind the backward pass, where smaller pieces do not help: {error}", hint=hint) from error
        if self.step.micro_batches >= rows or self.placement.shards or (sync is not None and sync.busy):
            hint = "lower batch_size or the model's width, or raise accumulate"
            raise TrainingError(f"out of memory with {self.step.micro_batches} micro-batches of {rows} rows: {error}", hint=hint) from error
        self.step.micro_batches = min(self.step.micro_batches * 2, rows)
        self.state.decisions["micro_batches"] = self.step.micro_batches
        self.begin(self.state.step)  # the step begins anew, with the random numbers and the memory that it began with
        self.optimizer.zero_grad()
        empty_cache(self.ranks.device)
        self.carried_before.put_back()

    def _event(self) -> None:
        """Look at the loss, call back, validate, save, and plan the next event."""
        state, settings = self.state, self.settings
        self._look()
        self._divided = self.balance.look(state.step, self._rows)
        for callback in self.callbacks:
            callback.on_log(self)
        if state.step % self._validate_steps == 0 or state.step == self.total_steps:
            self._validate()
        now = time.perf_counter()
        timely = settings.checkpoint_every_s is not None and now - self._saved_at >= settings.checkpoint_every_s
        pace = (now - self._event_at) / (state.step - self._event_step)
        wanted = max(min(int(_EVENT_S / pace), settings.log_every), 1)
        stops, saves, ahead = broadcast_message([bool(self.stopped_reason), timely, wanted], self.ranks)
        if saves or (settings.checkpoint_every is not None and state.step % settings.checkpoint_every == 0):
            self._save()
        self._done = bool(stops or signal_of_any(self._interruption, self.ranks))
        self._plan(ahead)

    def _plan(self, ahead: int) -> None:
        step, total = self.state.step, self.total_steps
        periods = [period for period in (self._validate_steps, self.settings.checkpoint_every) if period]
        call = self.step.steps_per_call
        near = (step + max(ahead, call)) // call * call  # calls of several steps are cut where the clock has no say
        self._next_event = min(near, total, *((step // period + 1) * period for period in periods))
        self._event_step, self._event_at = step, time.perf_counter()

    def _look(self) -> None:
        """Read the running loss and the speed: the one place where the loop waits for the device."""
        sums = torch.stack([self.step.numerator, self.step.denominator, torch.full_like(self.step.numerator, self._rows)])
        sum_across([sums], self.placement.rows)
        numerator, denominator, rows = sums.tolist()
        self.guard.check(self.state.step, numerator)
        self.state.loss_sum = (numerator, denominator)
        self.state.epoch = self.state.step // self.loader.steps
        spent = max(time.perf_counter() - self._began_steps - self._aside_s, 1e-9)
        group = self.optimizer.param_groups[0]
        rate = float(group["lr"]) / float(group["learning_rate_factor"])
        waited, told = min(self.loader.wait_s / spent, 1.0), self.step.told()
        if self.is_main and (line := told.left_out_since(self.progress.told)):
            progress.log(line)
        self.progress = Progress(numerator / (denominator or 1.0), rate, rows / spent, waited, self.step.skipped, told)

    def _validate(self) -> None:
        """Measure, remember the best weights, and start the training loss anew."""
        state, began = self.state, time.perf_counter()
        entry = {"step": state.step, "epoch": state.epoch, "learning_rate": self.progress.learning_rate, "train_loss": self.progress.loss}
        self.step.numerator.zero_()
        self.step.denominator.zero_()
        state.loss_sum = (0.0, 0.0)
        if self.validation is None:
            state.history.append({**entry, "seconds": self.seconds})
            return
        self.guard.check(state.step, 0.0, [*self.model.parameters()])
        with self.average.swapped() if self.average else nullcontext():
            broadcast_(self.model.buffers(), self.placement.rows)  # running statistics differ by rank; rank 0's are the ones that are kept
            batches, rows = self._validation_batches(), self.placement.rows
            found = evaluate(self.placement.module, self.task, batches, context=rows, precision=self.precision)
            metrics = broadcast_numbers(found, self.ranks)  # or unlike processors would take parts of different steps for the best
            self._remember(metrics)
        self._train_mode()
        state.history.append({**entry, "seconds": self.seconds, **metrics})
        self.schedule.observe(metrics[self.monitor], higher_is_better=self.higher_is_better)
        self._aside_s += time.perf_counter() - began
        for callback in self.callbacks:
            callback.on_validation(self)

    def _validation_batches(self) -> Iterator[Batch]:
        assert self.validation is not None
        rows, ranks = self.task.measured_rows(self.validation), self.placement.rows
        size = max(self.loader.batch_size, rows_within(rows, LEAST_TOGETHER) * ranks.ranks)
        shares = self.loader.shares
        loader = Loader(rows, batch_size=size, rank=ranks.rank, ranks=ranks.ranks, shares=shares, shuffle=False, group_lengths=True)
        batches = self.watch.through(loader.batches(0))
        return map(with_channels_last, batches) if self._channels_last else batches

    def _remember(self, metrics: dict[str, float]) -> None:
        value, best = metrics[self.monitor], self.state.best
        if math.isnan(value):
            raise NonFiniteError(
                f"the monitored metric {self.monitor!r} is NaN after step {self.state.step}",
                hint="lower learning_rate, or monitor another metric",
            )
        if best is None or (value > best.value if self.higher_is_better else value < best.value):
            self.state.best = Best(self.state.step, value, metrics)
            self.keeper.remember(self.model)

    def _save(self) -> None:
        if self.keeper.folder is None:
            return
        began = time.perf_counter()
        self.guard.check(self.state.step, self.state.loss_sum[0], [*self.model.parameters()])
        self.state.seconds = self.seconds
        carried, exchanged = carried_of(self.model, self.loader.dataset.batch_rows, self.ranks), exchanged_of(self.exchange)
        if self.is_main or self.placement.shards:
            self.guard.saved(self.keeper.save(self, carried, exchanged))
        self._saved_at = time.perf_counter()
        self._aside_s += self._saved_at - began
        for callback in self.callbacks:
            callback.on_checkpoint(self)

    def _finish(self) -> None:
        """Save, and leave in the model the weights that are to be used."""
        self.stopped_reason = self.stopped_reason or "finished"
        self.guard.check(self.state.step, 0.0, [*self.model.parameters()])
        self._save()
        self.state.seconds = self.seconds
        if self.settings.restore_best and self.state.best is not None:
            self.keeper.recall(self.model)
        elif self.average is not None:
            self.average.copy_to_model()
        if self.placement.shards:
            self.placement.gather()
        broadcast_([*self.model.parameters(), *self.model.buffers()], self.ranks)  # what is measured is what rank 0 writes
        if self.tuning is not None:
            self.tuning.finish(self.folder if self.is_main else None)
        for callback in self.callbacks:
            callback.on_fit_end(self)

"""A study: trials that are proposed, run and remembered, in memory or in a database that several processes share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from deepseek.errors import InputError, RunError
from deepseek.registry import Spec, family
from deepseek.search.engine import BEAT_S, GRACE_S, decode, distributions, load_optuna, open_storage, quiet, shown_storage
from deepseek.search.ordinals import ORDINAL, WITHDRAWN, ordinal_of
from deepseek.search.space import Space, parse_space
from deepseek.search.trial import NOTE, Trial, TrialRecord, TrialState
from deepseek.search.workers import OWNER, Heartbeat, is_dead, this_worker

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Direction: TypeAlias = Literal["minimize", "maximize"]
Objective: TypeAlias = Callable[[Trial], float]

_SETTINGS = "deepseek:settings"
_ERROR = "deepseek:error"
_ERROR_CHARACTERS = 2_000
_DEATHS = "deepseek:deaths"
_MOST_DEATHS = 3
_WAIT_S = 0.5


class Study:
    """A search over one space, which goes on where it was left.

    A study is known by its storage and its name. Opened again with the same settings, in another process or after an interruption, it
    takes up the trials that are there: `run` ends when `trials` of them are finished in all, however many processes work on them and
    whichever of them die. Trials whose worker died are put back into the queue: at once where the worker ran on this machine, after two
    minutes without a sign of life where it ran on another. One that three workers died of, for want of memory most likely, has failed.

    Args:
        space: What is searched: a `Space`, or a mapping as `parse_space` takes it.
        trials: How many trials are to be finished in all, at least 1; it may be raised when the study is opened again.
        direction: Whether small or large values are wanted.
        search: How points are proposed: a component of the family `search`.
        pruner: When trials are given up: a component of the family `pruner`.
        seed: Where all randomness begins.
        storage: Where trials are kept: nothing for memory, the path of an SQLite file, or a database's URL
            (`postgresql://user:password@host/database`, `mysql://…`); passwords are neither shown nor saved.
        name: The study's name in its storage.

    Raises:
        InputError: The storage cannot be opened, or the study there has other settings.
        MissingExtraError: Optuna is not installed (`pip install 'deepseek-framework[tune]'`).

    Example:
        >>> study = Study({"x": (-1.0, 1.0)}, trials=20)
        >>> best = study.run(lambda trial: trial.parameters["x"] ** 2)
        >>> len(study.trials), best.value < 0.1
        (20, True)
    """

    def __init__(  # noqa: PLR0913 - its arguments are the settings that a study is known by
        self,
        space: Space | Mapping[str, Any],
        *,
        trials: int,
        direction: Direction = "minimize",
        search: Spec = "tpe",
        pruner: Spec = "none",
        seed: int = 0,
        storage: str | Path | None = None,
        name: str = "study",
    ) -> None:
        if trials < 1 or direction not in ("minimize", "maximize"):
            raise InputError(f"trials is {trials} and direction {direction!r}", hint="at least 1 trial, to minimize or to maximize")
        load_optuna("a study")
        self.space = parse_space(space)
        self.count, self.direction, self.seed, self.name = trials, direction, seed, name
        self.storage = shown_storage(storage)
        searches, pruners = family("search"), family("pruner")
        spec, pruner_spec = searches.validate(search), pruners.validate(pruner)
        sampler = searches.build(spec).sampler(self.space, seed=seed, trials=trials)
        self._storage = open_storage(storage, on_stale=self._put_back)
        self._study = self._create(sampler, pruners.build(pruner_spec).pruner())
        self._agree({"space": self.space.to_json(), "direction": direction, "search": spec, "pruner": pruner_spec, "seed": seed})
        self._distributions = distributions(self.space)
        self._worker = this_worker() | {"study": id(self)}
        self._open: dict[int, Heartbeat] = {}

    def ask(self) -> Trial | None:
        """Begin the next trial.

        Returns:
            The trial, to be ended with `tell`; nothing if the study has all its trials, finished or under way.
        """
        self._reclaim()
        if sum(record.state not in ("lost", "waiting") for record in self.trials) >= self.count:
            return None
        with quiet():
            trial = self._study.ask(self._distributions)
        beat = Heartbeat(self._storage, trial._trial_id, BEAT_S)  # noqa: SLF001 - Optuna's name for it
        beat.start()
        trial.set_user_attr(OWNER, self._worker)
        if self._rank(trial.number) >= self.count:
            beat.stop()
            self._withdraw(trial)
            return None
        self._open[trial.number] = beat
        place = ordinal_of(self._frozen(trial.number), self._study.get_trials(deepcopy=False))
        return Trial(trial, decode(self.space, trial.params), place=place)

    def tell(self, trial: Trial, value: float | None = None, *, error: str | None = None) -> TrialRecord:
        """End a trial.

        Args:
            trial: What `ask` returned.
            value: What the objective came to; not needed for a trial that was pruned.
            error: What went wrong, for a trial that failed.

        Returns:
            What is on record now. A value that is no finite number makes the trial a failed one. A trial that others gave up for lost
            stays so.
        """
        if error is None and not trial.pruned and not (isinstance(value, int | float) and math.isfinite(value)):
            error = f"the objective returned {value!r}, not a finite number"
        states = load_optuna().trial.TrialState
        state = states.FAIL if error is not None else states.PRUNED if trial.pruned else states.COMPLETE
        self._end(trial.number)
        if error is not None:
            self._annotate(trial, _ERROR, error[:_ERROR_CHARACTERS])
        with quiet():
            frozen = self._study.tell(trial.number, value if state == states.COMPLETE else None, state=state, skip_if_finished=True)
        return self._record(frozen)

    def run(self, objective: Objective, *, time_limit_s: float | None = None, max_failures: int = 10) -> TrialRecord:
        """Run trials until the study has its number, and wait for those that other processes have under way.

        Args:
            objective: Takes a `Trial`, returns its value. Whatever it raises is recorded with the trial, and the study goes on.
            time_limit_s: Seconds after which no further trial begins.
            max_failures: How many trials may fail one after the other, at least 1, before the study stops.

        Returns:
            The best trial.

        Raises:
            RunError: Too many trials failed one after the other, or none is complete.
        """
        end = math.inf if time_limit_s is None else time.monotonic() + time_limit_s
        failures = 0
        while time.monotonic() < end:
            trial = self.ask()
            if trial is None:
                if not self._others_at_work():
                    break
                time.sleep(_WAIT_S)
                continue
            error = self._attempt(trial, objective)
            failures = 0 if error is None else failures + 1
            if error is not None and failures >= max_failures:
                raise RunError(
                    f"{failures} trials failed one after the other, the last with {describe_error(error)}",
                    hint="mend the objective, or raise max_failures; the study goes on where it stopped",
                ) from error
        return self.best

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial, in the order of their numbers, those under way and lost ones among them."""
        return [self._record(one) for one in self._study.get_trials(deepcopy=False) if WITHDRAWN not in one.user_attrs]

    @property
    def remaining(self) -> int:
        """How many trials are still to be finished."""
        return max(self.count - sum(record.finished for record in self.trials), 0)

    @property
    def best(self) -> TrialRecord:
        """The complete trial with the best value, the first of equals.

        Raises:
            RunError: No trial is complete.
        """
        complete = [record for record in self.trials if record.state == "complete" and record.value is not None]
        if not complete:
            errors = [record.error for record in self.trials if record.error]
            raise RunError(f"no trial of the study {self.name!r} is complete", hint=f"the last error: {errors[-1]}" if errors else None)
        sign = 1 if self.direction == "minimize" else -1
        return min(complete, key=lambda record: sign * cast(float, record.value))

    def importance(self) -> dict[str, float]:
        """Return each dimension's share in what makes trials good, largest first; the shares sum to 1.

        PED-ANOVA (Watanabe et al., 2023, https://arxiv.org/abs/2304.10255) compares where the better trials lie with where all do.

        Raises:
            RunError: Fewer than two trials are complete, or all have one value.
        """
        optuna = load_optuna()
        complete = [record for record in self.trials if record.state == "complete"]
        if len(complete) < 2 or len({record.value for record in complete}) < 2:
            raise RunError(f"{len(complete)} trials are complete", hint="importance needs at least two with different values")
        with quiet():
            return dict(optuna.importance.get_param_importances(self._study))

    def close(self) -> None:
        """Put trials that were asked for and never ended back into the queue, and let go of the storage."""
        for record in self.trials:
            if record.number in self._open:
                self._end(record.number)
                self._requeue(self._frozen(record.number))
        engine = getattr(self._storage, "engine", None)
        self._storage.remove_session()
        if engine is not None:
            engine.dispose()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.count - self.remaining} of {self.count} trials finished, in {self.storage})"

    def _create(self, sampler: Any, pruner: Any) -> optuna.Study:
        with quiet():
            return cast(
                "optuna.Study",
                load_optuna().create_study(
                    storage=self._storage,
                    study_name=self.name,
                    direction=self.direction,
                    sampler=sampler,
                    pruner=pruner,
                    load_if_exists=True,
                ),
            )

    def _agree(self, settings: dict[str, Any]) -> None:
        """Save the settings of a new study; compare them with those of one that is there."""
        begun = bool(self._study.get_trials(deepcopy=False))  # asked first: whoever began trials had saved his settings before
        saved = self._study.user_attrs.get(_SETTINGS)
        if saved is None and begun:
            raise InputError(f"the study {self.name!r} in {self.storage} was not made here", hint="choose another name")
        if saved is None:
            self._study.set_user_attr(_SETTINGS, settings)
            saved = settings
        for key, value in settings.items():
            if saved[key] != value:
                raise InputError(
                    f"the study {self.name!r} in {self.storage} has the {key} {saved[key]}, and {value} was given",
                    hint="give what it was begun with to go on, or another name to begin anew",
                )

    def _attempt(self, trial: Trial, objective: Objective) -> Exception | None:
        """Run one trial; whatever way the process leaves it, the trial is told or goes back into the queue."""
        try:
            value = objective(trial)
        except Exception as error:  # noqa: BLE001 - foreign code: whatever the objective raises is the trial's failure
            self.tell(trial, error=describe_error(error))
            return error
        except BaseException:
            self._end(trial.number)
            self._requeue(self._frozen(trial.number))
            raise
        record = self.tell(trial, value)
        return RunError(record.error) if record.state == "failed" and record.error else None

    def _rank(self, number: int) -> int:
        """Return how many trials before this one count."""
        return sum(record.number < number and record.state != "lost" for record in self.trials)

    def _withdraw(self, trial: optuna.Trial) -> None:
        trial.set_user_attr(WITHDRAWN, True)
        with quiet():
            self._study.tell(trial.number, state=load_optuna().trial.TrialState.FAIL)

    def _annotate(self, trial: Trial, key: str, value: Any) -> None:
        """Write an attribute down, unless the trial was given up for lost meanwhile."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            trial._trial.set_user_attr(key, value)  # noqa: SLF001 - the handle's own
        except UpdateFinishedTrialError:
            return

    def _end(self, number: int) -> None:
        beat = self._open.pop(number, None)
        if beat is not None:
            beat.stop()

    def _others_at_work(self) -> bool:
        """Whether a trial of another worker is under way or waiting, so that one of its trials may come back."""
        running = load_optuna().trial.TrialState.RUNNING
        return any(one.state == running and one.user_attrs.get(OWNER) != self._worker for one in self._study.get_trials(deepcopy=False))

    def _frozen(self, number: int) -> FrozenTrial:
        return next(one for one in self._study.get_trials(deepcopy=False) if one.number == number)

    def _reclaim(self) -> None:
        """Put the trials of dead workers back into the queue."""
        running = load_optuna().trial.TrialState.RUNNING
        with quiet():
            load_optuna().storages.fail_stale_trials(self._study)
        for one in self._study.get_trials(deepcopy=False, states=(running,)):
            worker = one.user_attrs.get(OWNER)
            age_s = (datetime.now() - one.datetime_start).total_seconds() if one.datetime_start else 0.0
            if is_dead(worker) if worker else age_s > GRACE_S:  # a worker that left no name died while it took the trial up
                self._requeue(one, died=True)

    def _requeue(self, lost: FrozenTrial, *, died: bool = False) -> None:
        """Give a trial up for lost and put its point back; of several workers that try, one does."""
        optuna = load_optuna()
        deaths = lost.user_attrs.get(_DEATHS, 0) + died
        try:
            if died:
                self._storage.set_trial_user_attr(lost._trial_id, _DEATHS, deaths)  # noqa: SLF001 - Optuna's name for it
            if deaths >= _MOST_DEATHS:
                error = f"{deaths} workers died of it, one after the other: killed, most likely for memory"
                self._storage.set_trial_user_attr(lost._trial_id, _ERROR, error)  # noqa: SLF001
            self._storage.set_trial_state_values(lost._trial_id, state=optuna.trial.TrialState.FAIL)  # noqa: SLF001 - Optuna's name for it
        except optuna.exceptions.UpdateFinishedTrialError:
            return
        self._put_back(self._study, self._frozen(lost.number))

    def _put_back(self, study: optuna.Study, lost: FrozenTrial) -> None:
        """Queue a lost trial's point, with its place in the study; one whose error is on record has failed and is not tried again."""
        if _ERROR not in lost.user_attrs:
            ordinal = ordinal_of(lost, study.get_trials(deepcopy=False))
            with quiet():
                study.enqueue_trial(lost.params, user_attrs={ORDINAL: ordinal, _DEATHS: lost.user_attrs.get(_DEATHS, 0)})

    def _record(self, frozen: FrozenTrial) -> TrialRecord:
        states: dict[str, TrialState] = {
            "WAITING": "waiting", "RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned",
            "FAIL": "failed" if _ERROR in frozen.user_attrs else "lost",
        }  # fmt: skip
        state = states[frozen.state.name]
        reported = dict(sorted(frozen.intermediate_values.items()))
        return TrialRecord(
            number=frozen.number,
            state=state,
            parameters=decode(self.space, frozen.params or frozen.system_attrs.get("fixed_params", {})),
            value=frozen.value if state == "complete" else next(reversed(reported.values()), None) if state == "pruned" else None,
            error="its worker died or was interrupted" if state == "lost" else frozen.user_attrs.get(_ERROR),
            reported=reported,
            notes={key.removeprefix(NOTE): value for key, value in frozen.user_attrs.items() if key.startswith(NOTE)},
            started=frozen.datetime_start,
            seconds=frozen.duration.total_seconds() if frozen.duration else None,
        )


def describe_error(error: BaseException) -> str:
    """Return an error as one line says it: its kind and its message."""
    return f"{type(error).__name__}: {error}"

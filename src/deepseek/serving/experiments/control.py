"""What is served, changed while it is served: bundles exchanged, experiments begun, their shares changed, promoted, rolled back, stopped.

Whatever is changed is written to the server's `models.json` and followed, here and in all workers: what was answered with 200 is also what
a server that is killed at this moment begins with.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from deepseek.artifacts import Bundle
from deepseek.errors import DeepSeekError, InputError, UnknownNameError
from deepseek.recipe.sections import ExperimentSection
from deepseek.serving.experiments.arms import OpenArm, open_arm
from deepseek.serving.experiments.audit import folder_of, history, note
from deepseek.serving.experiments.running import Running
from deepseek.serving.experiments.settings import CHAMPION, MOST_PHASES, Arm, Experiment, phase_of
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import NAME, Models, ServedModel
from deepseek.serving.state import State, Wanted

log = logging.getLogger("deepseek.serving")

Everywhere = Callable[[str, int], Awaitable[dict[str, int]]]
_DONE = 20
"""So much of the log is shown with an experiment's state."""


class Control:
    """Changes what one worker serves, and asks the others to follow.

    Args:
        models: The models.
        state: What all workers agree on.
        metrics: Where is counted.
        opened: What was wanted when the models were opened.

    Attributes:
        running: The experiments that this worker takes part in, by model.
        everywhere: Waits until all workers have followed a change, and says how many have.
        followed: The serial of what this worker has followed last, by model.
    """

    def __init__(self, models: Models, state: State, metrics: Metrics, *, opened: Mapping[str, Wanted]) -> None:
        self.running: dict[str, Running] = {}
        self.everywhere: Everywhere = _only_here
        self.followed: dict[str, int] = dict.fromkeys((model.name for model in models.all()), -1)
        self._models, self._state, self._metrics = models, state, metrics
        self._opened = {name: one.opened for name, one in opened.items()}
        self._proven: dict[str, list[OpenArm]] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Take up what is wanted and was not followed yet; what fails is logged, and the rest goes on."""
        async with self._lock:
            for name, wanted in self._state.read().items():
                if wanted.serial > self.followed.get(name, -1):
                    try:
                        await self._take_up(name, wanted)
                    except DeepSeekError as error:
                        log.error("model %s stays as it is: %s", name, error)  # noqa: TRY400 - the message says it all
                    self.followed[name] = wanted.serial

    async def _take_up(self, name: str, wanted: Wanted) -> None:
        before = self.running.get(name)
        if wanted.opened > self._opened.get(name, 0):
            self._opened[name] = wanted.opened
            await self._models.load(name, wanted.path)
            self.running.pop(name, None)  # its champion is leaving
        value = wanted.experiment
        await self._arrange(name, before, Experiment.from_json(value) if value is not None and wanted.experimenting else None)

    async def _arrange(self, name: str, before: Running | None, experiment: Experiment | None) -> None:
        """Open the arms that are wanted and not there yet, answer with them, and let go of the others."""
        there = {_kind(arm.arm): arm for arm in before.arms} if before is not None else {}
        if experiment is None:
            self.running.pop(name, None)
        else:
            there |= {_kind(arm.arm): arm for arm in self._proven.pop(experiment.id, [])}
            arms = [
                there.pop(kind) if (kind := _kind(arm)) in there else await open_arm(self._models, name, arm, metrics=self._metrics)
                for arm in experiment.others
            ]
            for opened, arm in zip(arms, experiment.others, strict=True):
                opened.arm = arm
                opened.begin()
            self.running[name] = Running(experiment, self._models.get(name), arms, metrics=self._metrics)
        for left in there.values():
            task = asyncio.get_running_loop().create_task(left.close())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def load(self, name: str, path: str, *, who: str) -> dict[str, Any]:
        """Take up another bundle here, which proves it, and then in all workers.

        Args:
            name: The model.
            path: The bundle.
            who: Who asked for that.

        Raises:
            RefusedError: There is no such model (404), or an experiment runs on it (409).
            BundleError: The bundle is not there, or not as it was written; the old one stays.
        """
        return await self._exchange(name, path, _refuse_while_it_runs, who=who, what="load")

    async def _exchange(self, name: str, path: str, change: Callable[[Wanted], Wanted], *, who: str, what: str) -> dict[str, Any]:
        """Exchange a bundle here, and wait for the others without holding the lock: they may be waiting for this worker."""
        async with self._lock:
            new, wanted = await self._exchange_here(name, path, change, who=who, what=what)
        return {"model": name, "version": new.version, "workers": await self.everywhere(name, wanted.serial)}

    async def _exchange_here(
        self, name: str, path: str, change: Callable[[Wanted], Wanted], *, who: str, what: str
    ) -> tuple[ServedModel, Wanted]:
        """Open a bundle here, then let all others follow; without any wait between the two, so that nobody meets a champion that leaves."""
        old = self._models.get(name)
        change(self._state.read()[name])  # what is refused is refused before anything is opened
        new = await self._models.load(name, path)
        before = self.running.get(name)

        def exchanged(wanted: Wanted) -> Wanted:
            changed = change(wanted)
            kept = changed.previous if what == "rollback" else (*changed.previous, old.bundle)
            return changed.exchanged(str(Path(path).absolute()), kept)

        try:
            wanted = self._state.change(name, exchanged)
        except RefusedError:  # an experiment was begun or ended elsewhere at this moment
            self._opened[name], self.followed[name] = -1, -1
            raise
        self._opened[name] = wanted.opened
        self.running.pop(name, None)
        await self._arrange(name, before, None)
        self.followed[name] = wanted.serial
        note(self._state.folder, name, who=who, what=what, old=old.version, new=new.version)
        return new, wanted

    async def begin(self, name: str, settings: ExperimentSection, *, who: str) -> dict[str, Any]:
        """Begin an experiment: its arms are opened here, which proves them, and then in all workers.

        Args:
            name: The model that is served.
            settings: What is asked for.
            who: Who asks.

        Raises:
            RefusedError: There is no such model (404), or an experiment runs on it already (409).
            InputError: A share, a name or a metric is not allowed, or an arm predicts something else.
            BundleError: An arm's bundle is not there, or not as it was written.
        """
        experiment, wanted = await self._begin(name, settings, who=who)
        return {**experiment.shown(paths=True), "workers": await self.everywhere(name, wanted.serial)}

    async def begin_once(self, name: str, settings: ExperimentSection, *, who: str) -> None:
        """Begin the experiment that a recipe asks for, unless it runs or was the last one already.

        Args:
            name: The model that is served.
            settings: What is asked for.
            who: Who asks.

        Raises:
            InputError: A share, a name or a metric is not allowed, or an arm predicts something else.
            BundleError: An arm's bundle is not there, or not as it was written.
        """
        before = self._state.read()[name]
        if before.experimenting or (before.experiment is not None and before.experiment["settings"] == settings.model_dump(mode="json")):
            return
        try:
            await self._begin(name, settings, who=who)
        except RefusedError as refused:
            if refused.status != 409 or not self._state.read()[name].experimenting:
                raise
            await self.follow()  # another worker was faster

    async def _begin(self, name: str, settings: ExperimentSection, *, who: str) -> tuple[Experiment, Wanted]:
        async with self._lock:
            champion = self._models.get(name)
            _refuse_while_it_runs(self._state.read()[name])
            if self._state.journal is None:
                raise RefusedError(
                    409,
                    "this server keeps no record of answers and outcomes, without which nothing is found out",
                    hint="serve with --state FOLDER or --watch, or a recipe with a section monitor or serve.experiment",
                )
            experiment = _experiment(name, champion, settings)
            opened: list[OpenArm] = []
            try:
                for arm in experiment.others:
                    opened.append(  # noqa: PERF401 - those before one that fails are closed
                        await open_arm(self._models, name, arm, metrics=self._metrics)
                    )
                versions = {one.arm.name: one.model.version for one in opened}
                arms = tuple(replace(arm, version=versions.get(arm.name, arm.version)) for arm in experiment.arms)
                experiment = replace(experiment, arms=arms)
                value = experiment.to_json()
                wanted = self._state.change(name, lambda old: replace(_refuse_while_it_runs(old), experiment=value))
            except BaseException:
                await asyncio.gather(*(one.close() for one in opened))
                raise
            note(self._state.folder, name, who=who, what="begin", old=None, new=experiment.shown(paths=True), experiment=experiment.id)
            self._proven[experiment.id] = opened
            await self._arrange(name, None, experiment)
            self.followed[name] = wanted.serial
        return experiment, wanted

    async def share(self, name: str, share: float, *, arm: str | None, who: str) -> dict[str, Any]:
        """Give a challenger another share, or a shadow its first one; who has the challenger keeps it when the share is raised.

        Args:
            name: The model that is served.
            share: From 0 to 1 divided by the number of arms beside the champion.
            arm: Which arm; may be left out where there is one only.
            who: Who asks.

        Raises:
            RefusedError: No experiment runs (409).
            InputError: The share is not allowed, or there is no such arm.
        """
        async with self._lock:

            def changed(old: Wanted) -> Wanted:
                experiment = _running(name, old)
                if len(experiment.phases) >= MOST_PHASES:
                    raise RefusedError(
                        409, f"shares were changed {MOST_PHASES - 1} times", hint="end this experiment and begin another one"
                    )
                chosen = _arm(experiment, arm)
                _check_share(share, len(experiment.others))
                return replace(old, experiment=experiment.with_share(chosen.name, share, at=time.time()).to_json())

            self._models.get(name)
            before = self._state.read()[name]
            wanted = self._state.change(name, changed)
            await self._take_up(name, wanted)
            self.followed[name] = wanted.serial
            old, new = (_running(name, one) for one in (before, wanted))
            shares = [{one.name: one.share for one in each.others} for each in (old, new)]
            note(self._state.folder, name, who=who, what="share", old=shares[0], new=shares[1], experiment=new.id)
        return {**new.shown(paths=True), "workers": await self.everywhere(name, wanted.serial)}

    async def promote(self, name: str, arm: str | None, *, who: str) -> dict[str, Any]:
        """Make an arm the model; the one that was there is remembered, and the experiment ends.

        Args:
            name: The model that is served.
            arm: Which arm; may be left out where there is one only.
            who: Who asks.

        Raises:
            RefusedError: No experiment runs (409).
            InputError: There is no such arm.
            BundleError: Its bundle is not there any more, or not as it was written; nothing changes.
        """
        self._models.get(name)
        chosen = _arm(_running(name, self._state.read()[name]), arm)
        return await self._exchange(name, chosen.path, lambda old: _ended(name, old, f"promoted {chosen.name}"), who=who, what="promote")

    async def rollback(self, name: str, *, who: str) -> dict[str, Any]:
        """End the experiment that runs and keep the champion; where none runs, take up the model that was there before.

        Args:
            name: The model that is served.
            who: Who asks.

        Raises:
            RefusedError: Nothing was there before (409).
            BundleError: Its bundle is not there any more; nothing changes.
        """
        self._models.get(name)
        wanted = self._state.read()[name]
        if wanted.experimenting:
            return await self.stop(name, who=who, outcome="rolled back")
        if not wanted.previous:
            raise RefusedError(409, f"no other model was at {name!r} before", hint="load one by its path")

        def back(old: Wanted) -> Wanted:
            if _refuse_while_it_runs(old).previous != wanted.previous:
                raise RefusedError(409, "another model was taken up at this moment", hint="look at what is served, and ask again")
            return replace(old, previous=old.previous[:-1])

        return await self._exchange(name, wanted.previous[-1], back, who=who, what="rollback")

    async def stop(self, name: str, *, who: str, outcome: str = "stopped") -> dict[str, Any]:
        """End the experiment; the champion goes on.

        Args:
            name: The model that is served.
            who: Who asks.
            outcome: How it ends, in words.

        Raises:
            RefusedError: No experiment runs (409).
        """
        async with self._lock:
            version = self._models.get(name).version
            wanted = self._state.change(name, lambda old: _ended(name, old, outcome))
            await self._take_up(name, wanted)
            self.followed[name] = wanted.serial
            assert wanted.experiment is not None
            note(self._state.folder, name, who=who, what="stop", old="running", new=outcome, experiment=wanted.experiment["id"])
        return {"model": name, "version": version, "outcome": outcome, "workers": await self.everywhere(name, wanted.serial)}

    def status(self, name: str, *, admin: bool) -> dict[str, Any]:
        """Return the experiment that runs or was the last one, with what was found so far.

        Args:
            name: The model that is served.
            admin: Whether paths and the log are shown.

        Raises:
            RefusedError: There is no such model, or there was no experiment (404).
        """
        self._models.get(name)
        value = self._state.read()[name].experiment
        if value is None:
            raise RefusedError(404, f"no experiment was begun on {name!r}", hint="begin one: deepseek experiment start")
        experiment = Experiment.from_json(value)
        file = folder_of(self._state.folder, name) / "status.json"
        found = orjson.loads(file.read_bytes()) if file.exists() else {}
        if found.get("experiment") != experiment.id:
            found = {"verdict": "nothing was counted yet"}
        shown = {**experiment.shown(paths=admin), "results": {key: part for key, part in found.items() if key != "experiment"}}
        return {**shown, "log": history(self._state.folder, name)[-_DONE:]} if admin else shown

    async def close(self) -> None:
        """Let go of all arms."""
        await asyncio.gather(*(running.close() for running in self.running.values()))


async def _only_here(name: str, serial: int) -> dict[str, int]:  # noqa: ARG001 - there is nobody else
    return {"switched": 1, "of": 1}


def _kind(arm: Arm) -> tuple[str, str, bool]:
    """Return what an arm has to be opened for anew when it changes; a shadow's thread is a quiet one for good."""
    return arm.name, arm.path, arm.role == "shadow"


def _refuse_while_it_runs(wanted: Wanted) -> Wanted:
    if wanted.experimenting:
        raise RefusedError(409, "an experiment runs on this model", hint="promote one of its arms, or stop it, first")
    return wanted


def _running(name: str, wanted: Wanted) -> Experiment:
    if wanted.experiment is None or not wanted.experimenting:
        raise RefusedError(409, f"no experiment runs on {name!r}", hint="begin one: deepseek experiment start")
    return Experiment.from_json(wanted.experiment)


def _ended(name: str, wanted: Wanted, outcome: str) -> Wanted:
    return replace(wanted, experiment=_running(name, wanted).ended(outcome, at=time.time()).to_json())


def _arm(experiment: Experiment, name: str | None) -> Arm:
    others = {arm.name: arm for arm in experiment.others}
    if name is None and len(others) == 1:
        return next(iter(others.values()))
    if name not in others:
        raise UnknownNameError("arm", name or "", list(others), hint="name one of the arms beside the champion")
    return others[name]


def _check_share(share: float, arms: int) -> None:
    if not 0 <= share <= 1 / arms + 1e-9:
        raise InputError(
            f"the share is {share:g}; with {arms} {'arms' if arms > 1 else 'arm'} beside the champion it is from 0 to {1 / arms:.3g}",
            hint="each arm has its own part of all keys, so that nobody changes from one to another",
        )


def _experiment(name: str, champion: ServedModel, settings: ExperimentSection) -> Experiment:
    """Return what was asked for, checked as far as it can be without opening the arms."""
    if champion.outcome is None:
        raise InputError(f"the model {name!r} has no target to compare answers with")
    measured = [metric for metric in champion.outcome.metrics if metric != "auc"]  # which is no mean of rows
    allowed = ["auto", *measured, *(("error_rate",) if "accuracy" in measured else ()), "reward"]
    if settings.metric not in allowed:
        raise UnknownNameError("metric", settings.metric, allowed)
    shadow = settings.role == "shadow"
    if not shadow:
        _check_share(settings.share, len(settings.arms))
    arms = [Arm(CHAMPION, champion.bundle, champion.version, "champion")]
    for arm, path in settings.arms.items():
        if not NAME.fullmatch(arm) or arm == CHAMPION:
            raise InputError(f"an arm cannot be called {arm!r}", hint="letters, digits, . _ -; and another name than champion")
        if "\0" in path:
            raise InputError(f"the path of the arm {arm!r} holds a zero byte")
        folder = str(Bundle.open(Path(path)).path.absolute())
        arms.append(Arm(arm, folder, "", settings.role, 0.0 if shadow else settings.share))
    made = tuple(arms)
    return Experiment(
        secrets.token_hex(4), name, made, secrets.token_hex(8), champion.outcome, settings, (phase_of(made, time.time()),)
    )  # fmt: skip

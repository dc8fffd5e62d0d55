"""Experiments on served models: begun, their shares changed, promoted, rolled back, stopped, looked at."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import orjson

from deepseek.recipe.sections import ExperimentSection
from deepseek.serving.exchange import Exchange, refuse_while_it_runs
from deepseek.serving.experiments.arms import OpenArm, open_arm
from deepseek.serving.experiments.audit import folder_of, history, note
from deepseek.serving.experiments.proposal import check_share, chosen_arm, proposed
from deepseek.serving.experiments.settings import MOST_PHASES, Experiment
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.state import Wanted

_DONE = 20
"""So much of the log is shown with an experiment's state."""


class ExperimentControl:
    """Leads the experiments of one worker, whose changes the others follow.

    Args:
        exchange: What changes what is served.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._models, self._state, self._metrics = exchange.models, exchange.state, exchange.metrics

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
        return {**experiment.shown(paths=True), "workers": await self._exchange.everywhere(name, wanted.serial)}

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
            await self._exchange.follow()  # another worker was faster

    async def _begin(self, name: str, settings: ExperimentSection, *, who: str) -> tuple[Experiment, Wanted]:
        async with self._exchange.lock:
            champion = self._models.get(name)
            refuse_while_it_runs(self._state.read()[name])
            if self._state.journal is None:
                raise RefusedError(
                    409,
                    "this server keeps no record of answers and outcomes, without which nothing is found out",
                    hint="serve with --state FOLDER or --watch, or a recipe with a section monitor or serve.experiment",
                )
            experiment = proposed(name, champion, settings)
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
                wanted = self._state.change(name, lambda old: replace(refuse_while_it_runs(old), experiment=value))
            except BaseException:
                await asyncio.gather(*(one.close() for one in opened))
                raise
            note(self._state.folder, name, who=who, what="begin", old=None, new=experiment.shown(paths=True), experiment=experiment.id)
            await self._exchange.begin(name, experiment, opened)
            self._exchange.note_followed(name, wanted)
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
        async with self._exchange.lock:

            def changed(old: Wanted) -> Wanted:
                experiment = _running(name, old)
                if len(experiment.phases) >= MOST_PHASES:
                    raise RefusedError(
                        409, f"shares were changed {MOST_PHASES - 1} times", hint="end this experiment and begin another one"
                    )
                chosen = chosen_arm(experiment, arm)
                check_share(share, len(experiment.others))
                return replace(old, experiment=experiment.with_share(chosen.name, share, at=time.time()).to_json())

            self._models.get(name)
            before = self._state.read()[name]
            wanted = self._state.change(name, changed)
            await self._exchange.take_up(name, wanted)
            self._exchange.note_followed(name, wanted)
            old, new = (_running(name, one) for one in (before, wanted))
            shares = [{one.name: one.share for one in each.others} for each in (old, new)]
            note(self._state.folder, name, who=who, what="share", old=shares[0], new=shares[1], experiment=new.id)
        return {**new.shown(paths=True), "workers": await self._exchange.everywhere(name, wanted.serial)}

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
        chosen = chosen_arm(_running(name, self._state.read()[name]), arm)
        return await self._exchange.exchange(
            name, chosen.path, lambda old: _ended(name, old, f"promoted {chosen.name}"), who=who, what="promote"
        )

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
            if refuse_while_it_runs(old).previous != wanted.previous:
                raise RefusedError(409, "another model was taken up at this moment", hint="look at what is served, and ask again")
            return replace(old, previous=old.previous[:-1])

        return await self._exchange.exchange(name, wanted.previous[-1], back, who=who, what="rollback")

    async def stop(self, name: str, *, who: str, outcome: str = "stopped") -> dict[str, Any]:
        """End the experiment; the champion goes on.

        Args:
            name: The model that is served.
            who: Who asks.
            outcome: How it ends, in words.

        Raises:
            RefusedError: No experiment runs (409).
        """
        async with self._exchange.lock:
            version = self._models.get(name).version
            wanted = self._state.change(name, lambda old: _ended(name, old, outcome))
            await self._exchange.take_up(name, wanted)
            self._exchange.note_followed(name, wanted)
            assert wanted.experiment is not None
            note(self._state.folder, name, who=who, what="stop", old="running", new=outcome, experiment=wanted.experiment["id"])
        return {"model": name, "version": version, "outcome": outcome, "workers": await self._exchange.everywhere(name, wanted.serial)}

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


def _running(name: str, wanted: Wanted) -> Experiment:
    if wanted.experiment is None or not wanted.experimenting:
        raise RefusedError(409, f"no experiment runs on {name!r}", hint="begin one: deepseek experiment start")
    return Experiment.from_json(wanted.experiment)


def _ended(name: str, wanted: Wanted, outcome: str) -> Wanted:
    return replace(wanted, experiment=_running(name, wanted).ended(outcome, at=time.time()).to_json())

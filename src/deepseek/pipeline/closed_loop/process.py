"""The loop as a process of its own beside the server, and as a call from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from deepseek import progress
from deepseek.artifacts import RunFolder, locked
from deepseek.errors import DeepSeekError, InputError, RunError, UnknownNameError
from deepseek.pipeline.closed_loop.asking import ask, asked, forget, wait_or_heed
from deepseek.pipeline.closed_loop.journal import Event
from deepseek.pipeline.closed_loop.machine import Loop
from deepseek.pipeline.closed_loop.making import WORK
from deepseek.pipeline.closed_loop.served import served

Do = Literal["follow", "once", "now", "approve", "undo", "status"]


def loop(
    run: str | PathLike[str],
    *,
    do: Do = "follow",
    server: str | None = None,
    key: str | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
    every_s: float = 10.0,
) -> dict[str, Any]:
    """Follow a run's alarms, and on each make a new model, judge it, and deploy it if it is surely better.

    It is a process of its own: the server answers whether it runs or not. What it did stands in `loop.jsonl` beside the runs of the name,
    each step on disk before the next begins; begun anew, it goes on from there.

    Args:
        run: The run that is deployed: its folder, or that of its name. Its recipe says under `monitor.on_alarm` what is done.
        do: `follow` alarms until the process is told to stop; go on `once`, until nothing can be done at the moment; the same with a round
            `now`, alarm or not; `approve` the model that waits; `undo` the last promotion; or tell the `status`.
        server: The address of the server that answers with the run, such as `http://127.0.0.1:8000`. Without one there are no stages: the
            run's name stands for the new model, and who opens it next has it.
        key: A key that may load models there.
        model: The name that the run has at the server; that of its folder where not given.
        overrides: Keys of the recipe's section `monitor`, each `PATH=VALUE`.
        every_s: Seconds between two looks.

    Returns:
        `state`, `run` (what is deployed now), `waits_for`, `last` (how the last round ended) and `events`, what was written by this call.

    Raises:
        BundleError: There is no such run.
        InputError: The recipe says nothing of a loop, or another process follows the run.
        RunError: The log cannot be read.

    Example:
        ```python
        found = deepseek.loop("runs/churn", do="once", server="http://127.0.0.1:8000", key=key)
        print(found["last"], found["run"])
        ```
    """
    if do not in get_args(Do):
        raise UnknownNameError("thing to do", do, get_args(Do))
    if not every_s > 0:
        raise InputError(f"every_s is {every_s}", hint="it is above 0")
    deployer = None if server is None else served(server, key, model)
    name = RunFolder.open(Path(run)).path.parent
    if do == "status":
        return {**Loop(Path(run), deployer=deployer, overrides=tuple(overrides)).status(), "events": []}
    try:
        with _alone(name):
            machine = Loop(Path(run), deployer=deployer, overrides=tuple(overrides))
            if do == "follow":
                _follow(machine, name, every_s)
            return _after(machine, _acted(machine, do))
    except _FollowedError as followed:
        if do not in {"approve", "undo"}:
            raise
        return _asked_of(followed.holder, name, do, lambda: Loop(Path(run), deployer=deployer, overrides=tuple(overrides)))


class _FollowedError(InputError):
    """Another process follows the run."""

    def __init__(self, holder: str, name: Path) -> None:
        super().__init__(
            f"process {holder} follows {name} already", hint="one process follows a run; see how it stands: deepseek loop status RUN"
        )
        self.holder = holder


def _asked_of(holder: str, name: Path, do: Do, opened: Callable[[], Loop]) -> dict[str, Any]:
    """Let the process that follows the run do it, and return what it wrote."""
    before = opened()
    before.require(do)
    ask(name, do, holder=holder)
    after = opened()
    events = [event for event in after.journal.events[len(before.journal.events) :] if event.state != "told"]
    if not events:
        raise RunError(f"process {holder}, which follows {name}, could not {do}", hint="it has said why, where its output goes")
    return _after(after, events)


def _acted(machine: Loop, do: Do) -> list[Event]:
    if do == "approve":
        return [machine.approve(), *machine.run()]
    if do == "undo":
        event = machine.undo()
        machine.tell()
        return [event]
    machine.tell()  # what an earlier process could not
    return machine.run(now=do == "now")


def _after(machine: Loop, events: Sequence[Event]) -> dict[str, Any]:
    return {**machine.status(), "events": [event.to_json() for event in events]}


def _follow(machine: Loop, name: Path, every_s: float) -> None:
    """Look again and again; a log that cannot be read now may be readable later."""
    said = ""
    forget(name)
    while True:
        with asked(name) as do:
            try:
                machine.tell()
                _heed(machine, do)
                machine.run()
                if machine.waits_for != said:
                    said = machine.waits_for
                    progress.log(f"loop: waits for: {said}")
            except DeepSeekError as error:
                if not isinstance(error, InputError):
                    progress.warn(error.message)
                else:
                    raise
        wait_or_heed(name, every_s)


def _heed(machine: Loop, do: str | None) -> None:
    """Do what another process asked for; what cannot be done ends nothing."""
    act = {"approve": machine.approve, "undo": machine.undo}.get(do or "")
    try:
        if act is not None:
            act()
    except DeepSeekError as error:
        progress.warn(error.message)


@contextmanager
def _alone(name: Path) -> Iterator[None]:
    """See that no other process follows the runs of a name; the lock goes with the process, however it ends."""
    with locked(name / WORK / "lock", refuse=lambda process: _FollowedError(process, name)):
        yield

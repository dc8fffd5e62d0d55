"""An experiment in one worker: who gets which arm, rows divided and put together again, shadows asked off the road."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from deepseek.serving.experiments.arms import OpenArm
from deepseek.serving.experiments.assignment import Ticket, arm_of, place_of
from deepseek.serving.experiments.settings import CHAMPION, Experiment
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import ServedModel
from deepseek.serving.rows.reader import Bad, Rows

HEADER = b"x-experiment-key"


@dataclass(frozen=True)
class Call:
    """One request on its way through an experiment.

    Attributes:
        rows: What it gave, as the champion reads it.
        keys: Whom each given row is about; one for all where there is only one.
        read: Reads the request again for a model that takes other rows.
        ask: Asks a model of rows, and moves those that it cannot prepare to the bad ones.
        gone: Says whether the client has closed its connection.
        deadline: Until when it is to be answered, on the event loop's clock.
        batch: The rows that can be answered.
        places: Which rows of the request these are.
    """

    rows: Rows
    keys: Sequence[str]
    read: Callable[[ServedModel], Awaitable[Rows]]
    ask: Callable[[ServedModel, Rows], Awaitable[pa.Table | None]]
    gone: Callable[[], bool]
    deadline: float
    batch: pa.RecordBatch = field(init=False)
    places: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", self.rows.batch)
        object.__setattr__(self, "places", np.array(self.rows.places))


@dataclass(frozen=True)
class Part:
    """Rows of one request that were answered together.

    Attributes:
        arm: The arm that they belong to.
        model: The model that answered: the champion's where their own arm failed.
        rows: Which rows of the request they are.
        batch: The rows.
        answers: Their answers.
        seconds: How long that took.
        is_own: Whether their own arm has answered.
    """

    arm: str
    model: ServedModel
    rows: Sequence[int]
    batch: pa.RecordBatch
    answers: pa.Table
    seconds: float
    is_own: bool = True


@dataclass(frozen=True)
class Missed:
    """Rows of one request that a shadow was asked and did not answer.

    Attributes:
        arm: The shadow.
        model: Its model.
        rows: Which rows of the request they are.
        reason: Why, as `OpenArm.shadow` says it; `unreadable` where the champion takes them and the shadow does not.
    """

    arm: str
    model: ServedModel
    rows: Sequence[int]
    reason: str


@dataclass(frozen=True)
class _Mine:
    """Rows of one arm: their places in the batch of the request."""

    arm: str
    places: np.ndarray


class Running:
    """An experiment that a worker takes part in.

    Args:
        experiment: The experiment.
        champion: The model that is served.
        arms: The others, opened.
        metrics: Where is counted.

    Attributes:
        shadow_names: Which arms answer nobody.
    """

    def __init__(self, experiment: Experiment, champion: ServedModel, arms: Sequence[OpenArm], *, metrics: Metrics) -> None:
        self.experiment, self.champion, self.arms = experiment, champion, tuple(arms)
        self._shadows = [arm for arm in self.arms if arm.arm.role == "shadow"]
        self.shadow_names = frozenset(arm.arm.name for arm in self._shadows)
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def keys_of(self, rows: Rows, header: bytes | None, request_id: str) -> list[str]:
        """Return whom rows are about: the header, else the row's own field, else the request alone, which sticks to nobody.

        Args:
            rows: The rows.
            header: What `X-Experiment-Key` says.
            request_id: The request's id.
        """
        if header:
            return [header.decode("latin-1")]
        if rows.keys is None:
            return [request_id]
        return [key or request_id for key in rows.keys]

    def arm_name(self, number: int) -> str:
        """Return the name of an arm by its number; -1 is the champion."""
        return CHAMPION if number < 0 else self.arms[number].arm.name

    def tickets(self, call: Call, rows: Sequence[int]) -> list[str]:
        """Return what the journal says of rows instead of their keys."""
        phase = len(self.experiment.phases) - 1
        made = {key: str(Ticket(self.experiment.id, phase, place_of(self.experiment.salt, key)[1])) for key in set(call.keys)}
        return [made[call.keys[row if len(call.keys) > 1 else 0]] for row in rows]

    async def answer(self, call: Call) -> list[Part]:
        """Return the answers of all good rows, in parts; rows that nobody can prepare are moved to the bad ones of the request.

        An arm that fails, is late or cannot read a row costs no client anything: the champion answers in its stead.
        """
        divided = self._divided(call)
        loop = asyncio.get_running_loop()
        began = loop.time()
        tasks = [loop.create_task(self._challenge(call, self.arms[number], mine)) for number, mine in divided.items() if number >= 0]
        parts: list[Part] = []
        try:
            if -1 in divided:
                parts += await self._champion(call, divided[-1], began=began)
            for answered, left in await asyncio.gather(*tasks):
                parts += answered
                if len(left.places):
                    parts += await self._champion(call, left, began=began)
        finally:
            for task in tasks:
                task.cancel()
        self._count(parts)
        return parts

    def _divided(self, call: Call) -> dict[int, _Mine]:
        shares = self.experiment.shares
        numbers = {key: arm_of(place_of(self.experiment.salt, key)[0], shares) for key in set(call.keys)}
        if len(call.keys) == 1:
            of_rows = np.full(call.batch.num_rows, numbers[call.keys[0]])
        else:
            of_rows = np.array([numbers[call.keys[row]] for row in call.places.tolist()])
        return {number: _Mine(self.arm_name(number), np.flatnonzero(of_rows == number)) for number in set(of_rows.tolist())}

    async def _challenge(self, call: Call, arm: OpenArm, mine: _Mine) -> tuple[list[Part], _Mine]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        batch, taken = call.batch, mine.places
        if not arm.alike:
            batch, taken = await self._read_again(call, arm, mine)
        elif len(taken) < batch.num_rows:
            batch = batch.take(pa.array(taken))
        if not len(taken):
            return [], mine
        # half of what is left, so that the champion can still be asked
        deadline = began + min(self.experiment.settings.challenger_timeout, (call.deadline - began) / 2)
        answers = await arm.answer(batch, deadline=deadline, gone=call.gone)
        if answers is None:
            return [], mine
        rows = call.places[taken].tolist()
        left = _Mine(mine.arm, np.setdiff1d(mine.places, taken))
        return [Part(mine.arm, arm.model, rows, batch, answers, loop.time() - began)], left

    async def _read_again(self, call: Call, arm: OpenArm, mine: _Mine) -> tuple[pa.RecordBatch, np.ndarray]:
        """Return an arm's own reading of its rows, and the places of those that it can read."""
        try:
            theirs = await call.read(arm.model)
        except RefusedError:
            arm.unreadable(len(mine.places))
            return call.batch.slice(0, 0), mine.places[:0]
        place_of_row = {row: place for place, row in enumerate(theirs.places)}
        rows = call.places[mine.places].tolist()
        good = [(place, place_of_row[row]) for place, row in zip(mine.places.tolist(), rows, strict=True) if row in place_of_row]
        arm.unreadable(len(rows) - len(good))
        return theirs.batch.take(pa.array([there for _, there in good], pa.int64())), np.array([here for here, _ in good], dtype=np.int64)

    async def _champion(self, call: Call, mine: _Mine, *, began: float) -> list[Part]:
        """Ask the champion; what its rows cost began when they came, also where another arm was waited for in vain."""
        loop = asyncio.get_running_loop()
        whole = len(mine.places) == call.batch.num_rows
        asked = Rows(len(mine.places), call.batch if whole else call.batch.take(pa.array(mine.places)), Bad())
        rows = call.places[mine.places].tolist()
        answers = await call.ask(self.champion, asked)
        for place, errors in asked.bad.items():
            call.rows.bad[rows[place]] = errors
        call.rows.lost.update(rows[place] for place in asked.lost)
        if answers is None:
            return []
        mine_too = mine.arm == CHAMPION
        answered = [rows[place] for place in asked.places]
        return [Part(mine.arm, self.champion, answered, asked.batch, answers, loop.time() - began, is_own=mine_too)]

    def _count(self, parts: Sequence[Part]) -> None:
        for part in parts:
            labels = {"model": self.champion.name, "arm": part.arm}
            self._metrics.cell("deepseek_experiment_rows_total", **labels).add(len(part.rows))
            self._metrics.histogram("deepseek_experiment_seconds", **labels).observe(part.seconds)

    def shadow(self, call: Call, parts: Sequence[Part], tell: Callable[[Part | Missed], None]) -> None:
        """Ask the shadows what they would have answered, and return at once.

        Args:
            call: The request, which is answered.
            parts: Its answers; shadows are asked of those rows that belong to the champion.
            tell: Is called with what a shadow says, or that it says nothing, later.
        """
        for part in parts:
            if part.arm == CHAMPION:
                for arm in self._shadows:
                    task = asyncio.get_running_loop().create_task(self._shadowed(call, part, arm, tell))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _shadowed(self, call: Call, part: Part, arm: OpenArm, tell: Callable[[Part | Missed], None]) -> None:
        loop = asyncio.get_running_loop()
        batch, rows = part.batch, part.rows
        if not arm.alike:
            places = np.searchsorted(call.places, part.rows)
            batch, taken = await self._read_again(call, arm, _Mine(arm.arm.name, places))
            rows = call.places[taken].tolist()
            if unread := sorted(set(part.rows) - set(rows)):
                tell(Missed(arm.arm.name, arm.model, unread, "unreadable"))
        if not batch.num_rows:
            return
        began = loop.time()
        answers = await arm.shadow(batch)
        if isinstance(answers, str):
            tell(Missed(arm.arm.name, arm.model, rows, answers))
        else:
            shadowed = Part(arm.arm.name, arm.model, rows, batch, answers, loop.time() - began)
            self._count([shadowed])
            tell(shadowed)

    async def close(self) -> None:
        """Let go of the arms."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        await asyncio.gather(*(arm.close() for arm in self.arms))


def table_of(parts: Sequence[Part], schema: pa.Schema) -> pa.Table:
    """Return the answers of all parts in the order of their rows, with two columns more: `version` and `arm`.

    Args:
        parts: The answers.
        schema: The champion's columns, whose order all take.
    """
    tables = []
    for part in parts:
        table = part.answers.select(schema.names).cast(schema)
        arm = part.arm if part.is_own else CHAMPION
        for name, value in (("version", part.model.version), ("arm", arm)):
            table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
        tables.append(table)
    order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
    return pa.concat_tables(tables).take(pa.array(order))

"""One arm beside the champion, in one worker: asked, given up where it fails, and never waited for longer than was agreed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pyarrow as pa

from deepseek.errors import InputError
from deepseek.serving.experiments.settings import Arm
from deepseek.serving.http.problems import ClientGoneError, RefusedError
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import Models, ServedModel
from deepseek.serving.threads import DaemonThread

log = logging.getLogger("deepseek.serving")

FAILURES = 5
"""An arm that fails so often in a row is not asked for a while: clients would wait for it again and again."""
REST_S = 5.0
SHADOW_ROWS = 1_024
"""So many rows may wait for a shadow; what comes beyond is dropped, and counted."""
SHADOW_S = 30.0
CLOSE_S = 2.0


class OpenArm:
    """A model of an experiment that was opened beside the champion.

    Args:
        arm: The arm.
        model: Its model.
        champion: The model that it is compared with.
        metrics: Where is counted.

    Attributes:
        alike: Whether it takes the same rows as the champion; else requests are read once more for it.

    Raises:
        InputError: It predicts something else, or answers with other classes.
    """

    def __init__(self, arm: Arm, model: ServedModel, *, champion: ServedModel, metrics: Metrics) -> None:
        self.arm, self.model, self._metrics = arm, model, metrics
        self._compare(champion)
        self.alike = [(one.name, one.type, one.allowed) for one in model.reader.fields] == [
            (one.name, one.type, one.allowed) for one in champion.reader.fields
        ]
        self._failures, self._rests_until, self._closed = 0, 0.0, False
        self._leaving: asyncio.Task[None] | None = None

    def _compare(self, champion: ServedModel) -> None:
        ours, theirs = (
            sorted(zip(one.writer.schema.names, map(str, one.writer.schema.types), strict=True)) for one in (self.model, champion)
        )
        if self.model.target != champion.target or ours != theirs:
            says, others = (
                f"predicts {', '.join(one.target) or 'nothing'} and answers with {', '.join(name for name, _ in columns)}"
                for one, columns in ((self.model, ours), (champion, theirs))
            )
            raise InputError(
                f"the arm {self.arm.name!r} {says}; the model that is served {others}",
                hint="arms of one experiment predict the same target with the same classes; load the other one under a name of its own",
            )

    def begin(self) -> None:
        """Say that this worker has it."""
        self.model.begin()

    async def answer(self, batch: pa.RecordBatch, *, deadline: float, gone: Callable[[], bool]) -> pa.Table | None:
        """Return the answers of rows, or nothing where the champion has to be asked instead.

        Args:
            batch: The rows.
            deadline: Until when, on the event loop's clock.
            gone: Says whether the client has closed its connection.

        Raises:
            ClientGoneError: The client went before its turn came.
        """
        found = await self._asked(batch, deadline=deadline, gone=gone)
        return found if isinstance(found, pa.Table) else None

    async def _asked(self, batch: pa.RecordBatch, *, deadline: float, gone: Callable[[], bool]) -> pa.Table | str:
        """Return the answers of rows, or why there are none."""
        if self._closed:
            return self._lost("closed", batch.num_rows)
        if asyncio.get_running_loop().time() < self._rests_until:
            return self._lost("resting", batch.num_rows)
        self.model.in_use += 1
        try:
            async with asyncio.timeout_at(deadline):
                answers = await self.model.batcher.submit(batch, deadline=deadline, gone=gone)
        except ClientGoneError:
            raise
        except TimeoutError:
            return self._failed("late", batch.num_rows)
        except RefusedError as refused:  # its queue is full
            if refused.status != 504 and self.arm.role == "shadow":
                return self._lost("busy", batch.num_rows)  # nobody waits for it: it need not rest
            return self._failed("late" if refused.status == 504 else "busy", batch.num_rows)
        except Exception as error:  # noqa: BLE001 - whatever an arm raises is its own affair: the champion answers
            if not self._failures:
                log.warning("the arm %s of %s failed: %r", self.arm.name, self.model.name, error)
            return self._failed("failed", batch.num_rows)
        finally:
            self.model.in_use -= 1
        self._failures = 0
        return answers

    def _failed(self, reason: str, rows: int) -> str:
        self._failures += 1
        if self._failures >= FAILURES:
            self._rests_until = asyncio.get_running_loop().time() + REST_S
        return self._lost(reason, rows)

    def _lost(self, reason: str, rows: int) -> str:
        name, _, arm = self.model.name.partition(":")
        self._metrics.cell("deepseek_experiment_lost_rows_total", model=name, arm=arm, reason=reason).add(rows)
        return reason

    def unreadable(self, rows: int) -> None:
        """Count rows that the champion takes and this arm does not."""
        if rows:
            self._lost("unreadable", rows)

    async def shadow(self, batch: pa.RecordBatch) -> pa.Table | str:
        """Return what it would have answered, or why it did not: it has no room, fails or takes too long; all of that is counted."""
        if self.model.batcher.waiting + batch.num_rows > SHADOW_ROWS:
            return self._lost("busy", batch.num_rows)
        return await self._asked(batch, deadline=asyncio.get_running_loop().time() + SHADOW_S, gone=lambda: False)

    async def close(self) -> None:
        """Let go of it; one that hangs is left to its thread, which nothing waits for, until it has finished after all."""
        self._leaving = asyncio.get_running_loop().create_task(self._leave())
        done, _ = await asyncio.wait({self._leaving}, timeout=CLOSE_S)
        if not done:
            log.warning("the arm %s has not finished in %g s and is left alone", self.model.name, CLOSE_S)

    async def _leave(self) -> None:
        await self.model.retire()
        self._closed = True


async def open_arm(models: Models, name: str, arm: Arm, *, metrics: Metrics) -> OpenArm:
    """Open an arm beside the model that is served.

    Args:
        models: The models that are served.
        name: The one that it is compared with.
        arm: The arm.
        metrics: Where is counted.

    Raises:
        BundleError: Its bundle is not there, or not as it was written.
        InputError: It predicts something else.
    """
    thread = DaemonThread(f"deepseek-{arm.name}", quiet=arm.role == "shadow")
    try:
        model = await models.open_beside(f"{name}:{arm.name}", arm.path, thread)
        return OpenArm(arm, model, champion=models.get(name), metrics=metrics)
    except BaseException:
        thread.shutdown()
        raise

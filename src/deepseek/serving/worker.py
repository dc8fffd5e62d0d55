"""One process that answers: uvicorn around the application, with the time-outs and limits that uvicorn leaves to a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from deepseek.errors import DeepSeekError
from deepseek.recipe.sections import ServeSection
from deepseek.serving.app import App
from deepseek.serving.exchange import Exchange
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.protocol import limited
from deepseek.serving.journal import Journal
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import Models
from deepseek.serving.observers import Observer, Observers
from deepseek.serving.state import State

log = logging.getLogger("deepseek.serving")

POLL_S = 0.2
SWITCH_INTERVAL_S = 0.001
SWITCH_S = 60.0
KEEP_ALIVE_S = 75


class Server(uvicorn.Server):
    """uvicorn's server, which on SIGTERM finishes what it has accepted and ends with status 0, and on SIGHUP opens the bundles anew."""

    def __init__(self, config: uvicorn.Config, app: App, *, state: State) -> None:
        super().__init__(config)
        self._app, self._shared, self._parent = app, state, os.getppid()
        self._stamp = (0, 0)
        self._again = False
        app.exchange.everywhere = self._everywhere

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._app.draining = True
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # uvicorn would raise them again at the end, and the process die of them

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals over for the time of serving."""
        try:
            before = signal.signal(signal.SIGHUP, self._want_again)
        except ValueError:  # not in the main thread: whoever began the thread has the signals
            yield
            return
        try:
            with super().capture_signals():
                yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def _want_again(self, *_: object) -> None:
        self._again = True  # the handler may have come while this thread holds the lock of the state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and to follow what is to be served."""
        await self._take_up()  # what was asked for while this worker opened its bundles
        if self._app.settings.experiment is not None:
            await self._app.experiments.begin_once(self._app.models.all()[0].name, self._app.settings.experiment, who="recipe")
            self._report()
        gc.collect()
        gc.freeze()  # models are not garbage: full collections would look through them again and again
        await super().startup(sockets)
        self._app.metrics.cell("deepseek_workers").set(1)
        self._follower = asyncio.get_running_loop().create_task(self._follow())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and finish what is accepted."""
        self._follower.cancel()
        await super().shutdown(sockets)

    async def _follow(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(POLL_S)
            if os.getppid() != self._parent:  # whoever began this process is gone: nobody would ever stop it
                self._app.draining = self.should_exit = True
                return
            try:
                if self._again:
                    self._shared.want_again()
                    self._again = False
                if self._shared.stamp != self._stamp:
                    await self._take_up()
                said = ""
            except (DeepSeekError, OSError) as error:  # the disk is full, say: looked at again until it goes
                self._stamp = (0, 0)
                if str(error) != said:
                    said = str(error)
                    log.error("what is to be served cannot be followed now: %s", error)  # noqa: TRY400 - the message says it all

    async def _take_up(self) -> None:
        self._stamp = self._shared.stamp  # asked for before the file is read: what comes in between is seen next time
        await self._app.exchange.follow()
        self._report()

    def _report(self) -> None:
        self._shared.report(self._app.exchange.followed, self._app.exchange.failed)

    async def _everywhere(self, name: str, serial: int) -> dict[str, int]:
        """Wait until all workers have followed a change of a model."""
        self._report()
        deadline = asyncio.get_running_loop().time() + SWITCH_S
        while True:
            reports = list(self._shared.reports().values())
            heard = [report for report in reports if report["followed"].get(name, -1) >= serial]
            if len(heard) == len(reports) or asyncio.get_running_loop().time() > deadline:
                return {"switched": sum(name not in report["failed"] for report in heard), "of": len(reports)}
            await asyncio.sleep(POLL_S / 4)


def run_worker(
    listening: socket.socket, settings: ServeSection, state: State, *, plugins: Sequence[str] = (), observers: Sequence[Observer] = ()
) -> None:
    """Answer requests of a listening socket until told to stop.

    Args:
        listening: The socket, which several workers may share.
        settings: How models are served.
        state: What is served.
        plugins: The plugins that bundles need.
        observers: Who is told of answers.

    Raises:
        BundleError: A bundle is not there, or not as it was written.
    """
    metrics = Metrics(state.folder)
    wanted = state.read()
    models = Models({name: one.place for name, one in wanted.items()}, settings, metrics, plugins=plugins)
    journal = None if state.journal is None else Journal(state.journal, limit_bytes=settings.journal_size)
    told = Observers(observers, metrics, journal=journal)
    exchange = Exchange(models, state, metrics, opened=wanted)
    app = App(models, settings, exchange=exchange, keys=Keys.read(settings.keys), metrics=metrics, observers=told)
    config = uvicorn.Config(
        app,
        loop="uvloop", http=limited(settings.read_timeout, shed=app.shed),
        ws="none", interface="asgi3", lifespan="on", log_config=None, access_log=False,
        server_header=False, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(settings.drain)), proxy_headers=False,
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # the event loop and the model's thread take turns; by Python's own rule a thread may hold the other up for five milliseconds
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    Server(config, app, state=state).run(sockets=[listening])


def main() -> int:
    """Run as a worker of a supervisor, which has written what to do to standard input."""
    told = json.load(sys.stdin)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s[%(process)d] %(message)s")
    listening = socket.socket(fileno=told["socket"])
    threading_limit = os.environ.get("OMP_NUM_THREADS")
    log.info("worker begins, %s threads for the network", threading_limit or "all")
    try:
        run_worker(listening, ServeSection(**told["settings"]), State(Path(told["folder"])), plugins=told["plugins"])
    except DeepSeekError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

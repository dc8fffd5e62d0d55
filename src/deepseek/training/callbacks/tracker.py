"""What all experiment trackers share: a thread that does their work, and a guard that lets no failure of theirs reach training."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from deepseek import progress
from deepseek.artifacts import RunFolder
from deepseek.errors import MissingExtraError
from deepseek.recipe.document import read_document
from deepseek.training.callbacks.base import Callback

if TYPE_CHECKING:
    from deepseek.training.trainer import Trainer

FINISH_S = 60.0
"""Seconds that the end of training waits for a tracker to send what is left."""
FAILED_FINISH_S = 5.0
"""The same where training ended with an error or was interrupted: nobody wants to wait then."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about the run, once.

    Attributes:
        id: The run's name in all eternity; the same after a resume.
        name: The run's name for people: `churn/003`.
        group: The name that all runs of a recipe share.
        config: The resolved recipe, as plain nested values; references to secrets stay references.
        step: The step that training goes on from; 0 at the beginning.
        resumed: Whether this run was tracked before.
        folder: The run's folder, where there is one.
    """

    id: str
    name: str
    group: str
    config: Mapping[str, Any]
    step: int
    resumed: bool
    folder: Path | None


class Tracker(Callback):
    """Sends loss, learning rate, speed, metrics and the recipe somewhere; training neither waits for it nor fails with it.

    The base of every tracker. A derived class says how a run is opened, how numbers are sent and how it is closed; the three are called one
    after another in a thread of their own, so that a slow server slows no step. Whatever they raise becomes one warning, and the tracker is
    off from then on: a metrics server that is down must not cost a night of training. Only a library that is not installed is an error,
    since that is told before training begins.

    Raises:
        MissingExtraError: The tracker's library is not installed.
    """

    library: ClassVar[str] = ""
    """The import name of what has to be installed, from the extra `track`."""

    def __init__(self) -> None:
        if self.library and find_spec(self.library) is None:
            raise MissingExtraError(self.library, "track", f"the tracker {self.library!r}")
        self._id: str | None = None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self, run: TrackedRun) -> None:
        """Begin a run, or take it up again."""
        raise NotImplementedError

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers as of a step, by names such as `train/loss`, `validation/auc` and `final/test/auc`."""
        raise NotImplementedError

    def close(self, *, failed: bool) -> None:
        """End the run; only what was opened is closed."""
        raise NotImplementedError

    def on_fit_start(self, trainer: Trainer) -> None:
        """Open the run."""
        if not trainer.is_main or not self.wanted(trainer):
            return
        resumed, self._id = self._id is not None, self._id or uuid4().hex
        run = _describe(trainer, self._id, resumed=resumed)
        self._thread = threading.Thread(target=self._work, args=(type(self).__name__,), name=f"tracker {type(self).__name__}", daemon=True)
        self._thread.start()
        self._do(partial(self.open, run))

    def wanted(self, trainer: Trainer) -> bool:
        """Whether there is anything to be tracked; a tracker that needs the run's folder says so here."""
        return True

    def on_log(self, trainer: Trainer) -> None:
        """Send the running loss and the speed."""
        now = trainer.progress
        values = {
            "train/loss": now.loss,
            "train/learning_rate": now.learning_rate,
            "train/samples_per_s": now.samples_per_s,
            "train/data_wait_share": now.data_wait_share,
        }
        self._do(partial(self.log, trainer.state.step, {name: value for name, value in values.items() if math.isfinite(value)}))

    def on_validation(self, trainer: Trainer) -> None:
        """Send the validation metrics."""
        values = {f"validation/{name}": trainer.history[-1][name] for name in trainer.metric_names}
        self._do(partial(self.log, trainer.state.step, values))

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        """Close the run as a failed one."""
        self._finish(failed=True)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Send the final metrics and close the run."""
        final = {f"final/{split}/{name}": value for split, named in trainer.final_metrics.items() for name, value in (named or {}).items()}
        if final:
            self._do(partial(self.log, trainer.state.step, final))
        self._finish(failed=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the run's name in the tracker, so that a resume goes on with it."""
        return {"id": self._id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._id = state["id"]

    def _do(self, call: Callable[[], None]) -> None:
        if self._thread is not None:
            self._calls.put(call)

    def _finish(self, *, failed: bool) -> None:
        if self._thread is None:
            return
        self._calls.put(partial(self.close, failed=failed))
        self._calls.put(None)
        self._thread.join(FAILED_FINISH_S if failed else FINISH_S)
        if self._thread.is_alive():
            progress.warn(f"the tracker {type(self).__name__} has not sent everything yet; it is left behind")
        self._thread = None

    def _work(self, name: str) -> None:
        try:
            for call in iter(self._calls.get, None):
                call()
        except Exception as error:  # noqa: BLE001 - foreign code and servers: whatever they raise is no reason to stop training
            reason = f"{type(error).__name__}: {_first_line(error)}"
            progress.warn(f"the tracker {name} failed and is switched off; training goes on ({reason})")


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested plain values as one level, by paths with dots; what is empty is left out."""
    if isinstance(value, Mapping):
        return {key: part for name, one in value.items() for key, part in flat(one, f"{path}.{name}" if path else str(name)).items()}
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return flat(dict(enumerate(value)), path)
    return {path: value}


def _describe(trainer: Trainer, identity: str, *, resumed: bool) -> TrackedRun:
    folder = trainer.folder
    resolved = RunFolder(folder).resolved if folder else None
    config = read_document(resolved).value if resolved and resolved.is_file() else asdict(trainer.settings)
    group = str(config.get("name") or "deepseek")
    name = f"{group}/{folder.name}" if folder else group
    return TrackedRun(identity, name, group, config, trainer.state.step, resumed, folder)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]

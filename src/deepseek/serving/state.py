"""What the workers of one server agree on: which bundle each model is, in a file that is replaced whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from deepseek.artifacts import Bundle, locked, write_text
from deepseek.errors import InputError

REMEMBERED = 10
"""So many bundles can be gone back to."""
_OF_PROCESSES = ("*.worker", "*.keys", "*.values", "*.prom")
"""Files of processes, which say nothing once a server begins anew."""


@dataclass(frozen=True)
class Wanted:
    """What is to be served under a name.

    Attributes:
        path: What was said: a bundle, a run, or a run's name.
        bundle: The bundle that this was when it was said, which all workers open, also those that are begun later; nothing in files of
            older servers, and where there was none.
        serial: Rises with every change.
        opened: The serial of the last request to open the bundle, also when the path is the same.
        reopened: The serial of the last request to open the very same bundles anew, arms too, since a faster form of one is there.
        given: What the command line said; nothing in files of older servers.
        previous: The bundles that were there before, the newest last.
        experiment: The experiment that runs or was the last one, as `Experiment.to_json` writes it.
    """

    path: str
    bundle: str = ""
    serial: int = 0
    opened: int = 0
    reopened: int = 0
    given: str = ""
    previous: tuple[str, ...] = ()
    experiment: Mapping[str, Any] | None = None

    @property
    def place(self) -> str:
        """What is opened."""
        return self.bundle or self.path

    @property
    def experimenting(self) -> bool:
        """Whether an experiment runs."""
        return self.experiment is not None and self.experiment["ended_at"] is None

    def exchanged(self, path: str, previous: Sequence[str], *, bundle: str) -> Wanted:
        """Return what is wanted once another bundle is to be opened."""
        return replace(self, path=path, bundle=bundle, opened=self.serial + 1, previous=tuple(previous[-REMEMBERED:]))

    def looked_up(self) -> Wanted:
        """Return the same with the bundle that its path is now; the one that it was is remembered. An experiment keeps its champion."""
        if self.experimenting and self.bundle:
            return self
        bundle = _bundle_at(self.path)
        previous = (*self.previous, self.bundle) if self.bundle and bundle != self.bundle else self.previous
        return replace(self, bundle=bundle, previous=tuple(previous[-REMEMBERED:]))


def _wanted(value: Mapping[str, Any]) -> Wanted:
    return Wanted(**{**value, "previous": tuple(value["previous"])})


def _exchanged(old: Wanted, path: str) -> Wanted:
    return old.exchanged(path, (*old.previous, old.place), bundle=_bundle_at(path))


def _bundle_at(path: str) -> str:
    found = Bundle.find(Path(path))
    return "" if found is None else str(found.absolute())


def _again(old: Wanted) -> Wanted:
    return old if old.experimenting else replace(old.looked_up(), opened=old.serial + 1)


class State:
    """The folder that the workers of one server share.

    Args:
        folder: The folder; it is the server's own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "models.json"

    @property
    def journal(self) -> Path | None:
        """Where answers and outcomes are written, or nothing where the server keeps no record of them."""
        folder = self.folder / "journal"
        return folder if folder.is_dir() else None

    def begin(self, paths: Mapping[str, str], *, journal: bool = False) -> None:
        """Write what is served at first; a server that was there before goes on with what it had, where it is given the same bundles.

        Args:
            paths: The bundles by name, as the command line says.
            journal: Whether a record is kept of answers and outcomes.
        """
        for pattern in _OF_PROCESSES:
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        if journal:
            (self.folder / "journal").mkdir(exist_ok=True)
            for path in (self.folder / "journal").glob(".*.part"):  # of a writer that was killed before it had written anything
                path.unlink(missing_ok=True)
        before = self.read() if self._file.exists() else {}
        given = {name: str(Path(path).absolute()) for name, path in paths.items()}
        self._write(
            {
                name: (before[name] if name in before and before[name].given == path else Wanted(path, given=path)).looked_up()
                for name, path in given.items()
            }
        )

    def read(self) -> dict[str, Wanted]:
        """Return what is to be served, by name."""
        return {name: _wanted(value) for name, value in orjson.loads(self._file.read_bytes()).items()}

    @property
    def stamp(self) -> tuple[int, int]:
        """What changes whenever the file is replaced; asking costs a microsecond."""
        found = self._file.stat()
        return found.st_ino, found.st_mtime_ns

    def change(self, name: str, change: Callable[[Wanted], Wanted]) -> Wanted:
        """Ask all workers to follow a change, and return what is now wanted.

        Args:
            name: The model.
            change: Returns what is wanted instead; what it raises leaves everything as it was.

        Raises:
            RunError: The disk does not take it; nothing has changed.
        """
        with locked(self.folder / "lock"):
            wanted = self.read()
            wanted[name] = replace(change(wanted[name]), serial=wanted[name].serial + 1)
            self._write(wanted)
        return wanted[name]

    def want(self, paths: Mapping[str, str]) -> dict[str, Wanted]:
        """Ask all workers to take up bundles, and return what is now wanted of them.

        Args:
            paths: The bundles by name.
        """
        return {name: self.change(name, partial(_exchanged, path=str(Path(path).absolute()))) for name, path in paths.items()}

    def want_again(self) -> None:
        """Ask all workers to open every bundle anew: of a run's name, the newest run; an experiment keeps its champion."""
        for name, one in self.read().items():
            if not one.experimenting:
                self.change(name, _again)

    def want_reopened(self, name: str) -> None:
        """Ask all workers to open the bundles of a model anew that they have open, in the form that is now the fastest."""
        self.change(name, lambda old: replace(old, reopened=old.serial + 1))

    def report(self, followed: Mapping[str, int], failed: Iterable[str] = ()) -> None:
        """Say which requests this worker has followed, or failed to.

        Args:
            followed: The serial of the last change that it looked at, by model.
            failed: The models of which it has failed to follow that.
        """
        written = self.folder / f".{os.getpid()}.part"
        written.write_bytes(orjson.dumps({"followed": dict(followed), "failed": sorted(failed)}))
        written.replace(self.folder / f"{os.getpid()}.worker")

    def forget(self, process: int) -> None:
        """Take a dead worker's report away."""
        (self.folder / f"{process}.worker").unlink(missing_ok=True)

    def reports(self) -> dict[int, dict[str, Any]]:
        """Return every worker's report by its process: `followed` and `failed`."""
        found = {}
        for path in self.folder.glob("*.worker"):
            try:
                found[int(path.stem)] = orjson.loads(path.read_bytes())
            except FileNotFoundError:  # its worker died at this moment
                continue
        return found

    def _write(self, wanted: Mapping[str, Wanted]) -> None:
        write_text(self._file, orjson.dumps({name: asdict(one) for name, one in wanted.items()}).decode())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other servers off the folder.

        Raises:
            InputError: Another server has it.
            RunError: It cannot be written to.
        """
        error = InputError(f"another server has the folder {self.folder}", hint="give this one another: --state FOLDER")
        with locked(self.folder / "server.lock", refuse=lambda _: error):
            yield


def version_of(bundle: Bundle) -> str:
    """Return what answers call a bundle: the run's number, where it has one, and the beginning of the manifest's hash."""
    digest = sha256((bundle.path / "manifest.json").read_bytes()).hexdigest()[:12]
    number = next((part for part in reversed(bundle.path.absolute().parts[-3:]) if part.isdigit()), None)
    return f"{number}-{digest}" if number else digest

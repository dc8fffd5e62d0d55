"""What the workers of one server agree on: which bundle each model is, in a file that is replaced whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True)
class Wanted:
    """A bundle to be served.

    Attributes:
        path: Where it is.
        serial: Rises with every request to take it up, also when the path is the same.
    """

    path: str
    serial: int = 0


class State:
    """The folder that the workers of one server share.

    Args:
        folder: The folder; it is the server's own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "models.json"

    def begin(self, paths: Mapping[str, str]) -> None:
        """Write what is served at first."""
        self._write({name: Wanted(str(Path(path).absolute())) for name, path in paths.items()})

    def read(self) -> dict[str, Wanted]:
        """Return what is to be served, by name."""
        return {name: Wanted(**value) for name, value in orjson.loads(self._file.read_bytes()).items()}

    @property
    def stamp(self) -> tuple[int, int]:
        """What changes whenever the file is replaced; asking costs a microsecond."""
        found = self._file.stat()
        return found.st_ino, found.st_mtime_ns

    def want(self, paths: Mapping[str, str]) -> dict[str, Wanted]:
        """Ask all workers to take up bundles, and return what is now wanted."""
        with self._locked():
            wanted = self.read()
            for name, path in paths.items():
                wanted[name] = Wanted(str(Path(path).absolute()), wanted[name].serial + 1)
            self._write(wanted)
        return wanted

    def want_again(self) -> None:
        """Ask all workers to open every bundle anew: of a run's name, the newest run."""
        self.want({name: one.path for name, one in self.read().items()})

    def report(self, serials: Mapping[str, int]) -> None:
        """Say which requests this worker has followed, or failed to."""
        partial = self.folder / f".{os.getpid()}.part"
        partial.write_bytes(orjson.dumps(dict(serials)))
        partial.replace(self.folder / f"{os.getpid()}.worker")

    def forget(self, process: int) -> None:
        """Take a dead worker's report away."""
        (self.folder / f"{process}.worker").unlink(missing_ok=True)

    def reports(self) -> dict[int, dict[str, int]]:
        """Return every worker's report by its process."""
        found = {}
        for path in self.folder.glob("*.worker"):
            try:
                found[int(path.stem)] = orjson.loads(path.read_bytes())
            except FileNotFoundError:  # its worker died at this moment
                continue
        return found

    def _write(self, wanted: Mapping[str, Wanted]) -> None:
        partial = self._file.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(orjson.dumps({name: vars(one) for name, one in wanted.items()}))
        partial.replace(self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

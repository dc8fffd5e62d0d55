"""A server on a core of its own, the model that it serves, and what the load generator can do without one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from deepseek.artifacts import Bundle
from deepseek.inference.backends.choice import SERVED, is_measured
from deepseek.inference.reading import read_export
from load.generator import Generator, Result, request_of, sustained

START_S = 120.0


def cores() -> tuple[int, int]:
    """Return the core of servers and that of the generator: 0 and 1, or whatever this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Served:
    """A running server.

    Attributes:
        port: Where it listens.
        pid: Its process.
        log: What it wrote.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.pid, self.log, self._process = port, process.pid, log, process

    def get(self, path: str, *, headers: dict[str, str] | None = None, timeout_s: float = 30.0) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers or {})
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            content: bytes = reply.read()
            return content

    def processes(self) -> list[Any]:
        import psutil

        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]

    def resident(self) -> int:
        """Return the resident bytes of all its processes."""
        import psutil

        total = 0
        for process in self.processes():
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


@contextmanager
def served(
    command: Sequence[str], port: int, *, ready: str = "/readyz", core: int, environment: dict[str, str] | None = None
) -> Iterator[Served]:
    """Run a server on one core, with one thread for arithmetic, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(environment or {})}, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            _until_ready(process, f"http://127.0.0.1:{port}{ready}", log)
            yield Served(port, process, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all processes that it began: some leave theirs behind, which would slow down whatever is measured next."""
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the server did not begin:\n{log.read_text(errors='replace')[-3000:]}")


def our_command(run: str, port: int, *options: str, optimize: bool = False) -> list[str]:
    """Return the command of this framework's server.

    Args:
        run: What is served.
        port: Where.
        options: Further ones.
        optimize: Whether it looks for the fastest form of the model beside answering, as it does by default.
    """
    words = options if optimize else ("--no-optimize", *options)
    return [sys.executable, "-m", "deepseek", "serve", f"model={run}", "--port", str(port), *words]


def wait_until_optimized(run: str, port: int) -> float:
    """Wait until a server has found the fastest form of a model and answers with it; return the seconds that this took."""
    began = time.perf_counter()
    bundle = Bundle.open(Path(run))
    while not is_measured(bundle):
        time.sleep(0.2)
    found = read_export(Bundle.open(bundle.path.parent / "export" / SERVED)).backend
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/model", timeout=10) as reply:
            if json.load(reply)["backend"] == found:
                break
        time.sleep(0.2)
    return time.perf_counter() - began


PREDICT = "/v1/models/model/predict"


def ceiling(core: int) -> float:
    """Return the highest rate that the generator offers, and is answered, with p99 <= 5 ms by a server that does nothing."""
    port = free_port()
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); from load.targets import idle; idle({port})",
    ]
    with served(command, port, core=core):
        generator = Generator(port, [request_of("/", b"{}")])

        def measure(rate: float) -> Result:
            return generator.run(rate, 0.5, warm_s=0.1)

        found = sustained(measure, p99_s=0.005, lowest=2000, highest=128_000, steps=2)
        generator.close()
    return found.rate


def idle(port: int) -> None:
    """Answer everything with the same few bytes."""
    import uvloop

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

    class Idle(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(answer)  # type: ignore[attr-defined]

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Idle, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(main())

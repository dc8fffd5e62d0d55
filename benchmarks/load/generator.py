"""Requests at an open rate: each is sent when a Poisson process says so, whether or not earlier ones are answered.

A latency counts from the moment at which its request was due, so that what waits for a connection, or for a server that stands still, is
not left out (no coordinated omission). The generator spins on a core of its own, with plain sockets and epoll: no timer of a millisecond's
grain, no event loop. What it can send at most is measured by `ceiling`; how late it sent itself is part of every result.
"""

from __future__ import annotations

import random
import select
import socket
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

ANSWERED = 200
LATE_S = 0.001
"""A generator that sends its one request in a hundred later than this is too slow for the rate: the result says so."""

Check = Callable[[int, bytes], bool]
"""Is given the number of a request among `requests` and the body of its answer, and says whether that is right."""


@dataclass
class Result:
    """What came of one round.

    Attributes:
        rate: Requests a second that were offered.
        sent: How many were sent.
        statuses: How many answers there were by HTTP status.
        latencies: Seconds from due to answered, of the answers with status 200, in the order of arrival.
        refusals: The same of all other answers.
        lost: Requests whose connection broke or that were not answered in time.
        wrong: Answers with status 200 that `check` found wrong.
        late_p99: How late the generator itself sent, in seconds, where a connection was free.
    """

    rate: float
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    refusals: array[float] = field(default_factory=lambda: array("d"))
    lost: int = 0
    wrong: int = 0
    late_p99: float = 0.0

    @property
    def answered_share(self) -> float:
        """How many of the requests were answered with 200."""
        return self.statuses[ANSWERED] / self.sent if self.sent else 0.0

    @property
    def steady(self) -> bool:
        """Whether the generator kept up with the rate."""
        return self.late_p99 <= LATE_S

    def quantile(self, level: float) -> float:
        """Return a quantile of the latencies; infinite where nothing was answered."""
        return quantile(self.latencies, level)

    def row(self) -> dict[str, float]:
        """Return the round in numbers."""
        return {
            "rate": round(self.rate, 1), "sent": self.sent, "answered": self.statuses[ANSWERED], "refused": self.statuses[429],
            "other": sum(self.statuses.values()) - self.statuses[ANSWERED] - self.statuses[429], "lost": self.lost, "wrong": self.wrong,
            "p50_ms": round(1e3 * self.quantile(0.5), 2), "p99_ms": round(1e3 * self.quantile(0.99), 2),
            "generator_late_p99_ms": round(1e3 * self.late_p99, 3),
        }  # fmt: skip


def quantile(values: Sequence[float], level: float) -> float:
    """Return a quantile of values, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(level * len(ordered)))] if ordered else float("inf")


class _Connection:
    __slots__ = ("busy", "due", "received", "request", "socket", "wanted")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due, self.request, self.received, self.wanted, self.busy = 0.0, 0, b"", 0, False


class Generator:
    """Sends requests over a fixed number of connections to a port of this machine.

    Args:
        port: The port.
        requests: The requests, whole, which take turns.
        connections: How many requests may be under way; what is due beyond them waits, and its latency counts.
        check: Looks at every answer with status 200.
        seed: Of the moments.
    """

    def __init__(self, port: int, requests: Sequence[bytes], *, connections: int = 256, check: Check | None = None, seed: int = 0) -> None:
        self._port, self._requests, self._check = port, list(requests), check
        self._draw = random.Random(seed)
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._free: list[_Connection] = []
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        made = _Connection(self._port)
        self._connections[made.socket.fileno()] = made
        self._epoll.register(made.socket.fileno(), select.EPOLLIN)
        self._free.append(made)

    def run(self, rate: float, seconds: float, *, warm_s: float = 0.5, patience_s: float = 10.0) -> Result:
        """Offer a rate for a time; what is due in the first `warm_s` is not counted, and answers are waited for `patience_s` at the end."""
        result, late, waiting = Result(rate), array("d"), deque[float]()
        clock, gap, number = time.perf_counter, self._draw.expovariate, 0
        begin = clock()
        due, counted, end = begin + gap(rate), begin + warm_s, begin + warm_s + seconds
        last = end + patience_s
        while True:
            now = clock()
            while due <= now and due < end:
                waiting.append(due)
                due += gap(rate)
            while waiting and self._free:
                moment = waiting.popleft()
                if moment >= counted:
                    result.sent += 1
                    if not waiting:
                        late.append(clock() - moment)
                self._send(self._free.pop(), number, moment)
                number += 1
            for handle, _ in self._epoll.poll(0):
                self._receive(handle, result, counted)
            if due >= end and not waiting and len(self._free) == len(self._connections):
                break
            if now > last:
                result.sent += len(waiting)
                result.lost += len(waiting) + len(self._connections) - len(self._free)
                self._renew()
                break
        result.late_p99 = quantile(late, 0.99) if late else float("inf")
        return result

    def _send(self, connection: _Connection, number: int, due: float) -> None:
        connection.due, connection.request, connection.received, connection.wanted = due, number % len(self._requests), b"", 0
        connection.busy = True
        content = self._requests[connection.request]
        try:
            if connection.socket.send(content) != len(content):
                raise BlockingIOError
        except BlockingIOError:  # a body larger than the socket's buffer: the rest is sent at once, which such a rate can bear
            connection.socket.settimeout(30)
            connection.socket.sendall(content)
            connection.socket.setblocking(False)
        except OSError:
            pass  # the connection is broken: reading says so

    def _receive(self, handle: int, result: Result, counted: float) -> None:
        connection = self._connections[handle]
        try:
            came = connection.socket.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came or not connection.busy:  # servers also close connections that were idle for long, some with a word
            self._broken(connection, result, counted)
            return
        connection.received = received = connection.received + came if connection.received else came
        if not connection.wanted:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            connection.wanted = end + 4 + _length(received[:end])
        if len(received) < connection.wanted:
            return
        connection.busy = False
        self._free.append(connection)
        if connection.due >= counted:
            self._count(connection, result)
        if b"onnection: close" in received[: received.find(b"\r\n\r\n")]:
            self._free.remove(connection)
            self._drop(connection)
            self._connect()

    def _count(self, connection: _Connection, result: Result) -> None:
        status, seconds = int(connection.received[9:12]), time.perf_counter() - connection.due
        result.statuses[status] += 1
        if status != ANSWERED:
            result.refusals.append(seconds)
            return
        result.latencies.append(seconds)
        if self._check and not self._check(connection.request, connection.received[connection.received.find(b"\r\n\r\n") + 4 :]):
            result.wrong += 1

    def _broken(self, connection: _Connection, result: Result, counted: float) -> None:
        if not connection.busy:
            self._free.remove(connection)
        elif connection.due >= counted:
            result.lost += 1
        self._drop(connection)
        self._connect()

    def _drop(self, connection: _Connection) -> None:
        self._epoll.unregister(connection.socket.fileno())
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _renew(self) -> None:
        for connection in [one for one in self._connections.values() if one.busy]:
            self._drop(connection)
            self._connect()

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._epoll.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    raise ValueError(f"an answer without a length: {head[:200]!r}")


def request_of(path: str, body: bytes, *, headers: str = "") -> bytes:
    """Return a whole request that posts JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@dataclass
class Search:
    """A search for the highest rate that holds.

    Attributes:
        rate: It; 0 where even the lowest did not hold.
        best: Its round.
        tried: Every round, in order.
    """

    rate: float = 0.0
    best: Result | None = None
    tried: list[Result] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        """Return the search in numbers."""
        best = {} if self.best is None else self.best.row()
        return {
            **best,
            "tried": [[round(one.rate), round(1e3 * one.quantile(0.99), 1), round(one.answered_share, 4)] for one in self.tried],
        }


def sustained(
    measure: Callable[[float], Result], *, p99_s: float, lowest: float = 25.0, highest: float = 50_000.0, steps: int = 4
) -> Search:
    """Return the highest rate that holds: doubled until one does not, then halved in between.

    A rate holds where p99 is kept and at least 99.9 % are answered, none of them wrong; one that fails is tried once more, as others share
    the machine.

    Args:
        measure: Runs a round.
        p99_s: The bound.
        lowest: The first rate.
        highest: The last.
        steps: How often the gap is halved; 4 leave 6 % of the rate.
    """
    found = Search()

    def holds(rate: float) -> bool:
        for _ in range(2):
            result = measure(rate)
            found.tried.append(result)
            if result.quantile(0.99) <= p99_s and result.answered_share >= 0.999 and not result.wrong:
                found.rate, found.best = rate, result
                return True
        return False

    low, high = 0.0, lowest
    while high <= highest and holds(high):
        low, high = high, 2 * high
    for _ in range(steps if low or found.tried else 0):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return found

"""Requests without room: refused by their bytes where these are whole and usual, else by the parser, with one answer either way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from deepseek.serving.http.problems import RefusedError
from deepseek.serving.http.protocol import LimitedProtocol, limited

PATH = b"/v1/models/m/predict"


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Connection:
    """A connection whose application answers nothing, and whose parser is seen when it is fed."""

    def __init__(self, *, full: bool = True) -> None:
        self.asked: list[bytes] = []
        self.parsed = 0

        async def app(scope: object, receive: object, send: object) -> None:
            await asyncio.Event().wait()

        def shed(path: bytes) -> RefusedError | None:
            self.asked.append(path)
            return RefusedError(429, "16 rows wait", headers={"Retry-After": "1"}) if full and path == PATH else None

        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="off")
        config.load()
        kind: type[LimitedProtocol] = limited(10.0, shed=shed)
        self.protocol = kind(config, ServerState(), {}, _loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        self.transport = Transport()
        self.protocol.connection_made(self.transport)
        feed = self.protocol.parser.feed_data

        class Parser:
            def __getattr__(_, name: str) -> object:  # noqa: N805
                return getattr(parser, name)

            def feed_data(_, data: bytes) -> None:  # noqa: N805
                self.parsed += 1
                feed(data)

        parser = self.protocol.parser
        self.protocol.parser = Parser()  # type: ignore[assignment]

    def send(self, data: bytes) -> bytes:
        self.transport.written = b""
        self.protocol.data_received(data)
        return self.transport.written


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def within(loop: asyncio.AbstractEventLoop, test) -> None:
    async def run() -> None:
        test()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    loop.run_until_complete(run())


def request(*headers: str, path: bytes = PATH, body: bytes = b"{}", length: int | None = None, method: bytes = b"POST") -> bytes:
    lines = "".join(f"{line}\r\n" for line in ("Host: a", f"Content-Length: {len(body) if length is None else length}", *headers))
    return method + b" " + path + b" HTTP/1.1\r\n" + lines.encode() + b"\r\n" + body


def status(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


def fields(answer: bytes) -> tuple[bytes, dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, orjson.loads(body)


def test_a_whole_request_is_refused_without_being_parsed(loop) -> None:
    def test() -> None:
        connection = Connection()
        for number in range(3):
            head, told = fields(connection.send(request(f"X-Request-Id: r{number}", "Connection: keep-alive")))
            assert head.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: 1" in head
            assert told["request_id"] == f"r{number}"
        assert connection.parsed == 0
        assert not connection.transport.closed

    within(loop, test)


def test_both_ways_give_the_same_answer(loop) -> None:
    def test() -> None:
        quick, slow = Connection(), Connection()
        whole = request("x-request-id: one")
        slow.send(whole[:30])
        assert quick.send(whole) == slow.send(whole[30:])
        assert (quick.parsed, slow.parsed) == (0, 2)
        assert quick.asked == slow.asked == [PATH]

    within(loop, test)


@pytest.mark.parametrize(
    "data",
    [
        request("Connection: close"),
        request("Transfer-Encoding: chunked"),
        request("Expect: 100-continue"),
        request("Upgrade: websocket"),
        request("Content-Length: 2"),
        request(length=3),
        request(length=1),
        request() + request(),
        request(method=b"GET"),
        request(path=b"/v1/models"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"POST nonsense\r\n\r\n",
        b"POST ",
    ],
)
def test_what_is_unusual_is_left_to_the_parser(loop, data) -> None:
    def test() -> None:
        connection = Connection()
        connection.send(data)
        assert connection.parsed == 1

    within(loop, test)


def test_what_has_room_is_not_refused(loop) -> None:
    def test() -> None:
        connection = Connection(full=False)
        assert connection.send(request()) == b""
        assert connection.parsed == 1

    within(loop, test)


def test_a_request_inside_the_body_of_another_is_none(loop) -> None:
    def test() -> None:
        connection = Connection()
        connection.send(request(path=b"/other", length=5_000))
        assert connection.send(request()) == b""
        assert connection.asked == [b"/other"]  # never what its body says

    within(loop, test)


def test_after_an_answer_the_rest_of_its_body_is_no_request(loop) -> None:
    def test() -> None:
        connection = Connection()
        connection.send(request(path=b"/other", length=5_000))
        connection.protocol.cycle.response_complete = True  # answered before all of its body was there
        connection.send(request())
        assert PATH not in connection.asked

    within(loop, test)


def test_a_connection_that_is_refused_often_stays_open(loop) -> None:
    def test() -> None:
        connection = Connection()
        connection.send(request())
        assert connection.protocol._timer is None  # the time for a first request has been kept
        assert connection.protocol.timeout_keep_alive_task is not None

    within(loop, test)

"""Folders, settings and limits of the server, and bodies on their way to the disk."""

import asyncio

import pytest
from tests.unit.serving.intake.sending import JSON, Server

import deepseek
from deepseek.data.sources import open_source
from deepseek.errors import DataError, InputError, RecipeError
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.http.request import Request
from deepseek.serving.intake import make_app
from deepseek.serving.intake.spool import SMALL_BYTES, Spool


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds other things"):
        make_app(tmp_path / "in")
    with pytest.raises(DataError, match="no folder of ingested data"):
        open_source({"type": "ingest", "path": str(tmp_path / "in")}).schema()


def test_settings_are_checked_by_name(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'max_body'"):
        make_app(tmp_path / "in", settings={"max_bdy": "1MB"})
    with pytest.raises(InputError, match="would never find room"):
        make_app(tmp_path / "in", settings={"max_backlog": "1MB"})


def test_only_the_named_topics_are_taken(tmp_path):
    server = Server(tmp_path / "in", settings={"topics": ("a",)})
    assert [one.status_code for one in server.post(("a", b'{"x":1}', JSON), ("b", b'{"x":1}', JSON))] == [200, 404]


@pytest.mark.parametrize("status", [429, 503])
def test_what_is_full_says_when_to_come_again_with_the_status_that_was_chosen(tmp_path, status):
    server = Server(tmp_path / "in", settings={"max_waiting": 1, "flush_interval": "1h", "full_status": status})
    first, second = server.post(("t", b'{"a": 1}', JSON), ("t", b'{"a": 2}', JSON))
    assert (first.status_code, second.status_code, second.headers["retry-after"]) == (200, status, "3600")


def test_a_spool_is_a_file_only_when_it_has_to_be(tmp_path):
    small, large = Spool(tmp_path), Spool(tmp_path)
    small.write(b"x" * SMALL_BYTES)
    assert (small.finish().path, list(tmp_path.iterdir())) == (None, [])
    for _ in range(2):
        large.write(b"x" * SMALL_BYTES)
    body = large.finish()
    assert body.path is not None
    assert (body.cut(1, 4).read(), body.size) == (b"xxx", 2 * SMALL_BYTES)
    body.discard()
    assert not list(tmp_path.iterdir())


class Client:
    """A client of an ASGI request that sends pieces with pauses."""

    def __init__(self, *pieces, pause=0.0):
        self.pieces, self.pause = list(pieces), pause

    async def __call__(self):
        if self.pause:
            await asyncio.sleep(self.pause)
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}


def pieces_of(client, **limits):
    async def main():
        request = Request({"method": "POST", "path": "/", "headers": []}, client, None)
        return [piece async for piece in request.pieces(**{"limit": 10, "pause_s": 60.0, "min_rate": 1, **limits})], request.read

    return asyncio.run(main())


def test_pieces_come_as_they_are_and_end_with_the_body():
    assert pieces_of(Client(b"ab", b"", b"c")) == ([b"ab", b"", b"c"], True)


@pytest.mark.parametrize(
    ("client", "limits", "status"),
    [
        (Client(b"x" * 6, b"x" * 6), {}, 413),
        (Client(b"x", pause=5.0), {"pause_s": 0.01}, 408),
        (Client(*[b"x"] * 9, pause=0.05), {"pause_s": 0.1, "min_rate": 1_000_000}, 408),
    ],
)
def test_pieces_that_are_too_many_or_too_slow_are_refused(client, limits, status):
    with pytest.raises(RefusedError) as caught:
        pieces_of(client, **limits)
    assert caught.value.status == status


def test_the_public_function_is_the_servers():
    assert deepseek.ingest.__module__ == "deepseek.serving.intake.server"

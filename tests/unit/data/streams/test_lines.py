"""A file that is followed: another one in its place is never read as if it were the same."""

import pytest

from deepseek.data.streams.lines import LinesStream
from deepseek.errors import DataError


def lines(*words):
    return b"".join(b"%s\n" % word for word in words)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(lines(b"one", b"two"))
    return path


def test_a_file_that_took_its_place_is_told_of_while_it_is_followed(path, tmp_path):
    with LinesStream(path=path) as stream:
        assert stream.poll(10).num_rows == 2
        path.rename(tmp_path / "events.1")
        path.write_bytes(lines(b"three", b"four", b"five"))  # longer than what was read: its length says nothing
        with pytest.raises(DataError, match="another file"):
            stream.poll(10, timeout_s=0.0)


def test_a_file_that_took_its_place_is_told_of_by_another_process(path):
    with LinesStream(path=path) as stream:
        stream.poll(10)
        kept = stream.position()
    path.write_bytes(lines(b"three", b"four", b"five"))
    with LinesStream(path=path) as stream, pytest.raises(DataError, match=r"no line .* begins at byte 8"):
        stream.seek(kept)


def test_going_back_reads_the_file_that_is_there(path, tmp_path):
    with LinesStream(path=path) as stream:
        assert stream.poll(10).num_rows == 2
        path.rename(tmp_path / "events.1")
        path.write_bytes(lines(b"three", b"four", b"five"))
        stream.seek({})
        assert stream.poll(10).column("value").to_pylist() == [b"three", b"four", b"five"]

"""Files by URL: a real web server with every bad habit, and an object store in memory."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import threading
import urllib.request
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from deepseek.data.sources import is_url, open_source
from deepseek.data.sources.listed_files import ListedFiles
from deepseek.data.sources.remote import cache
from deepseek.data.sources.remote.urls import is_remote, place_of
from deepseek.data.sources.remote.web import _Redirects
from deepseek.errors import DataError, InputError, MissingExtraError, UnknownNameError

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
CSV = b"a,b\n1,x\n2,y\n3,z\n"
BIG = b"a,b\n" + b"".join(f"{i},{'x' * (i % 50)}\n".encode() for i in range(100_000))


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_PAUSES_S", (0.0, 0.0, 0.0))
    return tmp_path / "cache" / "remote"


class Handler(BaseHTTPRequestHandler):
    """Serves `state.files`, with ranges, tags and accidents as `state` says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        state = self.server.state
        state.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        name = self.path.partition("?")[0]
        if name in state.moved:
            self.send_response(302)
            self.send_header("Location", state.moved[name])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        code = state.refuse.pop(0) if state.refuse else 200 if name in state.files else 404
        if code != 200:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = state.files[name]
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        if state.tags and self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            self.end_headers()
            return
        start, wanted = 0, self.headers.get("Range")
        if state.ranges and wanted and self.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start + state.shift}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send(state, body[start:], tag)

    def send(self, state, piece, tag):
        if state.tags:
            self.send_header("ETag", f"W/{tag}" if state.weak else tag)
        for header in state.headers.items():
            self.send_header(*header)
        if state.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif state.length:
            self.send_header("Content-Length", str(len(piece)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        sent = min(state.drop.pop(0), len(piece)) if state.drop else len(piece)
        if state.chunked:
            self.wfile.write(f"{sent:x}\r\n".encode() + piece[:sent] + b"\r\n" + (b"0\r\n\r\n" if sent == len(piece) else b""))
        else:
            self.wfile.write(piece[:sent])
        if sent < len(piece) or not state.length:
            self.wfile.flush()
            self.close_connection = True
        if state.then:
            state.then.pop(0)(state)


@contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.state = SimpleNamespace(
        files={}, asked=[], moved={}, refuse=[], drop=[], then=[], headers={},
        tags=True, weak=False, ranges=True, length=True, chunked=False, shift=0,
    )  # fmt: skip
    server.state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web():
    with serving() as state:
        yield state


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def rows(value, **given):
    source = open_source(value, **given)
    return pa.Table.from_batches(list(source.read())).to_pydict()


def packed(suffix):
    match suffix:
        case ".gz":
            return gzip.compress(CSV)
        case ".bz2":
            return bz2.compress(CSV)
        case ".xz":
            return lzma.compress(CSV)
        case ".zst":
            return pa.Codec("zstd").compress(CSV, asbytes=True)
        case ".zip":
            sink = io.BytesIO()
            with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("t.csv", CSV)
            return sink.getvalue()
    return CSV


def contents():
    parquet, arrow, npz = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pa.parquet.write_table(TABLE, parquet)
    with pa.ipc.new_file(arrow, TABLE.schema) as writer:
        writer.write_table(TABLE)
    np.savez(npz, a=np.array([1, 2, 3]), b=np.array(["x", "y", "z"]))
    lines = "\n".join(json.dumps(row) for row in TABLE.to_pylist())
    made = {"t.csv": CSV, "t.jsonl": lines.encode(), "t.json": f"[{lines.replace(chr(10), ',')}]".encode(), "t.parquet": parquet.getvalue()}
    made |= {"t.arrow": arrow.getvalue(), "t.npz": npz.getvalue()}
    return made | {f"t.csv{suffix}": packed(suffix) for suffix in (".gz", ".bz2", ".xz", ".zst", ".zip")}


@pytest.mark.parametrize("name", contents())
def test_every_format_and_packing_is_read_from_the_web_and_from_a_store(name, web, memory, tmp_path):
    data = contents()[name]
    web.files[f"/deep/{name}"] = data
    memory.pipe(f"/deep/{name}", data)
    (tmp_path / name).write_bytes(data)
    wanted = TABLE.to_pydict()
    for url in (f"{web.url}/deep/{name}", f"memory://deep/{name}", (tmp_path / name).as_uri(), tmp_path / name):
        assert rows(url) == wanted
    kind = {"jsonl": "jsonl", "json": "json", "parquet": "parquet", "arrow": "arrow", "npz": "npz"}.get(name.partition(".")[2], "csv")
    assert rows({"type": kind, "path": f"memory://deep/{name}"}) == wanted


def test_patterns_lists_and_folders_of_a_store(memory, web):
    for number in (1, 2, 10):
        memory.pipe(f"/parts/{number:02}.csv", f"a,b\n{number},x\n".encode())
    memory.pipe("/parts/.hidden.csv", b"no")
    wanted = {"a": [1, 2, 10], "b": ["x"] * 3}
    assert rows("memory://parts/*.csv")["a"] == rows("memory://parts/")["a"] == wanted["a"]
    web.files["/x.csv"] = b"a,b\n7,y\n"
    assert rows(["memory://parts/10.csv", "memory://parts/01.csv", f"{web.url}/x.csv"])["a"] == [7, 1, 10]
    with pytest.raises(DataError, match="no object matches"):
        open_source("memory://parts/*.parquet").schema()
    with pytest.raises(DataError, match="a web server does not say which files it has"):
        open_source(f"{web.url}/*.csv").schema()
    with pytest.raises(DataError, match="a web server does not say which files it has"):
        open_source(f"{web.url}/parts/").schema()


def test_two_objects_of_one_name_and_content_are_two(memory):
    """Nothing is lost where the names below two folders, and the contents too, are the same."""
    for folder in ("p", "q"):
        memory.pipe(f"/{folder}/x.csv", CSV)
    both, one = open_source(["memory://p/x.csv", "memory://q/x.csv"]), open_source("memory://p/x.csv")
    assert pa.Table.from_batches(list(both.read())).column("a").to_pylist() == [1, 2, 3, 1, 2, 3]
    assert both.fingerprint() != one.fingerprint()


def test_a_folder_of_images(memory):
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png"):
        memory.pipe(f"/photos/{name}", name.encode())
    source = open_source("memory://photos")
    assert pa.Table.from_batches(list(source.read())).to_pydict() == {
        "image": ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png"],
        "label": ["cat", "dog", "cat"],
        "split": ["train", "train", "test"],
    }
    assert (source.root / "test/cat/3.png").read_bytes() == b"test/cat/3.png"
    before = source.fingerprint()
    memory.pipe("/photos/test/cat/3.png", b"other")
    assert source.fingerprint() == before
    assert open_source("memory://photos").fingerprint() != before
    with pytest.raises(DataError, match="there is nothing below"):
        open_source("memory://photo").schema()


def test_a_folder_of_images_and_masks(memory):
    for name in ("images/1.png", "masks/1.png", "images/2.png"):
        memory.pipe(f"/scans/{name}", name.encode())
    source = open_source({"type": "masks", "path": "memory://scans"})
    assert pa.Table.from_batches(list(source.read())).to_pydict() == {"image": ["images/1.png"], "mask": ["masks/1.png"]}
    assert (source.root / "masks/1.png").read_bytes() == b"masks/1.png"
    assert next(source.rejects())["reason"].to_pylist() == ["there is no mask of this name"]


def test_files_that_are_rows(memory, web):
    memory.pipe("/p/a.png", b"1")
    memory.pipe("/p/b.png", b"2")
    web.files["/c.png"] = b"3"
    source = ListedFiles(["memory://p/*.png", f"{web.url}/c.png"], column="photo", kind="image")
    assert source.names == ["a.png", "b.png", "c.png"]
    assert [open(path, "rb").read() for path in next(iter(source.read())).column(0).to_pylist()] == [b"1", b"2", b"3"]  # noqa: PTH123, SIM115


def test_it_is_fetched_once_and_again_when_it_changed(web, kept):
    web.files["/t.csv"] = CSV
    first = open_source(f"{web.url}/t.csv")
    before = first.fingerprint()
    rows(first)
    rows(first.as_text(["a"]))
    assert len(web.asked) == 1
    assert open_source(f"{web.url}/t.csv").fingerprint() == before
    assert [("if-none-match" in headers) for _, headers in web.asked] == [False, True]
    web.files["/t.csv"] = CSV + b"4,w\n"
    assert (first.fingerprint(), rows(first)["a"]) == (before, [1, 2, 3])
    changed = open_source(f"{web.url}/t.csv")
    assert changed.fingerprint() != before
    assert rows(changed)["a"] == [1, 2, 3, 4]
    web.files["/t.csv"] = CSV
    assert open_source(f"{web.url}/t.csv").fingerprint() == before
    assert sum(file.is_file() for file in (kept / "objects").rglob("*") if len(file.name) == 64) == 1


def test_without_a_tag_it_is_fetched_each_time(web):
    web.files["/t.csv"], web.tags = CSV, False
    for _ in range(2):
        assert rows(f"{web.url}/t.csv") == TABLE.to_pydict()
    assert not any({"if-none-match", "if-modified-since"} & headers.keys() for _, headers in web.asked)
    web.headers = {"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}
    for _ in range(2):
        assert rows(f"{web.url}/t.csv") == TABLE.to_pydict()
    assert web.asked[-1][1]["if-modified-since"] == "Wed, 01 Jan 2020 00:00:00 GMT"


@pytest.mark.parametrize(
    ("ranges", "tags", "chunked"), [(True, True, False), (False, True, False), (True, False, False), (True, True, True)]
)
def test_a_connection_that_breaks_is_taken_up_or_begun_anew(ranges, tags, chunked, web):
    web.files["/t.csv"] = BIG
    web.ranges, web.tags, web.chunked = ranges, tags, chunked
    web.drop = [1_200_000, 300_000] if ranges and tags else [1_000_000]
    (file,) = open_source(f"{web.url}/t.csv").files()
    assert file.read_bytes() == BIG
    taken_up = [headers["range"] for _, headers in web.asked if "range" in headers]
    assert (taken_up != []) == tags
    if ranges and tags and not chunked:
        assert taken_up == ["bytes=1200000-", "bytes=1500000-"]


def test_what_changes_in_the_middle_is_never_mixed(web):
    """The first half of one content and the second half of the next would be a table that never was."""
    web.files["/t.csv"] = BIG
    web.drop, web.then = [1_500_000], [lambda state: state.files.update({"/t.csv": BIG.replace(b"x", b"y")})]
    (file,) = open_source(f"{web.url}/t.csv").files()
    assert file.read_bytes() == BIG.replace(b"x", b"y")
    assert "if-range" in web.asked[1][1]


def test_a_weak_tag_is_not_enough_to_take_up(web):
    web.files["/t.csv"], web.weak, web.drop = BIG, True, [1_500_000]
    (file,) = open_source(f"{web.url}/t.csv").files()
    assert file.read_bytes() == BIG
    assert "range" not in web.asked[1][1]


def test_a_server_that_answers_with_other_bytes_is_not_believed(web):
    web.files["/t.csv"], web.drop, web.shift = BIG, [1_500_000], 5
    (file,) = open_source(f"{web.url}/t.csv").files()
    assert file.read_bytes() == BIG


def test_what_had_come_whole_before_the_process_died_is_seen_to_be(web, kept):
    web.files["/t.csv"] = BIG
    open_source(f"{web.url}/t.csv").files()
    (note,) = (kept / "objects").rglob("content.json")
    about = json.loads(note.read_text())
    (note.parent / about["sha256"]).rename(note.parent / "part")
    (note.parent / "part").chmod(0o644)
    note.rename(note.parent / "part.json")
    (file,) = open_source(f"{web.url}/t.csv").files()
    assert file.read_bytes() == BIG


def test_a_damaged_cache_is_mended(web, kept):
    web.files["/t.csv"] = CSV
    open_source(f"{web.url}/t.csv").files()
    for damaged in [*kept.rglob("*.csv"), *(path for path in kept.rglob("*") if len(path.name) == 64)]:
        damaged.unlink()
    (kept / "objects").rglob("content.json").__next__().write_text("{")
    assert rows(f"{web.url}/t.csv") == TABLE.to_pydict()


def test_it_gives_up_with_what_happened(web):
    web.files["/t.csv"], web.tags, web.drop = BIG, False, [10] * 9
    with pytest.raises(DataError, match=r"cannot be fetched: the connection ended after 10 of 3,138,894 bytes"):
        open_source(f"{web.url}/t.csv").schema()
    assert len(web.asked) == 4
    web.refuse = [503] * 9
    with pytest.raises(DataError, match="cannot be fetched: it answered 503"):
        open_source(f"{web.url}/t.csv").schema()


@pytest.mark.parametrize(
    ("code", "words"), [(404, "there is no"), (403, "may not be read"), (401, "may not be read"), (418, "answered 418")]
)
def test_refusals_are_told(code, words, web):
    web.files["/t.csv"], web.refuse = CSV, [code]
    with pytest.raises(DataError, match=words):
        open_source(f"{web.url}/t.csv").schema()
    assert len(web.asked) == 1


def test_an_answer_whose_end_nobody_can_know_is_refused(web):
    web.files["/t.csv"], web.length = CSV, False
    with pytest.raises(DataError, match="does not say how long it is"):
        open_source(f"{web.url}/t.csv").schema()
    web.length, web.headers = True, {"Content-Encoding": "gzip"}
    with pytest.raises(DataError, match="comes packed"):
        open_source(f"{web.url}/t.csv").schema()


def test_no_server_and_no_name():
    with pytest.raises(DataError, match="cannot be fetched"):
        open_source("http://127.0.0.1:9/t.csv").schema()
    with pytest.raises(DataError, match="names no server"):
        open_source("http:///t.csv").schema()
    with pytest.raises(DataError, match="is no URL"):
        open_source("http://h:port/t.csv").schema()


def test_a_password_goes_to_its_own_server_and_nowhere_else(web):
    with serving() as other:
        other.files["/t.csv"] = CSV
        web.moved["/here.csv"] = f"{other.url}/t.csv"
        source = open_source(f"{web.url.replace('//', '//me:hush@')}/here.csv")
        assert rows(source) == TABLE.to_pydict()
        assert web.asked[0][1]["authorization"].startswith("Basic ")
        assert "authorization" not in other.asked[0][1]


def test_no_redirection_leaves_encryption():
    following = _Redirects().redirect_request
    before = urllib.request.Request("https://h/t.csv", headers={"Authorization": "Basic x", "Range": "bytes=5-"})
    with pytest.raises(DataError, match="which is not encrypted"):
        following(before, None, 302, "Found", {}, "http://h/t.csv")
    with pytest.raises(DataError, match="which is no web address"):
        following(before, None, 302, "Found", {}, "ftp://h/t.csv")
    assert following(before, None, 302, "Found", {}, "https://h/u.csv").headers == before.headers
    assert following(before, None, 302, "Found", {}, "https://i/u.csv").headers == {"Range": "bytes=5-"}


SECRET = "hush-4711"


@pytest.mark.parametrize(
    "url",
    [
        "http://me:SECRET@127.0.0.1:9/t.csv",
        "http://SECRET@127.0.0.1:9/t.csv",
        "http://127.0.0.1:9/t.csv?X-Amz-Signature=SECRET&X-Amz-Credential=SECRET",
        "http://127.0.0.1:9/t.csv?a=1&sig=SECRET#x",
        "http://127.0.0.1:9/no-suffix?token=SECRET",
        "http://me:SECRET@127.0.0.1:9/*.csv",
        "http://me:SECRET@h:port/t.csv",
        "s3://key:SECRET@bucket/t.csv",
        "gs://bucket/t.csv?token=SECRET",
    ],
)
def test_no_error_and_no_file_shows_a_secret(url, kept):
    with pytest.raises(InputError) as caught:
        open_source(url.replace("SECRET", SECRET)).schema()
    error = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__
    assert not any(SECRET in str(path) or (path.is_file() and SECRET in path.read_text()) for path in kept.rglob("*"))


def test_a_signature_is_no_part_of_what_is_cached(web, kept):
    web.files["/t.csv"] = CSV
    first, second = (open_source(f"{web.url}/t.csv?part=1&sig={sign}") for sign in ("one", "two"))
    assert first.fingerprint() == second.fingerprint()
    assert first.files() == second.files()
    assert open_source(f"{web.url}/t.csv?part=2&sig=one").files() != first.files()
    assert web.asked[0][0] == "/t.csv?part=1&sig=one"


class Named(MemoryFileSystem):
    """The same store under another scheme."""

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.partition("://")[2].strip("/") if "://" in path else super()._strip_protocol(path)


class Changing(Named):
    """A store whose object is another each time that it was opened, for so often."""

    protocol = ("changing",)
    times = 0

    def open(self, path, mode="rb", **given):
        opened = super().open(path, mode, **given)
        if mode != "rb":
            return opened
        data = io.BytesIO(opened.read())
        if type(self).times:
            type(self).times -= 1
            self.pipe(path, b"a,b\n%d,x\n" % type(self).times)
        return data


class Failing(Named):
    """A store that fails in its own ways."""

    protocol = ("failing",)
    errors: list = []  # noqa: RUF012
    breaks: list = []  # noqa: RUF012
    seeks: list = []  # noqa: RUF012

    def info(self, path, **given):
        if self.errors:
            raise self.errors.pop(0)
        return super().info(path, **given)

    def open(self, path, mode="rb", **given):
        whole = super().open(path, mode, **given).read()
        outer = self

        class Stream(io.BytesIO):
            def seek(self, at, *rest):
                outer.seeks.append(at)
                return super().seek(at, *rest)

            def read(self, size=-1):
                if outer.breaks and self.tell() >= outer.breaks[0]:
                    outer.breaks.pop(0)
                    raise ConnectionResetError("reset")
                return super().read(size)

        return Stream(whole)


@pytest.fixture(autouse=True, scope="module")
def _known():
    fsspec.register_implementation("changing", Changing, clobber=True)
    fsspec.register_implementation("failing", Failing, clobber=True)


def test_an_object_that_changes_while_it_is_read_is_read_again(memory):
    memory.pipe("/t.csv", CSV)
    Changing.times = 2
    assert rows("changing://t.csv")["a"] == [0]
    memory.pipe("/t.csv", CSV)
    Changing.times = 99
    with pytest.raises(DataError, match="it changes while it is read"):
        open_source("changing://t.csv").schema()
    Changing.times = 0


def test_a_stores_own_errors_are_ours_and_what_may_pass_is_tried_again(memory):
    memory.pipe("/t.csv", BIG)
    Failing.breaks[:] = [1 << 20, 2 << 20]
    (file,) = open_source("failing://t.csv").files()
    assert file.read_bytes() == BIG
    assert Failing.seeks == [1 << 20, 2 << 20]
    Failing.errors[:] = [PermissionError("AccessDenied")]
    with pytest.raises(DataError, match=r"may not be read: PermissionError: AccessDenied"):
        open_source("failing://u.csv").schema()
    Failing.errors[:] = [RuntimeError("quota")] * 9
    with pytest.raises(DataError, match="cannot be fetched: RuntimeError: quota"):
        open_source("failing://u.csv").schema()
    Failing.errors.clear()
    with pytest.raises(DataError, match=r"there is no 'failing://u\.csv'"):
        open_source("failing://u.csv").schema()


def test_memory_is_bounded_whatever_the_size(web, monkeypatch):
    """No piece that is held is larger than one chunk."""
    sizes = []
    monkeypatch.setattr(cache, "_CHUNK_BYTES", 1_000)
    read = cache.Opened

    def spy(stream, *rest):
        before = stream.read
        stream.read = lambda size=-1: sizes.append(size) or before(size)
        return read(stream, *rest)

    monkeypatch.setattr("deepseek.data.sources.remote.web.Opened", spy)
    web.files["/t.csv"] = BIG[:50_000]
    open_source(f"{web.url}/t.csv").files()
    assert set(sizes) == {1_000}


def test_processes_that_fetch_the_same_wait_for_each_other(web):
    web.files["/t.csv"] = BIG
    found = []
    threads = [threading.Thread(target=lambda: found.append(open_source(f"{web.url}/t.csv").fingerprint())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 6


def test_what_is_missing_is_named_with_its_install_line(monkeypatch):
    def absent(*given, **more):
        raise ImportError("Install it")

    for url, library in (("s3://b/t.csv", "s3fs"), ("gs://b/t.csv", "gcsfs"), ("az://c/t.csv", "adlfs"), ("abfs://c@a.net/t.csv", "adlfs")):
        with monkeypatch.context() as patched:
            patched.setattr(fsspec, "filesystem", absent)
            with pytest.raises(InputError, match=rf"needs '{library}', which is not installed\n.*pip install {library}"):
                open_source(url).schema()
    with pytest.raises(UnknownNameError, match="unknown scheme 's4'; allowed: file, http, https, s3"):
        open_source("s4://b/t.csv").schema()
    with pytest.raises(InputError, match="chains several places"):
        open_source("zip://x.csv::s3://b/t.zip").schema()
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"deepseek-framework\[remote\]"):
        open_source("memory://t.csv").schema()


def test_what_is_a_url_and_where_its_content_is_kept():
    assert is_url("s3://b/t.csv")
    assert is_url("HTTPS://h/t.csv")
    for value in ("t.csv", "C:\\t.csv", "postgresql://h/d", "file:///t.csv", 3, "a:b"):
        assert not is_url(value)
    assert not is_remote("file:///t.csv")
    with pytest.raises(InputError, match="three slashes"):
        open_source("file://host/t.csv")
    places = [
        "s3://b/x/t.csv",
        "s3://c/x/t.csv",
        "abfs://b@h/x/t.csv",
        "abfs://c@h/x/t.csv",
        "http://h/x/t.csv?a=1",
        "http://h/x/t.csv?a=2",
    ]
    assert len({place_of(url) for url in places}) == len(places)
    for url in ("memory://../../etc/passwd", "http://h/../../x%2f..%2fy.csv", "http://h/%2e%2e/%00", "s3://b//x/./.hidden"):
        place = place_of(url)
        assert not place.is_absolute()
        assert not any(part in ("..", ".") or part.startswith(".") or "\0" in part for part in place.parts)


def test_a_remote_table_of_keys(memory):
    from deepseek.data.checks.foreign_key import ForeignKeyCheck

    memory.pipe("/keys.csv", b"code,inhabitants\nDE,84\nFR,69\n")
    check = ForeignKeyCheck(column="c", table="memory://keys.csv", key="code")
    assert check.bad(pa.record_batch({"c": ["DE", "XX", None]})).tolist() == [False, True, False]
    with pytest.raises(InputError, match="holds a secret") as caught:
        ForeignKeyCheck(column="c", table=f"https://me:{SECRET}@h/keys.csv")
    assert SECRET not in str(caught.value)


def test_keys_that_would_be_one_path_are_refused(memory):
    memory.pipe("/photos/a/1.png", b"1")
    assert len(open_source("memory://photos").files()) == 1

    class Odd:
        def _strip_protocol(self, url):
            return "photos"

        def find(self, root, detail):
            return {"photos/a/1.png": {}, "photos/a//1.png": {}}

    with pytest.MonkeyPatch.context() as patched, pytest.raises(DataError, match="cannot be kept as a file"):
        patched.setattr(cache, "store_of", lambda url: Odd())
        open_source("memory://photos").schema()
    with pytest.raises(DataError, match="cannot be kept as a file beside"):
        open_source(["memory://photos/a/x.csv", "memory://photos//a/x.csv"]).schema()


def test_of_what_is_cached_nothing_but_the_listing_is_asked(memory, monkeypatch):
    for number in range(5):
        memory.pipe(f"/photos/cat/{number}.png", b"%d" % number)
    before = open_source("memory://photos").fingerprint()
    asked = []
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path, **given: asked.append(path))
    assert open_source("memory://photos").fingerprint() == before
    assert not asked


def test_the_road_from_a_url(web, tmp_path, monkeypatch):
    """Training from a URL, its run without the secret, and the same content recognised again."""
    import deepseek

    draw = np.random.default_rng(0)
    x = draw.normal(size=80)
    web.files["/shop.csv"] = (
        "x,z,y\n" + "".join(f"{a:.4f},{b},{'no' if a < 0 else 'yes'}\n" for a, b in zip(x, draw.integers(0, 9, 80), strict=True))
    ).encode()
    monkeypatch.chdir(tmp_path)
    run = deepseek.train(f"{web.url.replace('//', f'//me:{SECRET}@')}/shop.csv?sig={SECRET}", target="y", overrides=["train.epochs=1"])
    folder = tmp_path / "runs" / "shop"
    assert folder.is_dir()
    texts = [path.read_text(errors="replace") for path in folder.rglob("*") if path.suffix in {".yaml", ".json", ".jsonl"}]
    assert len(texts) > 3
    assert not any(SECRET in text for text in texts)
    assert any("${ENV:DEEPSEEK_PASSWORD}@127.0.0.1" in text for text in texts)
    assert deepseek.load(run.run).predict(f"{web.url}/shop.csv").num_rows == 80

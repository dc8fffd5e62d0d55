"""Ids: the same content again, other content under an id, what was refused before, commits, and an index that is lost."""

import sqlite3

import pytest
from tests.unit.serving.intake.sending import JSON, Server, png

from deepseek.errors import RunError
from deepseek.serving.http.request import Request
from deepseek.serving.intake import spool
from deepseek.serving.intake.index import Index, Waiting
from deepseek.serving.intake.parts import Parts
from deepseek.serving.intake.spool import SMALL_BYTES


def test_the_same_content_again_is_stored_once(server):
    post = ("t", b'{"a": 1}', {**JSON, "uuid": "u"})
    first, again = server.post(post, post)
    assert (first.json()["duplicate"], again.json()["duplicate"], again.status_code) == (False, True, 200)
    later = server.one(*post).json()  # by another server
    assert (later["duplicate"], later["number"]) == (True, first.json()["number"])
    assert len(server.rows()) == 1


def test_without_an_id_a_content_is_named_by_all_that_it_is(server):
    body = b'{"status": "normal"}'
    posts = [("t", body, {**JSON, "x-patient": "1"}), ("t", body, {**JSON, "x-patient": "2"}), ("u", body, {**JSON, "x-patient": "1"})]
    assert [one.json()["duplicate"] for one in server.post(*posts, posts[0])] == [False, False, False, True]


def test_an_id_with_other_content_is_a_conflict_and_not_lost_silently(server):
    _, other = server.post(("t", b'{"a": 1}', {**JSON, "uuid": "u"}), ("t", b'{"a": 2}', {**JSON, "uuid": "u"}))
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    assert server.rows() == [{"a": 1, "_uuid": "u"}]


def test_a_content_that_was_refused_may_come_again_mended_under_its_id(server):
    bad, again, good = server.post(*[("t", body, {**JSON, "uuid": "u"}) for body in (b"{]", b"{]", b'{"a": 1}')])
    assert (bad.status_code, again.status_code, good.status_code) == (422, 422, 200)
    assert server.rows() == [{"a": 1, "_uuid": "u"}]
    (reject,) = server.rejects()
    assert (reject["raw"], reject["line"]) == ("{]", None)


@pytest.mark.parametrize("together", [True, False])
def test_a_content_that_a_wrong_schema_refused_may_come_again_as_it_was_once_the_schema_is_mended(tmp_path, together):
    """It takes the place of its refusal: its good records are rows, and its bad ones are counted once."""
    (tmp_path / "wrong.yaml").write_text("data: {source: x.csv, target: y, checks: [{type: required, column: id}]}\n")
    (tmp_path / "right.yaml").write_text("data: {source: x.csv, target: y, checks: [{type: range, column: age, min: 0}]}\n")
    post = ("t", b'[{"age": 3}, {"age": -1}]', {**JSON, "uuid": "u"})
    server = Server(tmp_path / "in", schema=tmp_path / "wrong.yaml")
    assert [one.status_code for one in server.post(post, post)] == [422, 422]
    if not together:
        server.post(("t", b'{"id": 1, "age": 1}', JSON))
    then = server.get("/v1/ingest/t").json()
    assert (then["rejected"], then["rows"]) == (2, 0 if together else 1)
    server.options = {"schema": tmp_path / "right.yaml"}
    stored, again = server.post(post, post)
    assert (stored.status_code, stored.json()["duplicate"], stored.json()["rows"], stored.json()["rejected"]) == (207, False, 1, 1)
    assert (again.json()["duplicate"], again.json()["number"]) == (True, stored.json()["number"])
    assert [row["age"] for row in server.rows()][-1] == 3
    assert [(row["raw"], row["line"]) for row in server.rejects()] == [('{"age":-1}', 1)]
    for path in server.folder.glob("index.sqlite*"):  # the same from the parts alone
        path.unlink()
    now = server.get("/v1/ingest/t").json()
    assert (now["rejected"], now["rows"]) == (1, 1 if together else 2)
    if not together:  # an earlier version has the rejects that it had
        (source,) = [server.source(version=2)]
        assert sum(batch.num_rows for batch in source.rejects()) == 2
    changed = ("t", b'[{"age": 4}]', post[2])
    assert server.one(*changed).status_code == 409


def test_a_content_that_the_manifest_names_is_never_drafted(server, monkeypatch):
    """Whatever the index says: it is told of, as a row that is there twice would not be."""
    server.post(("t", b'{"a": 1}', JSON))
    index = Index(server.folder)
    monkeypatch.setattr(index, "next_waiting", lambda *_, **__: [Waiting(1, "u", 0, "", 1, "", {}, 1, 0, None, b"", None, None)])
    with pytest.raises(RunError, match="is not written twice"):
        Parts(server.folder, index, size=10**6).write("t")
    index.close()
    assert server.rows() == [{"a": 1}]


def test_a_lost_index_is_made_again_from_the_parts(server):
    server.post(("t", b'{"a": 1}', {**JSON, "uuid": "u"}), ("s", b'{"a": 2}', {**JSON, "uuid": "v"}))
    for path in server.folder.glob("index.sqlite*"):
        path.unlink()
    again, new = server.post(("t", b'{"a": 1}', {**JSON, "uuid": "u"}), ("t", b'{"a": 3}', {**JSON, "uuid": "w"}))
    assert (again.json()["duplicate"], new.json()["number"]) == (True, 3)
    assert [row["a"] for row in server.rows("t")] == [1, 3]


def test_what_was_half_received_is_taken_away_by_the_next_server(server):
    server.post(("t", b'{"a": 1}', JSON))
    (server.folder / "spool" / "left").write_bytes(b"half")
    server.post(("t", b'{"a": 2}', JSON))
    assert not list((server.folder / "spool").iterdir())


def test_a_commit_that_fails_is_503_and_nothing_is_kept(server, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("deepseek.serving.intake.index._insert", full)
    response = server.one("t", png() + bytes(2 * SMALL_BYTES), {"content-type": "image/png"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "30")
    assert not list((server.folder / "spool").iterdir())


def test_the_disk_has_a_content_before_it_is_committed_and_the_commit_before_the_answer(server, monkeypatch):
    steps = []
    sync_file, sync_folder, commit = spool.sync_file, spool.sync_folder, Index._commit
    monkeypatch.setattr(spool, "sync_file", lambda path: (steps.append("file"), sync_file(path)))
    monkeypatch.setattr(spool, "sync_folder", lambda path: (steps.append("folder"), sync_folder(path)))

    def committed(self, database, tasks):
        steps.append(("commit", database.execute("PRAGMA synchronous").fetchone()[0]))
        commit(self, database, tasks)

    answer = Request.answer_json

    async def answered(self, *arguments):
        steps.append("answer")
        await answer(self, *arguments)

    monkeypatch.setattr(Index, "_commit", committed)
    monkeypatch.setattr(Request, "answer_json", answered)
    server.one("t", png(), {"content-type": "image/png"})
    assert steps[steps.index("file") :][:4] == ["file", "folder", ("commit", 2), "answer"]  # 2 is FULL: a commit waits for the disk

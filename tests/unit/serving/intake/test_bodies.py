"""What comes of every kind of body, and what is refused or set aside."""

import io
import json

import pyarrow as pa
import pytest
from tests.unit.serving.intake.sending import FLOW, JSON, LINES, Server, png, stream

from deepseek.errors import InputError
from deepseek.serving.intake import make_app
from deepseek.serving.intake.attributes import attributes_of
from deepseek.serving.intake.contents import Given, Lander
from deepseek.serving.intake.flowfiles import find_flow_files, package
from deepseek.serving.intake.spool import SMALL_BYTES, Spool

KINDS = {
    "one object": (b'{"a": 1, "b": {"c": "x"}}', JSON, [{"a": 1, "b.c": "x"}]),
    "an array": (b'[{"a": 1}, {"a": 2.5}]', JSON, [{"a": 1.0}, {"a": 2.5}]),
    "lines": (b'{"a": 1}\n\n{"a": null}\n', LINES, [{"a": 1}, {"a": None}]),
    "CSV": (b"a;b\n1;x\n2;y\n", {"content-type": "text/csv; charset=utf-8"}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    "tabs": (b"a\tb\n1\tx,y\n", {"content-type": "text/tab-separated-values"}, [{"a": 1, "b": "x,y"}]),
    "Arrow": (
        stream(pa.table({"a": [1, 2], "v": [[1.0], [2.0, 3.0]]})), {"content-type": "application/vnd.apache.arrow.stream"},
        [{"a": 1, "v": [1.0]}, {"a": 2, "v": [2.0, 3.0]}],
    ),
    "lists of objects": (b'{"a": [{"b": 1}]}', {"content-type": "application/ld+json"}, [{"a": '[{"b": 1}]'}]),
    "a series": (b'{"hr": [61, 62.5, null]}', JSON, [{"hr": [61.0, 62.5, None]}]),
    "text": ("é".encode("latin-1"), {"content-type": "text/plain; charset=latin-1"}, [{"text": "é"}]),
    "told by the attribute": (
        b'{"a": 1}', {"content-type": "application/octet-stream", "mime.type": "application/json"},
        [{"a": 1, "_mime.type": "application/json"}],
    ),
    "told by the name": (b"a,b\n1,2\n", {"filename": "x.csv"}, [{"a": 1, "b": 2, "_filename": "x.csv"}]),
    "names that are taken": (b'{"_id": 1, "_x": 2}', {**JSON, "x-id": "3"}, [{"__id": 1, "__x": 2, "_id_": "3"}]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_body_becomes_rows(server, kind):
    body, headers, expected = KINDS[kind]
    response = server.one("t", body, headers)
    assert (response.status_code, response.json()["rows"]) == (200, len(expected))
    assert server.rows() == expected


@pytest.mark.parametrize(
    ("kind", "column", "suffix"), [("image/png", "image", ".png"), ("audio/wav", "audio", ".wav"), ("a/b", "file", ".bin")]
)
@pytest.mark.parametrize("size", [0, 2 * SMALL_BYTES])
def test_files_are_kept_as_they_are_and_named_by_what_they_hold(server, kind, column, suffix, size):
    body = png() + bytes(size)
    server.post(("t", body, {"content-type": kind}), ("t", body, {"content-type": kind, "x-of": "another"}))
    first, second = server.rows()
    assert first[column] == second[column]
    assert first[column].endswith(suffix)
    assert (server.folder / "topics" / "t" / first[column]).read_bytes() == body
    field = server.source().schema().field(column)
    assert field.metadata[b"deepseek.root"].decode() == str(server.folder / "topics" / "t")


def test_large_records_take_the_road_over_the_disk(server):
    records = [{"n": n, "pad": "x" * 100} for n in range(20_000)]
    server.post(("t", json.dumps(records).encode(), JSON), ("t", "\n".join(map(json.dumps, records)).encode(), LINES))
    assert server.rows() == records * 2
    assert not list((server.folder / "spool").iterdir())


def test_flow_files_behind_each_other_are_contents_of_their_own(server):
    files = [({"uuid": "1", "filename": "a.json"}, b'{"a": 1}'), ({"uuid": "2", "mime.type": "text/plain", "Ward": "é"}, "ü".encode())]
    response = server.one("t", package([*files, ({"uuid": "3"}, b"x" * 70_000)]), FLOW)
    assert [one["id"] for one in response.json()["contents"]] == ["1", "2", "3"]
    rows = server.rows()
    assert (rows[0]["a"], rows[1]["text"], rows[1]["_ward"]) == (1, "ü", "é")
    again = server.one("t", package(files), FLOW).json()
    assert (again["stored"], again["duplicate"]) == (0, 2)


@pytest.mark.parametrize("length", [0, 1, 65_534, 65_535, 70_000])
def test_packaged_flow_files_are_found_whatever_their_lengths(length):
    body = package([({"a" * 10: "v" * length, "b": "ü"}, b"c" * length), ({}, b"")])
    first, second = find_flow_files(io.BytesIO(body), len(body))
    assert (first.attributes["a" * 10], first.attributes["b"], first.stop - first.start) == ("v" * length, "ü", length)
    assert (second.attributes, second.start, second.stop) == ({}, len(body), len(body))


def test_the_wire_format_is_the_published_one():
    assert package([({"path": "./"}, b"hi")]) == b"NiFiFF3\x00\x01\x00\x04path\x00\x02./\x00\x00\x00\x00\x00\x00\x00\x02hi"


@pytest.mark.parametrize("cut", [3, 8, 12, 20, -1])
def test_flow_files_that_break_off_are_refused_whole(server, cut):
    body = package([({"uuid": "1"}, b'{"a": 1}'), ({"uuid": "2"}, b"hello")])
    response = server.one("t", body[:cut], {**FLOW})
    assert response.status_code == 400
    assert server.get("/v1/ingest").json()["topics"] == {}


def test_parts_of_a_form_are_contents_and_its_fields_their_attributes(server):
    form = (
        b'--B\r\nContent-Disposition: form-data; name="patient"\r\n\r\n7\r\n'
        b'--B\r\nContent-Disposition: form-data; name="scan"; filename="s.png"\r\nContent-Type: image/png\r\n\r\n' + png() + b"\r\n"
        b'--B\r\nContent-Disposition: form-data; name="note"; filename="n.txt"\r\n\r\nwell\r\n--B--\r\n'
    )
    response = server.one("t", form, {"content-type": "multipart/form-data; boundary=B", "idempotency-key": '"k"'})
    assert [one["id"] for one in response.json()["contents"]] == ["k/scan", "k/note"]
    scan, note = server.rows()
    assert (scan["_patient"], scan["_filename"], note["text"], note["_form.name"]) == ("7", "s.png", "well", "note")
    assert (server.folder / "topics" / "t" / scan["image"]).read_bytes() == png()


def test_bad_records_are_set_aside_and_named_and_the_others_kept(server):
    response = server.one("t", b'{"a": 1}\n[1]\n{"a": 2\n7\n', LINES)
    assert (response.status_code, response.json()["rows"], response.json()["rejected"]) == (207, 1, 3)
    assert [one["line"] for one in response.json()["errors"]] == [2, 3, 4]
    assert server.rows() == [{"a": 1}]
    assert [row["raw"] for row in server.rejects()] == ["[1]", '{"a": 2', "7"]


@pytest.mark.parametrize("beside", [b"", b"nope\n"], ids=["alone", "beside one that is none"])
def test_two_fields_of_one_dotted_name_are_refused_and_none_of_them_is_dropped(server, beside):
    response = server.one("t", b'{"a.b": 1, "a": {"b": 2}}\n' + beside, LINES)
    assert response.status_code == 422
    assert "the same dotted name" in response.json()["detail"]


def test_compressed_arrow_and_too_many_records_are_refused(tmp_path):
    sink = io.BytesIO()
    table = pa.table({"a": list(range(1000))})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    server = Server(tmp_path / "in", settings={"max_records": 999})
    kind = {"content-type": "application/vnd.apache.arrow.stream"}
    responses = server.post(("t", sink.getvalue(), kind), ("t", stream(table), kind), ("t", json.dumps(table.to_pylist()).encode(), JSON))
    assert [one.status_code for one in responses] == [400, 413, 413]


def test_types_widen_over_posts_and_text_is_spelled_alike_whenever_it_widened(server):
    values = [1, 2.5, 3.0, None, True, "x"]
    for value in values:
        server.post(("t", json.dumps({"a": value}).encode(), JSON))
    assert [row["a"] for row in server.rows()] == ["1", "2.5", "3", None, "true", "x"]


def test_names_that_are_made_up_for_each_content_do_not_become_columns_without_end(server, monkeypatch):
    monkeypatch.setattr("deepseek.serving.intake.contents.MOST_COLUMNS", 8)
    posts = [("t", json.dumps({f"f{n}": n}).encode(), {**JSON, f"x-{n}": "a"}) for n in range(5)]
    assert [one.status_code for one in server.post(*posts)] == [200, 200, 200, 200, 422]
    response = server.one(*posts[-1])  # by another server, which finds them in the parts
    assert response.status_code == 422
    assert "columns, and this content 2 others" in response.json()["detail"]
    many = {f"x-{n}": "a" for n in range(201)}
    assert "201 attributes" in server.one("u", b'{"a": 1}', {**JSON, **many}).json()["detail"]


def test_two_attributes_of_one_column_are_refused_unless_they_say_the_same(server):
    ward = {**JSON, "x-patient-id": "7"}
    posts = [("t", b'{"a": 1}', {**ward, "x-patient_id": other}) for other in ("7", "8")]
    same, two = server.post(*posts)
    assert (same.status_code, two.status_code) == (200, 422)
    detail = two.json()["detail"]
    assert "'patient-id' and 'patient_id' are both the column '_patient_id', and say '7' and '8'" in detail
    assert server.rows() == [{"a": 1, "_patient_id": "7"}]
    assert len(server.rejects()) == 1


def test_an_attribute_does_not_cover_a_field(server):
    response = server.one("t", b'{"_ward": 3}', {**JSON, "x-_ward": "4"})
    assert response.status_code == 422
    assert "the attribute '_ward' and a field of the records are both the column '__ward'" in response.json()["detail"]


def test_types_that_are_made_up_for_each_content_do_not_become_columns_without_end(server, monkeypatch):
    monkeypatch.setattr("deepseek.serving.intake.contents.MOST_STORED", 4)
    kind = {"content-type": "application/vnd.apache.arrow.stream"}
    posts = [("t", stream(pa.table({"a": pa.array([None], pa.decimal128(digits))})), kind) for digits in range(1, 6)]
    assert [one.status_code for one in server.post(*posts, posts[0])] == [200, 200, 200, 200, 422, 200]
    known, response = server.post(posts[0], posts[-1])  # by another server, which finds them in the parts
    assert known.status_code == 200
    assert (response.status_code, "types in all, and this content has 1 others" in response.json()["detail"]) == (422, True)


def test_which_headers_are_attributes():
    headers = {
        b"x-patient": b"7", b"x-api-key": b"secret", b"x-forwarded-for": b"me", b"filename": "é".encode(), b"user-agent": b"curl",
        b"sensor": b"s", b"fragment.index": b"1",
    }  # fmt: skip
    assert attributes_of(headers) == {"patient": "7", "filename": "é", "fragment.index": "1"}
    assert attributes_of(headers, ["sens*"])["sensor"] == "s"


KEYS_AND_HOPS = [
    "X-Auth-Token", "X-Vault-Token", "X-Goog-Api-Key", "X-Goog-IAP-JWT-Assertion", "X-Amz-Security-Token", "X-Cloud-Trace-Context",
    "X-Envoy-Attempt-Count", "X-Datadog-Trace-Id", "X-Correlation-Id", "X-Original-Forwarded-For", "X-Azure-Ref", "X-Client-IP",
]  # fmt: skip


@pytest.mark.parametrize("name", KEYS_AND_HOPS)
def test_keys_proxies_and_tracers_leave_nothing_in_the_rows_and_make_no_other_content(server, name):
    first, again = server.post(*[("t", b'{"a": 1}', {**JSON, name: f"{number:016x}"}) for number in range(2)])
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    assert server.rows() == [{"a": 1}]


def test_without_keys_pages_of_other_sites_may_not_send(server):
    own, other = server.post(*[("t", b'{"a": 1}', {**JSON, "sec-fetch-site": site}) for site in ("same-origin", "cross-site")])
    assert (own.status_code, other.status_code) == (200, 403)
    assert server.rows() == [{"a": 1}]


def test_records_are_held_against_a_run(people_run, tmp_path):
    """Wrong values are refused by record and field; the target may come later; what the run does not know is kept."""
    server = Server(tmp_path / "in", schema=people_run)
    good = {
        "age": 41, "income": 25_000.5, "city": "Oslo", "floor": 2, "member": True, "since": "2021-03-04T05:06:07Z", "note": "new here",
        "extra": "kept",
    }  # fmt: skip
    bad = {**good, "age": "old", "member": "yes"}
    short = {name: value for name, value in good.items() if name != "city"}
    mixed, refused = server.post(
        ("people", json.dumps([good, bad, {**good, "bought": "yes"}, short]).encode(), JSON), ("people", json.dumps([bad]).encode(), JSON)
    )
    assert (mixed.status_code, mixed.json()["rows"], mixed.json()["rejected"]) == (207, 2, 2)
    first, second = mixed.json()["errors"]
    assert [(error["field"], error["given"]) for error in first["errors"]] == [("age", '"old"'), ("member", '"yes"')]
    assert second["errors"][0]["message"].startswith("the field 'city' is missing")
    assert (refused.status_code, refused.json()["errors"][0]["errors"][0]["field"]) == (422, "age")
    rows = server.rows()
    assert [(row["age"], row["extra"], row["bought"]) for row in rows] == [(41.0, "kept", None), (41.0, "kept", "yes")]
    csv = b"age,income,city,floor,member,since,note,extra\n41,1.5,Oslo,2,true,2021-03-04,x,7\nold,1.5,Oslo,2,true,2021-03-04,x,8\n"
    response = server.one("people", csv, {"content-type": "text/csv"})
    assert (response.status_code, response.json()["errors"][0]["line"]) == (207, 3)
    kinds = {field.name: str(field.type) for field in server.source().schema()}
    assert (kinds["age"], kinds["floor"], kinds["since"]) == ("double", "int64", "timestamp[us]")
    table = pa.table({name: [value] for name, value in {**good, "since": "2021-01-01", "age": 7}.items()})
    assert server.one("people", stream(table), {"content-type": "application/vnd.apache.arrow.stream"}).status_code == 200


def test_records_are_held_against_the_checks_of_a_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data:\n  source: x.csv\n  target: y\n  checks: [{type: range, column: age, min: 0}, {type: required, column: id}]\n")
    server = Server(tmp_path / "in", schema=recipe)
    response = server.one("t", b'[{"age": 3, "id": 1}, {"age": -1, "id": 2}, {"age": 4}]', JSON)
    assert (response.status_code, response.json()["rows"]) == (207, 1)
    assert [one["line"] for one in response.json()["errors"]] == [1, 1]
    assert server.rows() == [{"age": 3, "id": 1}]
    bare = tmp_path / "bare.yaml"
    bare.write_text("data: {source: x.csv, target: y}\n")
    with pytest.raises(InputError, match="has no checks of single rows"):
        make_app(tmp_path / "other", schema=bare)


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", "application/json", "application/x-ndjson"])
@pytest.mark.parametrize("charset", ["undefined", "punycode", "PunyCode", "idna", "no-such", "a\0b"])
def test_a_body_in_what_is_no_encoding_of_text_is_the_clients_mistake(tmp_path, kind, charset):
    # `undefined` was a failure of the server, and two megabytes of `punycode` half a minute of its time
    spool = Spool(tmp_path)
    spool.write(b'{"a": 1}\n')
    content = Lander(most_records=10).land(Given("t", spool.finish(), {}, f"{kind}; charset={charset}"))
    assert (content.rows, content.refusal.status) == (0, 422)
    assert "is no encoding of text" in content.refusal.message

"""The application over ASGI, without a socket: addresses, statuses, bodies, keys, exchange of models."""

import asyncio
import json

import httpx
import pyarrow as pa
import pytest

import deepseek
from deepseek import serving
from deepseek.errors import BundleError, DataError, InputError, RecipeError
from deepseek.serving.assembly import settings_of
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.problems import RefusedError, RowsLostError
from deepseek.serving.models import named_paths

ROW = {
    "age": 41, "income": 25_000.5, "city": "Oslo", "floor": 2, "member": True, "since": "2021-03-04T05:06:07Z", "note": "new here",
}  # fmt: skip
PREDICT = "/v1/models/people/predict"
KEY, ADMIN = "a-key-of-sixteen-or-more", "an-admin-key-of-sixteen"


def call(app, *requests, raw=None):
    """Send requests one after the other, each `(method, path, arguments)`; return the responses."""

    async def main():
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(method, path, **arguments) for method, path, arguments in requests]

    return asyncio.run(main())


def post(app, value, **arguments):
    (response,) = call(app, ("POST", PREDICT, {"json": value, **arguments}))
    return response


def is_problem(response, status):
    value = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert (value["status"], value["type"]) == (status, "about:blank")
    assert value["title"]
    assert value["detail"]
    return value


def test_one_row_is_answered_as_the_predictor_does(app, people_run, table):
    row = table.drop_columns(["bought"]).slice(3, 1)
    expected = deepseek.load(people_run).predict(row).to_pylist()[0]
    (given,) = row.to_pylist()
    answer = post(app, {**given, "since": given["since"].isoformat()}).json()
    assert (answer["model"], answer["prediction"]) == ("people", expected["prediction"])
    assert answer["probabilities"] == pytest.approx({name: expected[f"probability_{name}"] for name in ("no", "yes")}, abs=1e-6)


def test_many_rows_are_answered_in_their_order_equal_to_predict(app, people_run, table):
    rows = table.drop_columns(["bought"]).to_pylist()
    expected = deepseek.load(people_run).predict(table)
    answers = post(app, [{**row, "since": row["since"].isoformat()} for row in rows]).json()["answers"]
    assert [answer["prediction"] for answer in answers] == expected["prediction"].to_pylist()
    served = [answer["probabilities"]["yes"] for answer in answers]
    assert served == pytest.approx(expected["probability_yes"].to_pylist(), abs=1e-6)


def test_bad_rows_have_their_error_and_the_others_their_answer(app):
    response = post(app, [ROW, {**ROW, "age": "old"}, ROW])
    value = response.json()
    assert response.status_code == 207
    assert value["failed"] == 1
    first, bad, last = value["answers"]
    assert first == last
    assert bad["error"]["status"] == 422
    assert [bad["error"]["errors"][0][key] for key in ("field", "given")] == ["age", '"old"']


def test_a_single_bad_row_and_rows_that_are_all_bad_are_422(app):
    value = is_problem(post(app, {**ROW, "age": "old"}), 422)
    assert value["errors"][0]["field"] == "age"
    value = is_problem(post(app, [{**ROW, "age": "old"}, 3]), 422)
    assert [(error["row"], error["field"]) for error in value["errors"]] == [(0, "age"), (1, None)]


def test_rows_that_only_preparation_finds_bad_are_found_out_one_by_one(app, monkeypatch):
    model = app.models.get("people")
    answer = model.predictor.answer

    def picky(batch):
        if 99.0 in batch["age"].to_pylist():
            raise DataError("the age 99 cannot be prepared")
        return answer(batch)

    monkeypatch.setattr(model.predictor, "answer", picky)
    monkeypatch.setattr(model.batcher, "_answer", picky)
    response = post(app, [ROW, {**ROW, "age": 99}, {**ROW, "age": "old"}, ROW])
    entries = response.json()["answers"]
    assert response.status_code == 207
    assert [entry.get("error", {}).get("detail", "answered")[:20] for entry in entries] == [
        "answered", "the age 99 cannot be", "the field 'age' is \"", "answered",
    ]  # fmt: skip
    assert is_problem(post(app, {**ROW, "age": 99}), 422)["detail"] == "the age 99 cannot be prepared"


def test_explanations_of_bad_rows_stay_in_bounds(app):
    response = post(app, [{}] * 499 + [ROW])
    entries = response.json()["answers"]
    assert all("error" in entry for entry in entries[:-1])
    assert sum("errors" in entry["error"] for entry in entries[:-1]) == 100
    assert len(response.content) < 400_000


def test_arrow_in_and_out(app, people_run, table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    arrow = "application/vnd.apache.arrow.stream"
    (response,) = call(
        app, ("POST", PREDICT, {"content": sink.getvalue().to_pybytes(), "headers": {"content-type": arrow, "accept": arrow}})
    )
    assert response.headers["content-type"] == arrow
    assert pa.ipc.open_stream(response.content).read_all()["prediction"] == deepseek.load(people_run).predict(table)["prediction"]


def test_ids_are_the_clients_or_new(app):
    assert post(app, ROW, headers={"x-request-id": "order-7"}).json()["id"] == "order-7"
    is_problem(post(app, ROW, headers={"x-request-id": "order 7"}), 400)
    first, second = post(app, ROW), post(app, ROW)
    assert first.headers["x-request-id"] == first.json()["id"] != second.json()["id"]


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status"),
    [
        ("GET", "/nothing", {}, 404), ("POST", "/v1/models/peopel/predict", {"json": ROW}, 404), ("GET", PREDICT, {}, 405),
        ("POST", PREDICT, {"content": b"{}", "headers": {"content-type": "text/csv"}}, 415), ("DELETE", "/v1/models", {}, 405),
        ("POST", PREDICT, {"content": b" " * 100_001, "headers": {"content-type": "application/json"}}, 413),
        ("POST", PREDICT, {"json": [ROW] * 501}, 413), ("POST", PREDICT, {"json": ROW, "headers": {"x-timeout-ms": "soon"}}, 400),
        ("POST", PREDICT, {"json": ROW, "headers": {"x-timeout-ms": "0"}}, 400), ("GET", "/v1/models/../admin", {}, 404),
        ("POST", PREDICT, {"json": ROW, "headers": {"content-encoding": "gzip"}}, 415), ("GET", "/v1/models/%00", {}, 404),
        ("POST", PREDICT, {"content": b"", "headers": {"content-type": "application/json"}}, 400),
        ("POST", "/admin/models/people/load", {"json": {"path": "elsewhere"}}, 403),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_problem_document(app, method, path, arguments, status):
    (response,) = call(app, (method, path, arguments))
    is_problem(response, status)


def test_an_unknown_model_is_told_of_what_was_meant(app):
    (response,) = call(app, ("POST", "/v1/models/peopel/predict", {"json": ROW}))
    assert "unknown model 'peopel'; allowed: people" in response.json()["detail"]
    assert response.json()["hint"] == "did you mean 'people'?"


def test_a_body_that_does_not_come_is_given_up(app):
    sent = []

    async def main():
        async def receive():
            await asyncio.sleep(5)

        async def send(message):
            sent.append(message)

        await app({"type": "http", "method": "POST", "path": PREDICT, "headers": [(b"content-length", b"10")]}, receive, send)

    asyncio.run(main())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_chunked_body_is_cut_off_at_the_limit(app):
    taken, sent = [], []

    async def main():
        async def receive():
            taken.append(1)
            return {"type": "http.request", "body": b"x" * 30_000, "more_body": True}

        async def send(message):
            sent.append(message)

        await app({"type": "http", "method": "POST", "path": PREDICT, "headers": []}, receive, send)

    asyncio.run(main())
    assert sent[0]["status"] == 413
    assert len(taken) == 4


def test_a_deadline_that_passes_is_a_504(app, monkeypatch):
    import time

    model = app.models.get("people")
    answer = model.batcher._answer
    monkeypatch.setattr(model.batcher, "_answer", lambda batch: (time.sleep(0.3), answer(batch))[1])
    is_problem(post(app, ROW, headers={"x-timeout-ms": "50"}), 504)
    assert post(app, ROW).status_code == 200


def test_a_defect_is_a_500_that_tells_nothing_and_the_next_is_answered(app, monkeypatch):
    model = app.models.get("people")
    answer = model.batcher._answer
    monkeypatch.setattr(model.batcher, "_answer", lambda batch: {}["secret-path"])
    value = is_problem(post(app, ROW), 500)
    assert "secret" not in json.dumps(value)
    monkeypatch.setattr(model.batcher, "_answer", answer)
    assert post(app, ROW).status_code == 200


def test_rows_that_kill_the_model_are_the_servers_failure_and_the_others_are_answered(app):
    model = app.models.get("people")
    answer = model.batcher._answer

    def deadly(batch):
        ages = batch["age"].to_pylist()
        lost = {place: "it died" for place, age in enumerate(ages) if age == 13}
        if lost:
            good = [place for place in range(len(ages)) if place not in lost]
            raise RowsLostError(lost, answer(batch.take(good)) if good else model.writer.schema.empty_table())
        return answer(batch)

    model.batcher._answer = deadly
    poison, wrong = {**ROW, "age": 13}, {**ROW, "age": "old"}
    assert is_problem(post(app, poison), 500)["detail"] == "it died"
    assert "2 rows are bad" in is_problem(post(app, [poison, wrong]), 500)["detail"]
    mixed = post(app, [wrong, ROW, poison, ROW])
    assert mixed.status_code == 207
    assert [entry.get("error", {}).get("status") for entry in mixed.json()["answers"]] == [422, None, 500, None]
    assert mixed.json()["answers"][1]["prediction"] == post(app, ROW).json()["prediction"]


def test_health_readiness_and_the_page(app):
    health, ready, page, head = call(app, ("GET", "/healthz", {}), ("GET", "/readyz", {}), ("GET", "/", {}), ("HEAD", "/healthz", {}))
    assert (health.status_code, ready.status_code, head.status_code) == (200, 200, 200)
    assert ready.json()["models"] == {"people": app.models.get("people").version}
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    app.draining = True
    (response,) = call(app, ("GET", "/readyz", {}))
    is_problem(response, 503)


def test_the_description_types_every_field(app):
    (response,) = call(app, ("GET", "/openapi.json", {}))
    schemas = response.json()["components"]["schemas"]
    fields = schemas["people.Row"]["properties"]
    assert {name: field["type"][0] for name, field in fields.items()} == {
        "age": "number", "income": "number", "city": "string", "floor": "integer", "member": "boolean", "since": "string", "note": "string",
    }  # fmt: skip
    assert set(fields["city"]["examples"]) == {"Rome", "Oslo", "Lima"}
    assert schemas["people.Answer"]["properties"]["prediction"]["enum"] == ["no", "yes"]
    assert post(app, schemas["people.Row"]["examples"][0]).status_code == 200


def test_metrics_count_what_happened(app):
    post(app, [ROW, {**ROW, "age": "old"}])
    post(app, ROW)
    (response,) = call(app, ("GET", "/metrics", {}))
    lines = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    assert lines['deepseek_requests_total{model="people",endpoint="predict",status="200"}'] == "1"
    assert lines['deepseek_requests_total{model="people",endpoint="predict",status="207"}'] == "1"
    assert lines['deepseek_rows_total{model="people",outcome="answered"}'] == "2"
    assert lines['deepseek_rows_total{model="people",outcome="bad"}'] == "1"
    assert lines['deepseek_request_seconds_count{model="people"}'] == "2"
    assert lines['deepseek_batch_rows_bucket{model="people",le="1"}'] == "2"
    assert lines["deepseek_requests_in_flight"] == "1"


def test_metrics_are_read_by_prometheus_own_parser(app):
    parser = pytest.importorskip("prometheus_client.parser")
    post(app, ROW)
    (response,) = call(app, ("GET", "/metrics", {}))
    families = {family.name: family.type for family in parser.text_string_to_metric_families(response.text)}
    assert families["deepseek_requests"] == "counter"
    assert families["deepseek_request_seconds"] == "histogram"


def test_keys_open_what_they_may(people_run, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_KEYS", f"{KEY} admin:{ADMIN}")
    app = serving.make_app(people_run)
    for headers in ({}, {"x-api-key": "a-key-of-sixteen-or-morf"}, {"authorization": f"Basic {KEY}"}):
        response = post(app, ROW, headers=headers)
        is_problem(response, 401)
        assert "bearer" in response.headers["www-authenticate"].lower()
    for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"x-api-key": ADMIN}, {"x-api-key": f"admin:{ADMIN}"}):
        assert post(app, ROW, headers=headers).status_code == 200
    assert post(app, ROW, headers={"x-api-key": KEY, "Origin": "https://elsewhere.example"}).status_code == 200
    for path in ("/metrics", "/openapi.json", "/v1/models", "/v1/models/people"):
        (response,) = call(app, ("GET", path, {}))
        is_problem(response, 401)
    health, page = call(app, ("GET", "/healthz", {}), ("GET", "/", {}))
    assert health.status_code == page.status_code == 200
    assert "Oslo" not in page.text
    load = ("POST", "/admin/models/people/load", {"json": {"path": "x"}, "headers": {"x-api-key": KEY}})
    is_problem(call(app, load)[0], 403)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://test"}, 200),
        ({"Origin": "https://models.example", "X-Forwarded-Host": "models.example"}, 200),
        ({"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "same-origin"}, 200),  # behind a proxy that changes Host
        ({"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "http://test:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Host": ""}, 403),
    ],
)
def test_without_keys_pages_of_other_sites_may_not_post(app, headers, status):
    answer = post(app, ROW, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert "Host" in is_problem(answer, 403)["hint"]
    assert call(app, ("GET", "/v1/models", {"headers": headers}))[0].status_code == 200


def test_keys_are_kept_as_hashes_and_short_ones_refused(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# the shop\n{KEY}\n")
    keys = Keys.read(str(file))
    assert KEY not in repr(vars(keys))
    keys.require({b"x-api-key": KEY.encode()})
    with pytest.raises(RefusedError):
        keys.require({b"x-api-key": KEY.encode()}, admin=True)
    with pytest.raises(InputError, match="characters"):
        Keys(["short"])
    file.write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no key"):
        Keys.read(str(file))
    with pytest.raises(InputError, match=r"there is no file .*absent with keys"):
        Keys.read(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"cannot be read: .*Is a directory"):
        Keys.read(str(tmp_path))


def test_another_bundle_takes_over_under_load_and_no_request_is_lost(people_run, other_run, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_KEYS", f"{KEY} admin:{ADMIN}")
    app = serving.make_app(people_run)
    before, headers = app.models.get("people").version, {"x-api-key": ADMIN}

    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers) as client:
            done, first = asyncio.Event(), asyncio.Event()
            answers = []

            async def ask():
                while not done.is_set():
                    answers.append(await client.post(PREDICT, json=ROW))
                    first.set()

            asking = [asyncio.ensure_future(ask()) for _ in range(4)]
            await first.wait()
            switched = await client.post("/admin/models/people/load", json={"path": str(other_run)})
            after = await client.post(PREDICT, json=ROW)
            seen = len(answers) + len(asking)  # each of the four may have asked the old one before, and its next request the new one
            while len(answers) <= seen:
                await asyncio.sleep(0.01)
            done.set()
            await asyncio.gather(*asking)
            return switched, after, answers

    switched, after, answers = asyncio.run(main())
    assert switched.status_code == 200
    assert after.json()["version"] == switched.json()["version"] != before
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["version"] for answer in answers} == {before, switched.json()["version"]}


@pytest.mark.parametrize("path", ["/etc", "elsewhere", "../..", "\0", ""])
def test_what_is_no_bundle_is_not_taken_up(people_run, monkeypatch, path, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPSEEK_KEYS", f"admin:{ADMIN}")
    app = serving.make_app(people_run)
    load, ask = (
        ("POST", f"/{place}", {"json": value, "headers": {"x-api-key": ADMIN}})
        for place, value in (("admin/models/people/load", {"path": path}), (PREDICT[1:], ROW))
    )
    refused, answered = call(app, load, ask)
    is_problem(refused, 422)
    assert answered.status_code == 200


def test_what_predicts_or_asks_for_something_else_is_taken_up_only_by_force(people_run, photos_run, table, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_KEYS", f"admin:{ADMIN}")
    taller = table.append_column("height", pa.array([number * 0.37 % 1 for number in range(table.num_rows)]))
    quick = ["train.max_steps=2", "train.precision=fp32", "model={type: mlp, depth: 1, width: 8}"]
    wider = deepseek.train(taller, target="bought", name="wider", out=tmp_path, overrides=quick).run
    app, headers = serving.make_app(people_run), {"x-api-key": ADMIN}
    load = [("POST", "/admin/models/people/load", {"json": {"path": str(path)}, "headers": headers}) for path in (photos_run, wider)]
    answer = ("POST", PREDICT, {"json": ROW, "headers": headers})
    other, asking, answered, counted = call(app, *load, answer, ("GET", "/metrics", {"headers": headers}))
    assert 'deepseek_model_loads_total{model="people",outcome="failed"} 2' in counted.text
    assert "predicts 'label'; people, which is served, predicts 'bought'" in is_problem(other, 409)["detail"]
    assert "asks for 'height', of which the clients of people know nothing" in is_problem(asking, 409)["detail"]
    assert answered.status_code == 200
    forced = ("POST", "/admin/models/people/load", {"json": {"path": str(wider), "force": True}, "headers": headers})
    taken, missed = call(app, forced, answer)
    assert taken.status_code == 200
    assert "'height' is missing" in is_problem(missed, 422)["detail"]


def test_an_unknown_backend_is_refused(people_run):
    with pytest.raises(InputError, match="unknown backend 'troch'"):
        serving.make_app(people_run, settings={"backend": "troch"})


def test_an_edited_bundle_is_refused(people_run, tmp_path):
    import shutil

    shutil.copytree(people_run / "bundle", tmp_path / "edited")
    (tmp_path / "edited" / "task.json").write_text("{}")
    with pytest.raises(BundleError):
        serving.make_app(tmp_path / "edited")


def test_observers_are_told_of_answers_off_the_road(people_run):
    class Observer:
        def __init__(self):
            self.told = []

        def on_answer(self, model, rows, answers, ids):
            self.told.append((model, rows.num_rows, answers["prediction"].to_pylist(), list(ids)))
            raise ValueError("observers may fail")

    observer = Observer()
    app = serving.make_app(people_run, observers=[observer])
    answer = post(app, [ROW, {**ROW, "age": "old"}, ROW], headers={"x-request-id": "r"}).json()
    asyncio.run(app.close())
    version = app.models.get("people").version
    predictions = [entry["prediction"] for entry in answer["answers"] if "error" not in entry]
    assert observer.told == [(f"people@{version}", 2, predictions, ["r/0", "r/2"])]
    assert b"deepseek_observer_failures_total 1" in app.metrics.text()


def test_models_have_names(tmp_path):
    assert named_paths(["runs/churn/002", "old=runs/churn/001"]) == {"churn": "runs/churn/002", "old": "runs/churn/001"}
    assert list(named_paths(["runs/churn/002/bundle"])) == ["churn"]
    with pytest.raises(InputError, match="NAME=PATH"):
        named_paths(["runs/churn/001", "runs/churn/002"])
    with pytest.raises(InputError, match="cannot stand in an address"):
        named_paths(["a/b=runs/churn"])
    with pytest.raises(InputError, match="nothing to serve"):
        named_paths([])


def test_settings_come_from_the_recipe_and_what_is_given_goes_before(people_run):
    assert settings_of(people_run).port == 8000
    chosen = settings_of(people_run, {"port": 1234, "batching": {"max_size": 8}, "max_body": "1MB", "timeout": "5s"})
    assert (chosen.port, chosen.batching.max_size, chosen.batching.max_queue, chosen.max_body, chosen.timeout) == (
        1234,
        8,
        4096,
        10**6,
        5.0,
    )
    with pytest.raises(RecipeError, match="did you mean 'port'"):
        settings_of(people_run, {"prot": 1})

"""Experiments over ASGI, without a socket: who gets which arm, what answers say, and what is begun, promoted and gone back to."""

import asyncio
import io
import json

import httpx
import numpy as np
import pyarrow as pa
from tests.unit.serving.experiments.asking import ADMIN, EXPERIMENT, PREDICT, ROW, USER, begin, go, keep, served, until

from deepseek import serving
from deepseek.serving.experiments.assignment import arm_of, place_of
from deepseek.serving.experiments.audit import history
from deepseek.serving.journal import JournalReader
from deepseek.serving.state import State


def test_keys_are_divided_by_the_pure_function_and_stick(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=0.4, key_field="customer")
            salt = one.state().experiment["salt"]
            names = [f"customer-{number}" for number in range(60)]
            rows = [{**ROW, "customer": name} for name in names]
            many = (await one.post(PREDICT, rows, USER)).json()
            expected = ["candidate" if arm_of(place_of(salt, name)[0], [0.4]) == 0 else "champion" for name in names]
            assert [answer["arm"] for answer in many["answers"]] == expected
            assert set(expected) == {"candidate", "champion"}
            assert "warnings" not in many  # the key is no field of the model, and is not ignored
            for name, arm in list(zip(names, expected, strict=True))[:8]:
                by_row = (await one.post(PREDICT, {**ROW, "customer": name}, USER)).json()
                by_header = (await one.post(PREDICT, ROW, {**USER, "x-experiment-key": name})).json()
                assert by_row["arm"] == by_header["arm"] == arm
                said = "yes" if arm == "candidate" else "no"
                assert by_row["prediction"] == said

    go(work())


def test_answers_come_in_order_and_name_the_version_of_each_row(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            made = await begin(one, {"candidate": arms["good"]}, share=0.5, key_field="who")
            versions = {arm["name"]: arm["version"] for arm in made["arms"]}
            random = np.random.default_rng(0)
            x = random.choice([-2.0, 2.0], 40)
            rows = [{"x": value, "z": 0.0, "who": number} for number, value in enumerate(x)]
            rows[7]["x"] = "bad"
            response = await one.post(PREDICT, rows, USER)
            value = response.json()
            assert response.status_code == 207
            assert value["failed"] == 1
            assert value["answers"][7]["error"]["status"] == 422
            for number, answer in enumerate(value["answers"]):
                if number != 7:
                    positive = (x[number] > 0) == (answer["arm"] == "candidate")
                    assert answer["prediction"] == ("yes" if positive else "no")
                    assert answer["version"] == versions[answer["arm"]]
            assert {answer.get("arm") for answer in value["answers"]} == {"candidate", "champion", None}

    go(work())


def test_arrow_answers_have_version_and_arm_as_columns(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=0.5, key_field="who")
            table = pa.table({"x": [2.0] * 30, "z": [0.0] * 30, "who": [f"k{number}" for number in range(30)]})
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            arrow = "application/vnd.apache.arrow.stream"
            response = await one.client.post(PREDICT, content=sink.getvalue(), headers={**USER, "content-type": arrow, "accept": arrow})
            found = pa.ipc.open_stream(response.content).read_all()
            assert found.column_names == ["prediction", "probability_no", "probability_yes", "version", "arm"]
            said = dict(zip(found["arm"].to_pylist(), found["prediction"].to_pylist(), strict=True))
            assert said == {"champion": "no", "candidate": "yes"}
            expected = (await one.post(PREDICT, table.to_pylist(), USER)).json()["answers"]
            assert found["arm"].to_pylist() == [answer["arm"] for answer in expected]

    go(work())


def test_without_a_key_the_request_is_divided_by_its_id(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=0.5)
            found = [(await one.post(PREDICT, ROW, {**USER, "x-request-id": f"r{n}"})).json()["arm"] for n in range(40)]
            assert set(found) == {"champion", "candidate"}
            again = [(await one.post(PREDICT, ROW, {**USER, "x-request-id": f"r{n}"})).json()["arm"] for n in range(40)]
            assert again == found

    go(work())


def test_a_share_is_raised_for_those_who_have_it_and_promoted_and_rolled_back(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            before = (await one.post(PREDICT, ROW, USER)).json()
            assert "arm" not in before
            await begin(one, {"candidate": arms["good"]}, share=0.2, key_field="who")
            rows = [{**ROW, "who": str(number)} for number in range(80)]
            first = [answer["arm"] for answer in (await one.post(PREDICT, rows, USER)).json()["answers"]]
            assert (await one.post(f"{EXPERIMENT}/share", {"share": 0.6})).status_code == 200
            second = [answer["arm"] for answer in (await one.post(PREDICT, rows, USER)).json()["answers"]]
            assert all(after == "candidate" for was, after in zip(first, second, strict=True) if was == "candidate")
            assert second.count("candidate") > first.count("candidate") > 0
            shown = (await one.ask("GET", EXPERIMENT)).json()
            assert [round(phase["shares"]["candidate"], 2) for phase in shown["phases"]] == [0.2, 0.6]
            promoted = (await one.post("/admin/models/shop/promote", {"arm": "candidate"})).json()
            after = (await one.post(PREDICT, ROW, USER)).json()
            assert after["version"] == promoted["version"] != before["version"]
            assert after["prediction"] == "yes"
            assert "arm" not in after
            shown = (await one.ask("GET", EXPERIMENT)).json()
            assert (shown["state"], shown["outcome"]) == ("ended", "promoted candidate")
            back = (await one.post("/admin/models/shop/rollback", {})).json()
            assert back["version"] == before["version"]
            assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "no"
            assert (await one.post("/admin/models/shop/rollback", {})).status_code == 409
            lines = history(tmp_path, "shop")
            assert [line["what"] for line in lines] == ["begin", "share", "promote", "rollback"]
            assert all(line["who"].startswith("key ") and line["at"] for line in lines)
            assert (lines[1]["old"], lines[1]["new"]) == ({"candidate": 0.2}, {"candidate": 0.6})
            assert (lines[2]["old"], lines[2]["new"]) == (before["version"], promoted["version"])

    go(work())


def test_rollback_goes_back_to_the_bundle_itself_not_to_the_newest_of_its_name(arms, tmp_path):
    async def work():
        name = arms["bad"].parent  # a name, whose newest run is served
        async with served(name, tmp_path) as one:
            version = (await one.post(PREDICT, ROW, USER)).json()["version"]
            await begin(one, {"candidate": arms["good"]}, share=0.5)
            await one.post("/admin/models/shop/promote", {})
            assert one.state().previous == (str(arms["bad"] / "bundle"),)
            assert (await one.post("/admin/models/shop/rollback", {})).json()["version"] == version

    go(work())


def test_what_was_begun_and_promoted_is_there_after_a_restart(arms, tmp_path):
    async def first():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=0.5, key_field="who")
            rows = [{**ROW, "who": str(number)} for number in range(30)]
            return [answer["arm"] for answer in (await one.post(PREDICT, rows, USER)).json()["answers"]]

    async def second(expected):
        async with served(arms["bad"], tmp_path) as one:
            await one.app.exchange.follow()
            rows = [{**ROW, "who": str(number)} for number in range(30)]
            assert [answer["arm"] for answer in (await one.post(PREDICT, rows, USER)).json()["answers"]] == expected
            await one.post("/admin/models/shop/promote", {})

    async def third():
        async with served(one_path(State(tmp_path)), tmp_path, state=str(tmp_path / "elsewhere")) as fresh:
            assert (await fresh.post(PREDICT, ROW, USER)).json()["prediction"] == "yes"
        async with served(arms["bad"], tmp_path) as one:
            assert one.state().path.endswith("good/001/bundle")
            assert (await one.post("/admin/models/shop/rollback", {})).status_code == 200
            assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "no"

    def one_path(state):
        return state.read()["shop"].path

    expected = []
    asyncio.run(asyncio.wait_for(keep(first, expected), 120))
    go(second(expected))
    go(third())


class TestAdmin:
    def test_refusals_are_problem_documents(self, arms, tmp_path):
        async def work():
            async with served(arms["bad"], tmp_path) as one:
                good = {"candidate": str(arms["good"])}
                cases = [
                    ("GET", EXPERIMENT, None, ADMIN, 404, "no experiment"),
                    ("POST", EXPERIMENT, {"arms": good}, USER, 403, "not"),
                    ("POST", EXPERIMENT, {"arms": good}, {}, 401, "a key is needed"),
                    ("POST", EXPERIMENT, {"arm": good}, ADMIN, 422, "arms"),
                    ("POST", EXPERIMENT, {"arms": {}}, ADMIN, 422, "arms"),
                    ("POST", EXPERIMENT, {"arms": good, "share": 1.5}, ADMIN, 422, "share"),
                    ("POST", EXPERIMENT, {"arms": {"champion": str(arms["good"])}}, ADMIN, 422, "champion"),
                    ("POST", EXPERIMENT, {"arms": {**good, "b": str(arms["good"])}, "share": 0.6}, ADMIN, 422, "from 0 to 0.5"),
                    ("POST", EXPERIMENT, {"arms": good, "metric": "mae"}, ADMIN, 422, "unknown metric 'mae'"),
                    ("POST", EXPERIMENT, {"arms": {"candidate": "nowhere"}}, ADMIN, 422, "there is no nowhere"),
                    ("POST", EXPERIMENT, {"arms": {"candidate": str(arms["other"])}}, ADMIN, 422, "probability_high"),
                    ("POST", EXPERIMENT.replace("shop", "shoes"), {"arms": good}, ADMIN, 404, "unknown model 'shoes'"),
                    ("POST", f"{EXPERIMENT}/share", {"share": 0.5}, ADMIN, 409, "no experiment runs"),
                    ("POST", f"{EXPERIMENT}/share", {"share": "half"}, ADMIN, 422, "share"),
                    ("POST", f"{EXPERIMENT}/stop", {}, ADMIN, 409, "no experiment runs"),
                    ("POST", "/admin/models/shop/promote", {}, ADMIN, 409, "no experiment runs"),
                    ("POST", "/admin/models/shop/promote", {"arms": 1}, ADMIN, 422, "its keys: arm"),
                    ("POST", "/admin/models/shop/rollback", {}, ADMIN, 409, "no other model"),
                ]
                for method, path, body, headers, status, said in cases:
                    response = await one.ask(method, path, body, headers)
                    assert response.status_code == status, (path, body, response.text)
                    assert response.headers["content-type"] == "application/problem+json"
                    assert said in response.text, (path, body, response.text)
                assert one.app.exchange.running == {}
                assert history(tmp_path, "shop") == []

        go(work())

    def test_one_experiment_at_a_time_and_no_exchange_meanwhile(self, arms, tmp_path):
        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"candidate": arms["good"]})
                again = await one.post(EXPERIMENT, {"arms": {"candidate": str(arms["good"])}})
                load = await one.post("/admin/models/shop/load", {"path": str(arms["good"])})
                assert (again.status_code, load.status_code) == (409, 409)
                assert (await one.post("/admin/models/shop/promote", {"arm": "cand"})).status_code == 422
                stopped = await one.post("/admin/models/shop/rollback", {})
                assert stopped.json()["outcome"] == "rolled back"
                assert (await one.post("/admin/models/shop/load", {"path": str(arms["good"])})).status_code == 200
                assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "yes"

        go(work())

    def test_clients_may_look_but_see_no_paths(self, arms, tmp_path):
        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"candidate": arms["good"]})
                shown = await one.ask("GET", "/v1/models/shop/experiment", headers=USER)
                assert shown.json()["state"] == "running"
                assert str(arms["good"]) not in shown.text
                assert one.state().experiment["salt"] not in shown.text
                admin = await one.ask("GET", EXPERIMENT)
                assert str(arms["good"]) in admin.text
                assert one.state().experiment["salt"] not in admin.text

        go(work())

    def test_a_server_without_a_journal_refuses(self, arms):
        async def work():
            app = serving.make_app(f"shop={arms['bad']}")
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                response = await client.post(EXPERIMENT, json={"arms": {"candidate": str(arms["good"])}}, headers=ADMIN)
            assert response.status_code == 409
            assert "--state" in response.json()["hint"]
            await app.close()

        go(work())

    def test_several_arms(self, arms, tmp_path):
        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"a": arms["good"], "b": arms["bad"]}, share=0.5, key_field="who")
                rows = [{**ROW, "who": n} for n in range(40)]
                answers = (await one.post(PREDICT, rows, USER)).json()["answers"]
                assert {answer["arm"] for answer in answers} == {"a", "b"}
                assert (await one.post(f"{EXPERIMENT}/share", {"share": 0.1})).status_code == 422  # which one?
                assert (await one.post(f"{EXPERIMENT}/share", {"share": 0.0, "arm": "b"})).status_code == 200
                later = (await one.post(PREDICT, rows, USER)).json()["answers"]
                assert [one["arm"] for one in later] == [one["arm"] if one["arm"] == "a" else "champion" for one in answers]

        go(work())


def test_keys_are_not_written_down(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, key_field="who")
            await one.post(PREDICT, {**ROW, "who": "somebody@example.org"}, USER)
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or b"somebody@example.org" not in path.read_bytes(), path

    go(work())


def test_the_road_without_an_experiment_is_as_it_was(arms):
    app = serving.make_app(f"shop={arms['bad']}")

    async def work():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = (await client.post(PREDICT, json={**ROW, "customer": 7}, headers={**USER, "x-experiment-key": "k"})).json()
            assert list(answer) == ["model", "version", "id", "warnings", "prediction", "probabilities"]
        await app.close()

    go(work())


def test_json_of_the_journal_holds_what_arms_were_told(arms, tmp_path):
    """A journal without its recorder, as after a kill: it is read by the next one."""

    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=1.0)
            await one.post(PREDICT, ROW, USER)
            await until(
                lambda: one.app.experiments.status("shop", admin=False)["results"].get("arms", {}).get("candidate", {}).get("rows") == 1
            )
        status = json.loads((tmp_path / "experiments" / "shop" / "status.json").read_text())
        assert status["arms"]["candidate"]["seconds"]["p50"] > 0
        with JournalReader(tmp_path / "journal") as reader:
            assert reader.read(10) == []  # all of it was counted

    go(work())


def test_the_description_names_header_fields_and_addresses(arms):
    app = serving.make_app(f"shop={arms['bad']}")

    async def work():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            document = (await client.get("/openapi.json", headers=USER)).json()
        await app.close()
        predict = document["paths"][PREDICT]["post"]
        assert "X-Experiment-Key" in [parameter["name"] for parameter in predict["parameters"]]
        assert {"version", "arm", "instead_of"} <= document["components"]["schemas"]["shop.Answer"]["properties"].keys()
        begin = document["paths"][EXPERIMENT]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert begin["required"] == ["arms"]
        assert {"share", "role", "key_field", "metric", "guard"} <= begin["properties"].keys()
        assert "$ref" not in json.dumps(begin)
        for path in ("experiment/share", "experiment/stop", "promote", "rollback"):
            assert "409" in document["paths"][f"/admin/models/shop/{path}"]["post"]["responses"]

    go(work())


def test_a_key_is_the_same_however_a_client_spells_it(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=0.5, key_field="who")
            spelled = [[{**ROW, "who": spell(number)} for number in range(30)] for spell in (int, float, str)]
            found = [[entry["arm"] for entry in (await one.post(PREDICT, rows, USER)).json()["answers"]] for rows in spelled]
            assert found[0] == found[1] == found[2]
            odd = [{**ROW, "who": value} for value in (None, [], {"a": 1}, "")]  # no keys: the request's own id
            answers = (await one.post(PREDICT, [*odd, ROW], {**USER, "x-request-id": "r1"})).json()["answers"]
            assert len({entry["arm"] for entry in answers}) == 1

    go(work())

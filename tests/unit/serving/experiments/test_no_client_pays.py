"""Challengers that fail, and shadows: no client waits for them, and none gets another answer."""

import threading
import time

import httpx
import numpy as np
import pytest
from tests.unit.serving.experiments.asking import EXPERIMENT, PREDICT, ROW, USER, Served, begin, go, served, until

from deepseek import serving
from deepseek.errors import DataError
from deepseek.serving.experiments import arms as asked


class TestFailingChallenger:
    """A challenger that raises, hangs or cannot read a row: the champion answers, and that is counted."""

    def run(self, arms, tmp_path, change, check, **settings):
        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"candidate": arms["good"]}, share=1.0, challenger_timeout="300ms", **settings)
                change(one.arm())
                await check(one)

        go(work())

    @pytest.mark.parametrize("error", [RuntimeError("a defect"), DataError("no such value"), MemoryError()])
    def test_errors(self, arms, tmp_path, error):
        def change(arm):
            def fail(batch):
                raise error

            arm.model.batcher._answer = fail

        async def check(one):
            answer = (await one.post(PREDICT, ROW, USER)).json()
            assert (answer["arm"], answer["instead_of"], answer["prediction"]) == ("champion", "candidate", "no")
            many = (await one.post(PREDICT, [ROW] * 5, USER)).json()["answers"]
            assert {(entry["arm"], entry["version"]) for entry in many} == {("champion", answer["version"])}
            assert one.counts("deepseek_experiment_lost_rows_total{") == {
                'deepseek_experiment_lost_rows_total{model="shop",arm="candidate",reason="failed"}': 6
            }

        self.run(arms, tmp_path, change, check)

    def test_one_that_hangs_is_given_up_after_a_few_requests_and_the_process_can_end(self, arms, tmp_path):
        release = threading.Event()

        def change(arm):
            answer = arm.model.predictor.answer

            def hang(batch):
                release.wait(60)
                return answer(batch)

            arm.model.batcher._answer = hang

        async def check(one):
            for _ in range(asked.FAILURES):
                assert (await one.post(PREDICT, ROW, USER)).json()["instead_of"] == "candidate"
            began = time.monotonic()
            for _ in range(20):
                assert (await one.post(PREDICT, ROW, USER)).json()["arm"] == "champion"
            reasons = {name.rpartition("reason=")[2]: count for name, count in one.counts("deepseek_experiment_lost_rows_total{").items()}
            assert time.monotonic() - began < 20 * 0.3 or reasons['"late"}'] > asked.FAILURES  # nobody waits while it rests
            assert reasons['"late"}'] >= asked.FAILURES
            assert sum(reasons.values()) == asked.FAILURES + 20
            release.set()

        try:
            self.run(arms, tmp_path, change, check)
        finally:
            release.set()

    def test_a_client_that_waits_less_than_the_challenger_may_is_answered_in_time(self, arms, tmp_path):
        release = threading.Event()

        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"candidate": arms["good"]}, share=1.0, challenger_timeout="60s")
                one.arm().model.batcher._answer = lambda batch: release.wait(60)
                answer = await one.post(PREDICT, ROW, {**USER, "x-timeout-ms": "6000"})
                assert answer.status_code == 200
                assert answer.json()["instead_of"] == "candidate"
                release.set()

        try:
            go(work())
        finally:
            release.set()

    def test_one_that_takes_other_fields_reads_the_request_itself(self, arms, tmp_path):
        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"candidate": arms["wide"]}, share=1.0)
                assert not one.arm().alike
                rows = [{**ROW, "extra": 1.0}, ROW, {**ROW, "extra": "bad"}, {"x": -1.5, "z": 0.0, "extra": 0.0}]
                answers = (await one.post(PREDICT, rows, USER)).json()["answers"]
                assert [answer["arm"] for answer in answers] == ["candidate", "champion", "champion", "candidate"]
                assert [answer["prediction"] for answer in answers] == ["yes", "no", "no", "no"]
                assert answers[1]["instead_of"] == "candidate"
                key = 'deepseek_experiment_lost_rows_total{model="shop",arm="candidate",reason="unreadable"}'
                assert one.counts("deepseek_experiment_lost")[key] == 2

        go(work())


class TestShadow:
    """A shadow is asked off the road: whatever it does, clients get the champion's answers as before."""

    def test_it_never_answers_and_is_told_of_apart(self, arms, tmp_path):
        seen = []

        class Log:
            def on_answer(self, model, rows, answers, ids):
                seen.append((model, ids[0], answers["prediction"][0].as_py()))

        async def work():
            app = serving.make_app(f"shop={arms['bad']}", settings={"state": str(tmp_path)}, observers=[Log()])
            one = Served(app, tmp_path)
            entries = []
            tell = app.observers.tell
            app.observers.tell = lambda told: (entries.append(told), tell(told))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as one.client:
                await begin(one, {"candidate": arms["good"]}, role="shadow")
                answer = (await one.post(PREDICT, ROW, {**USER, "x-request-id": "r1"})).json()
                assert (answer["arm"], answer["prediction"]) == ("champion", "no")
                await until(lambda: len(entries) == 2)
            await app.close()
            champion, shadow = entries
            assert (shadow.arm, shadow.shadow, list(shadow.ids), shadow.keys) == ("candidate", True, ["r1"], champion.keys)
            assert (shadow.answers["prediction"][0].as_py(), champion.shadow) == ("yes", False)
            assert shadow.version != champion.version
            assert seen == [(f"shop@{champion.version}", "r1", "no")]  # observers are told of what clients were told

        go(work())

    @pytest.mark.parametrize("behaviour", ["raises", "hangs"])
    def test_champions_answers_and_times_are_as_without_it(self, arms, tmp_path, behaviour):
        release = threading.Event()

        async def times(one, requests):
            found = []
            for _ in range(requests):
                began = time.perf_counter()
                answer = (await one.post(PREDICT, ROW, USER)).json()
                found.append(time.perf_counter() - began)
                assert answer["prediction"] == "no"
            return np.median(found)

        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await times(one, 20)
                before = await times(one, 100)
                await begin(one, {"candidate": arms["good"]}, role="shadow")

                def fail(batch):
                    if behaviour == "hangs":
                        release.wait(60)
                    raise RuntimeError("a defect")

                one.arm().model.batcher._answer = fail
                # a hanging shadow would cost seconds: the bound leaves room for any machine, and none for waiting
                assert await times(one, 100) < before + 1.0
                if behaviour == "hangs":
                    await one.post(PREDICT, [ROW] * (asked.SHADOW_ROWS + 1), USER)
                await until(lambda: one.counts("deepseek_experiment_lost_rows_total{"))
                reasons = " ".join(one.counts("deepseek_experiment_lost_rows_total{"))
                assert ('reason="failed"' if behaviour == "raises" else 'reason="busy"') in reasons
                release.set()

        try:
            go(work())
        finally:
            release.set()

    @pytest.mark.parametrize("shadow", ["good", "wide"])
    def test_what_it_does_not_answer_is_a_failure_of_its_own(self, arms, tmp_path, shadow):
        def fail(batch):
            raise RuntimeError("a defect")

        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"candidate": arms[shadow]}, role="shadow")
                one.arm().model.batcher._answer = fail
                rows = [{**ROW, "extra": 1.0}, ROW] if shadow == "wide" else [ROW] * 2  # the second is not for the wide one to read
                for _ in range(3):
                    assert (await one.post(PREDICT, rows, USER)).status_code == 200

                def found():
                    return one.app.experiments.status("shop", admin=True)["results"].get("arms", {}).get("candidate", {})

                await until(lambda: found().get("failed_rows") == 6)
                lost = {"failed": 3, "unreadable": 3} if shadow == "wide" else {"failed": 6}
                assert (found()["rows"], found()["shadow"]["lost"]) == (6, lost)

        go(work())

    def test_it_is_compared_and_becomes_a_challenger(self, arms, tmp_path):
        async def work():
            async with served(arms["bad"], tmp_path) as one:
                await begin(one, {"candidate": arms["good"]}, role="shadow", min_outcomes=10, key_field="who")
                rows = [{"x": x, "z": 0.0, "who": n} for n, x in enumerate(np.random.default_rng(0).choice([-1.5, 1.5], 60))]
                for part in range(0, 60, 20):
                    given = await one.post(PREDICT, rows[part : part + 20], {**USER, "x-request-id": f"r{part}"})
                    assert given.status_code == 200
                told = [{"id": f"r{n // 20 * 20}/{n % 20}", "label": "yes" if row["x"] > 0 else "no"} for n, row in enumerate(rows)]
                assert (await one.post("/v1/models/shop/feedback", told, USER)).status_code == 202

                def found():
                    return one.app.experiments.status("shop", admin=True)["results"]

                await until(
                    lambda: found().get("comparisons", {}).get("candidate", {}).get("outcomes") == {"champion": 60, "candidate": 60}
                )
                assert found()["comparisons"]["candidate"]["state"] == "better"
                assert found()["arms"]["candidate"]["shadow"]["agreement"] == 0.0
                assert (await one.post(f"{EXPERIMENT}/share", {"share": 1.0})).status_code == 200
                assert (await one.post(PREDICT, ROW, USER)).json()["arm"] == "candidate"

        go(work())

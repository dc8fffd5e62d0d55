"""What a worker serves, changed while something fails: the disk, a library, an arm that takes long."""

import asyncio
import shutil
import threading
from dataclasses import replace

import pytest
from tests.unit.serving.experiments.asking import EXPERIMENT, PREDICT, ROW, USER, begin, go, served, until

from deepseek.errors import RunError
from deepseek.serving.experiments import arms as asked
from deepseek.serving.models import Models
from deepseek.serving.state import State

LOAD = "/admin/models/shop/load"


def infos(one):
    """By model's name, in how many workers a version of it answers."""
    found = {}
    for name, value in one.counts("deepseek_model_info{").items():
        model = name.partition('model="')[2].partition('"')[0]
        found[model] = found.get(model, 0) + value
    return found


def test_an_arm_is_there_once_however_often_its_share_is_changed(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=0.2)
            for share in (0.3, 0.4, 0.5):
                assert (await one.post(f"{EXPERIMENT}/share", {"share": share})).status_code == 200
            assert infos(one) == {"shop": 1, "shop:candidate": 1}
            assert (await one.post(f"{EXPERIMENT}/stop", {})).status_code == 200
            await until(lambda: infos(one) == {"shop": 1, "shop:candidate": 0})

    go(work())


def test_an_arm_that_never_answered_is_not_taken_off_those_that_do(arms, tmp_path):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            refused = await one.post(EXPERIMENT, {"arms": {"candidate": str(arms["good"]), "other": str(arms["other"])}, "share": 0.3})
            assert refused.status_code == 422
            assert infos(one) == {"shop": 1, "shop:candidate": 0, "shop:other": 0}

    go(work())


def test_a_bundle_that_the_state_does_not_take_answers_nobody(arms, tmp_path, monkeypatch):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            before = (await one.post(PREDICT, ROW, USER)).json()["version"]

            def full(*_):
                raise RunError("the disk is full")

            with monkeypatch.context() as patched:
                patched.setattr(State, "_write", full)
                refused = await one.post(LOAD, {"path": str(arms["good"])})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")  # the server's failure, no mistake of the client's
            assert (await one.post(PREDICT, ROW, USER)).json()["version"] == before
            assert infos(one) == {"shop": 1}
            assert (await one.post(LOAD, {"path": str(arms["good"])})).status_code == 200
            assert (await one.post(PREDICT, ROW, USER)).json()["version"] != before

    go(work())


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), RunError("its file cannot be read")])
def test_a_worker_that_fails_to_follow_a_change_says_so_and_follows_the_next(arms, tmp_path, monkeypatch, error):
    async def work():
        async with served(arms["bad"], tmp_path) as one:
            state, exchange = State(tmp_path), one.app.exchange
            await begin(one, {"candidate": arms["good"]}, share=0.5)

            def promoted(old):
                return replace(
                    old, experiment={**old.experiment, "ended_at": 1.0}, path=str(arms["good"]), bundle="", opened=old.serial + 1
                )

            async def fails(*_):
                raise error

            with monkeypatch.context() as patched:
                patched.setattr(Models, "open", fails)
                wanted = state.change("shop", promoted)  # as another worker does
                await exchange.follow()
            assert (exchange.followed, exchange.failed) == ({"shop": wanted.serial}, {"shop"})
            answer = (await one.post(PREDICT, ROW, USER)).json()
            assert (answer["prediction"], "arm" in answer) == ("no", False)  # the old model, and no experiment that is over
            state.change("shop", lambda old: old)
            await exchange.follow()
            assert exchange.failed == set()
            assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "yes"

    go(work())


def test_arms_that_were_opened_before_one_that_fails_are_let_go(arms, tmp_path):
    def threads():
        return sum(thread.name == "deepseek-candidate" for thread in threading.enumerate())

    async def work():
        before = threads()
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"], "second": arms["good"]}, share=0.3)
            value = State(tmp_path).read()["shop"].experiment
            await one.post(f"{EXPERIMENT}/stop", {})
            await until(lambda: threads() == before)
            value = {**value, "id": "e2", "arms": [*value["arms"][:2], {**value["arms"][2], "path": str(tmp_path / "gone")}]}
            State(tmp_path).change("shop", lambda old: replace(old, experiment=value))
            await one.app.exchange.follow()
            assert one.app.exchange.failed == {"shop"}
            await until(lambda: threads() == before)

    go(work())


def test_an_arm_that_takes_long_to_finish_is_let_go_once_it_has(arms, tmp_path, monkeypatch):
    monkeypatch.setattr(asked, "CLOSE_S", 0.05)

    async def work():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=1.0, challenger_timeout="5s")
            arm, release = one.arm(), threading.Event()
            answer = arm.model.predictor.answer

            def slowly(batch):
                release.wait(60)
                return answer(batch)

            arm.model.batcher._answer = slowly
            asking = asyncio.create_task(one.post(PREDICT, ROW, USER))
            await until(lambda: arm.model.in_use)
            await one.post(f"{EXPERIMENT}/stop", {})
            await asyncio.sleep(0.1)  # it was waited for in vain
            release.set()
            assert (await asking).json()["arm"] == "candidate"
            await until(lambda: not arm.model.batcher._threads._thread.is_alive())

    go(work())


def newer(run, other):
    """Let a run's name stand for another run from now on."""
    made = run.parent / "002"
    shutil.copytree(other, made)
    return made


@pytest.fixture
def named(arms, tmp_path):
    name = tmp_path / "runs" / "named"
    shutil.copytree(arms["bad"], name / "001")
    return name / "001"


def test_a_worker_that_is_begun_later_answers_with_what_the_others_answer_with(arms, named, tmp_path):
    async def work():
        async with served(named.parent, tmp_path / "state") as one:
            newer(named, arms["good"])
            other = one.state()  # what another worker begins with
            assert other.place == str(named / "bundle")
            assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "no"

    go(work())


def test_the_newest_run_is_taken_up_when_that_is_asked_for_and_the_one_before_remembered(arms, named, tmp_path):
    async def work():
        async with served(named.parent, tmp_path / "state") as one:
            newest = newer(named, arms["good"])
            one.app.exchange.state.want_again()  # as on SIGHUP
            await one.app.exchange.follow()
            assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "yes"
            assert (one.state().place, one.state().previous) == (str(newest / "bundle"), (str(named / "bundle"),))
            assert (await one.post("/admin/models/shop/rollback", {})).status_code == 200
            assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "no"

    go(work())


def test_an_application_alone_begins_again_with_what_was_promoted(arms, tmp_path):
    async def first():
        async with served(arms["bad"], tmp_path) as one:
            await begin(one, {"candidate": arms["good"]}, share=0.5)
            assert (await one.post("/admin/models/shop/promote", {})).status_code == 200

    async def second():
        async with served(arms["bad"], tmp_path) as one:
            assert (await one.post(PREDICT, ROW, USER)).json()["prediction"] == "yes"

    go(first())
    go(second())


def test_what_an_older_server_has_written_is_read(tmp_path):
    (tmp_path / "models.json").write_text('{"shop": {"path": "/one", "serial": 3, "opened": 2, "given": "/one", "previous": ["/two"]}}')
    assert State(tmp_path).read()["shop"].place == "/one"

"""A flood of refused requests leaves the model its share of the time."""

from types import SimpleNamespace

import pytest

from deepseek.serving import app as module
from deepseek.serving.app import REFUSE_S, STAND_ASIDE_S, App
from deepseek.serving.http.problems import RefusedError

PATH = b"/v1/models/m/predict"


@pytest.fixture
def slept(monkeypatch):
    clock, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0], sleep=sleep, time=lambda: clock[0]))
    return SimpleNamespace(slept=slept, clock=clock)


def application(*, running=1, runners=0):
    made = object.__new__(App)
    batcher = SimpleNamespace(full=RefusedError(429, "full"), running=running)
    model = SimpleNamespace(name="m", batcher=batcher)
    made.models = SimpleNamespace(find=lambda name: model if name == "m" else None)
    made.metrics = SimpleNamespace(cell=lambda *_, **__: SimpleNamespace(add=lambda: None))
    made.settings, made._stood_aside = SimpleNamespace(runners=runners), 0.0
    return made


def test_while_a_batch_is_under_way_the_loop_stands_aside_now_and_then(slept):
    served = application()
    assert served.shed(PATH).status == 429
    assert served.shed(PATH).status == 429
    assert slept.slept == [STAND_ASIDE_S]  # the second came at once
    slept.clock[0] += REFUSE_S
    served.shed(PATH)
    assert slept.slept == [STAND_ASIDE_S] * 2


@pytest.mark.parametrize("how", [{"running": 0}, {"runners": 1}], ids=["nothing runs", "models in processes of their own"])
def test_it_does_not_where_nobody_would_gain(slept, how):
    assert application(**how).shed(PATH).status == 429
    assert slept.slept == []

"""Two samples of the same population raise no more alarms than is stated."""

import numpy as np

from deepseek.data.sources import open_source
from deepseek.profiling.drift import compare_surveys
from deepseek.profiling.survey import survey


def drawn(seed):
    random = np.random.default_rng(seed)
    return {
        "age": random.normal(40, 12, 300),
        "visits": random.poisson(3, 300),
        "plan": random.choice(["free", "basic", "pro"], 300, p=[0.6, 0.3, 0.1]),
    }


def test_without_drift_alarms_are_as_rare_as_stated():
    alarms = 0
    for seed in range(200):
        one, two = (survey(open_source(drawn(10_000 * side + seed))) for side in (1, 2))
        alarms += bool(compare_surveys(one, two)["drifted"])
    assert alarms <= 20  # 10 are expected; more than 20 has a probability of 0.1 %

"""SIGKILL at random moments, then `--resume`: the weights are those of the uninterrupted run, bit for bit."""

import pytest
from benchmarks import kill_resume


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_killed_run_ends_with_the_weights_of_the_uninterrupted_one(devices):
    result = kill_resume.measure(devices, trials=2, epochs=12)
    assert result["bit_equal"] == result["trials"]

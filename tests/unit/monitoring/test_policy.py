import pytest

from deepseek.monitoring.policy import AlarmPolicy


def told(policy, verdicts, step=1.0):
    return [policy.judge(bad, place * step) for place, bad in enumerate(verdicts)]


def test_it_is_raised_and_cleared_after_verdicts_in_a_row():
    policy = AlarmPolicy(consecutive=2, silence_s=100)
    assert told(policy, [True, False, True, True, True, False, True, False, False, False]) == [
        *(None, None, None, "raised", None, None, None, None, "cleared", None)
    ]


def test_a_value_on_the_border_does_not_ring():
    assert told(AlarmPolicy(consecutive=2), [True, False] * 20) == [None] * 40
    assert told(AlarmPolicy(consecutive=1, silence_s=0), [True, False] * 2) == ["raised", "cleared"] * 2


def test_it_is_repeated_once_in_each_time_of_silence():
    assert told(AlarmPolicy(consecutive=1, silence_s=3), [True] * 7) == ["raised", None, None, "repeated", None, None, "repeated"]


def test_one_that_comes_again_at_once_is_not_told_again():
    policy = AlarmPolicy(consecutive=1, silence_s=100)
    assert told(policy, [True, False, True]) == ["raised", "cleared", None]
    assert policy.active


def test_at_once_does_not_wait():
    policy = AlarmPolicy(consecutive=5)
    assert policy.judge(True, 0.0, at_once=True) == "raised"


@pytest.mark.parametrize("cut", range(6))
def test_it_goes_on_from_json(cut):
    verdicts = [True, True, False, True, False, False]
    whole, first = AlarmPolicy(silence_s=0), AlarmPolicy(silence_s=0)
    expected = told(whole, verdicts)
    begun = [first.judge(bad, float(place)) for place, bad in enumerate(verdicts[:cut])]
    second = AlarmPolicy(silence_s=0).load_json(first.to_json())
    assert begun + [second.judge(bad, float(cut + place)) for place, bad in enumerate(verdicts[cut:])] == expected


def test_silence_does_not_last_for_as_long_as_a_clock_was_ahead():
    policy = AlarmPolicy(consecutive=1, silence_s=100)
    assert policy.judge(True, 1e9) == "raised"
    assert policy.judge(True, 1e9 - 1) is None  # labels of two workers come a moment out of order
    assert policy.judge(True, 5_000.0) == "repeated"

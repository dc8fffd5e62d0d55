"""What the recorder makes of the journal: counted once, joined in any order, tested, guarded, and there again after a restart."""

import json
import math
import sqlite3
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from deepseek.errors import RunError
from deepseek.monitoring.outcomes import Target
from deepseek.serving.experiments.assignment import Ticket
from deepseek.serving.experiments.audit import folder_of, history, note
from deepseek.serving.experiments.counts import ArmCounts, Counts
from deepseek.serving.experiments.guard import reason_to_stop
from deepseek.serving.experiments.ledger import Ledger
from deepseek.serving.experiments.settings import Arm, Experiment, phase_of, read_settings
from deepseek.serving.experiments.tally import ExperimentConsumer, Tally
from deepseek.serving.journal import Answered, Outcomes, Unanswered
from deepseek.serving.state import State

NO_ROWS = pa.RecordBatch.from_pylist([{"x": 1.0}])


def experiment(role="challenger", share=0.5, arms=("candidate",), target=None, **settings):
    made = (
        Arm("champion", "/one", "v1", "champion"),
        *(Arm(name, "/two", "v2", role, 0.0 if role == "shadow" else share) for name in arms),
    )
    read = read_settings({"arms": dict.fromkeys(arms, "/two"), "share": share, "role": role, **settings})
    goal = target or Target("binary", ("bought",), ("no", "yes"))
    return Experiment("e1", "shop", made, "salt", goal, read, (phase_of(made, 0.0),))


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def answered(arm, ids, said, *, keys=None, version=None, seconds=0.01, phase=0, share=0.9, name="e1"):
    said = list(said)
    yes = [share if one == "yes" else 1 - share for one in said]
    answers = pa.table({"prediction": said, "probability_no": [1 - one for one in yes], "probability_yes": yes})
    keys = range(len(said)) if keys is None else keys
    tickets = [str(Ticket(name, phase, (int(key) * 0x9E3779B97F4A7C15) % 2**64)) for key in keys]
    version = version or ("v1" if arm == "champion" else "v2")
    return Answered("shop", version, arm, time.time(), ids, tickets, NO_ROWS, answers, seconds)


def outcomes(ids, labels=None, rewards=None):
    return Outcomes("shop", time.time(), ids, labels, rewards)


def stream(random, rows, right, arm, start=0, phase=0, name="r"):
    """Rows of an arm that is right with a probability, and their outcomes."""
    ids = [f"{name}{arm}{start + row}" for row in range(rows)]
    labels = random.choice(["no", "yes"], rows)
    flip = random.random(rows) >= right
    said = [{"no": "yes", "yes": "no"}[label] if wrong else label for label, wrong in zip(labels, flip, strict=True)]
    keys = random.integers(0, 2**40, rows)
    return answered(arm, ids, said, keys=keys, phase=phase), outcomes(ids, labels.tolist())


def found(tally):
    tally.write(math.inf)
    return json.loads((tally._folder / "status.json").read_text())


def test_arms_are_counted_and_compared(folder):
    random = np.random.default_rng(0)
    tally = Tally(experiment(), folder)
    tally.take([*stream(random, 1500, 0.80, "champion"), *stream(random, 1500, 0.90, "candidate")])
    value = found(tally)
    champion, candidate = value["arms"]["champion"], value["arms"]["candidate"]
    assert (champion["rows"], champion["requests"], champion["keys"], champion["outcomes"]) == (1500, 1, 1500, 1500)
    assert champion["value"]["value"] == pytest.approx(0.8, abs=0.03)
    assert candidate["value"]["low"] < 0.9 < candidate["value"]["high"]
    compared = value["comparisons"]["candidate"]
    assert compared["state"] == "better"
    assert compared["difference"]["low"] > 0
    assert "candidate is better by 0." in value["verdict"]
    assert "safe to look at any time" in value["verdict"]
    assert not value["sample_ratio"]["off"]


def test_arms_without_a_mistake_leave_a_difference_open(folder):
    random = np.random.default_rng(0)
    tally = Tally(experiment(metric="accuracy"), folder)
    tally.take([*stream(random, 150, 1.0, "champion"), *stream(random, 150, 1.0, "candidate")])
    reach = found(tally)["comparisons"]["candidate"]["difference"]
    assert reach["low"] < -0.01 < 0.01 < reach["high"]


def test_a_lower_loss_is_better(folder):
    tally = Tally(experiment(metric="log_loss"), folder)
    random = np.random.default_rng(0)
    tally.take([*stream(random, 1500, 0.75, "champion"), *stream(random, 1500, 0.92, "candidate")])
    value = found(tally)
    right, wrong = -math.log(0.9), -math.log(0.1)
    assert value["arms"]["candidate"]["value"]["value"] == pytest.approx(0.92 * right + 0.08 * wrong, abs=0.05)
    assert value["comparisons"]["candidate"]["difference"]["high"] < 0
    assert value["comparisons"]["candidate"]["state"] == "better"
    other = Tally(experiment(metric="error_rate"), folder_of(folder, "other"))
    other.take([*stream(random, 900, 0.75, "champion"), *stream(random, 900, 0.92, "candidate")])
    assert found(other)["arms"]["candidate"]["value"]["value"] == pytest.approx(0.08, abs=0.03)


def test_what_is_read_again_counts_once_also_after_a_restart(folder):
    random = np.random.default_rng(1)
    entries = [*stream(random, 300, 0.8, "champion"), *stream(random, 300, 0.8, "candidate")]
    first = Tally(experiment(), folder)
    first.take(entries)
    before = found(first)
    first.take(entries)
    first.close()
    second = Tally(experiment(), folder)
    second.take(entries)
    after = found(second)
    assert after == before
    assert after["outcomes"] == {"told": 600, "told_again": 0}
    second.take([*stream(random, 50, 0.8, "champion", start=300)])
    assert found(second)["arms"]["champion"]["outcomes"] == 350


def test_outcomes_may_come_before_their_answers_and_never_count_twice(folder):
    tally = Tally(experiment(), folder)
    tally.take([outcomes(["a", "b", "unknown"], ["yes", "no", "yes"])])
    tally.take([answered("champion", ["a", "b", "c"], ["yes", "yes", "no"])])
    value = found(tally)
    assert (value["arms"]["champion"]["outcomes"], value["arms"]["champion"]["value"]["value"]) == (2, 0.5)
    tally.take([outcomes(["a", "c"], ["no", "no"])])  # the first word about a counts
    value = found(tally)
    assert (value["arms"]["champion"]["outcomes"], value["outcomes"]["told_again"]) == (3, 1)
    assert value["arms"]["champion"]["value"]["value"] == pytest.approx(2 / 3)


def test_an_error_counts_nothing(folder, monkeypatch):
    tally = Tally(experiment(), folder)
    monkeypatch.setattr(Ledger, "add_outcomes", lambda *_: 1 / 0)
    entries = [answered("champion", ["a"], ["yes"]), outcomes(["a"], ["yes"])]
    with pytest.raises(ZeroDivisionError):
        tally.take(entries)
    assert tally.counts.arms[0].told.rows == 0
    monkeypatch.undo()
    tally.take(entries)
    assert found(tally)["arms"]["champion"]["outcomes"] == 1


def test_labels_are_spelled_as_classes_and_unknown_ones_counted(folder):
    target = Target("classes", ("n",), ("1", "2", "true"))
    tally = Tally(experiment(target=target), folder)
    answers = pa.table({"prediction": [1, 2, 2, 1], **{f"probability_{name}": [0.3] * 4 for name in target.classes}})
    entry = replace(answered("champion", list("abcd"), ["no"] * 4), answers=answers)
    told = [entry, outcomes(list("abcd"), [1, "2", True, 9.0])]
    for again in (told, told, [outcomes(["d"], rewards=[1.0])]):  # counted when the answer meets its label, and never again
        tally.take(again)
    value = found(tally)["arms"]["champion"]
    assert (value["outcomes"], value["unknown_labels"]) == (3, 1)
    assert value["value"]["value"] == pytest.approx(2 / 3)


def test_rewards_belong_to_the_answers_that_somebody_was_given(folder):
    tally = Tally(experiment(role="shadow", metric="reward"), folder)
    tally.take([answered("champion", ["a", "b"], ["yes", "no"]), answered("candidate", ["a", "b"], ["no", "no"])])
    tally.take([outcomes(["a", "b"], rewards=[2.5, None])])
    value = found(tally)
    assert value["arms"]["champion"]["value"]["value"] == 2.5
    assert (value["arms"]["champion"]["outcomes"], value["arms"]["candidate"]["outcomes"]) == (1, 0)


@pytest.mark.parametrize("first", ["label", "reward"])
@pytest.mark.parametrize(("metric", "value"), [("accuracy", 0.5), ("reward", 3.0)])
def test_a_label_and_a_reward_may_come_one_after_the_other(folder, first, metric, value):
    tally = Tally(experiment(metric=metric), folder)
    told = [outcomes(["a", "b"], labels=["yes", "no"]), outcomes(["a", "b"], rewards=[2.0, 4.0])]
    told[1] = replace(told[1], at=told[0].at + 1)
    entries = [answered("champion", ["a", "b"], ["yes", "yes"]), *(told if first == "label" else told[::-1])]
    for entry in entries:
        tally.take([entry])
    for _ in range(2):
        tally.take(entries)
    tally.take([outcomes(["a"], ["no"], [9.0])])  # each has its first word
    result = found(tally)
    assert (result["arms"]["champion"]["outcomes"], result["arms"]["champion"]["value"]["value"]) == (2, value)
    assert result["outcomes"] == {"told": 4, "told_again": 1}


def test_numbers_are_compared_by_their_errors(folder):
    target = Target("values", ("price",))
    tally = Tally(experiment(target=target, metric="mae"), folder)
    for arm, said in (("champion", [10.0, 20.0]), ("candidate", [11.0, 20.0])):
        ids = [f"{arm}{row}" for row in range(2)]
        tally.take([replace(answered(arm, ids, ["no", "no"]), answers=pa.table({"prediction": said})), outcomes(ids, [10.0, 21.0])])
    value = found(tally)["arms"]
    assert (value["champion"]["value"]["value"], value["candidate"]["value"]["value"]) == (0.5, 1.0)


def test_an_answer_that_is_no_number_costs_itself_alone_and_is_a_failure(folder):
    tally = Tally(experiment(target=Target("values", ("price",)), metric="mse"), folder)
    said = pa.table({"prediction": [math.nan, 11.0, 12.0, math.inf]})
    entry = replace(answered("candidate", list("abcd"), ["no"] * 4), answers=said)
    for _ in range(2):  # what is read again counts once
        tally.take([entry, outcomes(list("abcd"), [10.0, 10.0, 1e200, 10.0])])
    value = found(tally)["arms"]["candidate"]
    assert (value["rows"], value["failed_rows"]) == (4, 2)
    assert (value["outcomes"], value["outcomes_without_a_value"], value["value"]["value"]) == (1, 3, 1.0)
    tally.close()
    assert Tally(tally.experiment, folder).counts.arms[1].told.unmeasured == 3


def test_of_several_requests_with_one_id_the_first_counts_whatever_comes_with_them(folder):
    tally = Tally(experiment(), folder)
    first = answered("champion", ["a"], ["yes"], keys=[1], seconds=0.01)
    tally.take([first, answered("champion", ["a"], ["no"], keys=[2], seconds=50.0, version="v2")])
    value = found(tally)["arms"]["champion"]
    assert (value["rows"], value["failed_rows"], value["seconds"]["p50"]) == (1, 0, pytest.approx(0.01, rel=0.1))
    tally.take([answered("champion", ["b"], ["yes"], keys=[1])])
    assert found(tally)["arms"]["champion"]["keys"] == 1


def test_a_shadow_is_compared_row_by_row_with_the_champion(folder):
    random = np.random.default_rng(2)
    tally = Tally(experiment(role="shadow"), folder)
    ids = [f"r{row}" for row in range(600)]
    labels = random.choice(["no", "yes"], 600)
    wrong = random.random(600) < 0.2
    champion = np.where(wrong, np.where(labels == "yes", "no", "yes"), labels)
    shadow = np.where(wrong & (np.arange(600) % 2 == 0), labels, champion)  # puts half of the mistakes right, makes no others
    keys = random.integers(0, 2**40, 600)
    tally.take([answered("champion", ids, champion, keys=keys), outcomes(ids[:400], labels[:400].tolist())])
    tally.take([answered("candidate", ids[:500], shadow[:500], keys=keys[:500], share=0.8)])
    tally.take([outcomes(ids[400:], labels[400:].tolist())])
    value = found(tally)
    told = value["arms"]["candidate"]["shadow"]
    agree = champion[:500] == shadow[:500]
    assert (told["compared"], told["agreement"]) == (500, agree.mean())
    assert told["distance"] == pytest.approx(np.where(agree, 0.1, 0.7).mean(), abs=1e-5)
    compared = value["comparisons"]["candidate"]
    assert compared["outcomes"] == {"champion": 500, "candidate": 500}  # pairs only
    assert compared["difference"]["value"] == pytest.approx((shadow[:500] == labels[:500]).mean() - (champion[:500] == labels[:500]).mean())
    assert compared["state"] == "better"
    assert value["arms"]["champion"]["outcomes"] == 600
    assert value["sample_ratio"]["keys"] == {"champion": 600, "candidate": 0}


def unanswered(ids, reason, *, arm="candidate"):
    return Unanswered("shop", "v2", arm, time.time(), ids, [str(Ticket("e1", 0, 7))] * len(ids), reason)


def test_rows_that_a_shadow_did_not_answer_are_its_failures(folder):
    tally = Tally(experiment(role="shadow"), folder)
    entries = [
        answered("champion", list("abcdefg"), ["yes"] * 7),
        answered("candidate", ["a"], ["yes"]),
        unanswered(["b", "c"], "failed"),
        unanswered(["d"], "late"),
        unanswered(["e"], "resting"),
        unanswered(["f"], "busy"),
        unanswered(["g"], "unreadable"),
        replace(unanswered(["g"], "failed"), keys=[str(Ticket("another", 0, 7))]),
    ]
    for _ in range(2):
        tally.take(entries)
    tally.close()
    again = Tally(experiment(role="shadow"), folder)
    again.take(entries)
    value = found(again)["arms"]["candidate"]
    assert (value["rows"], value["requests"], value["failed_rows"]) == (6, 5, 5)
    assert value["shadow"]["lost"] == {"failed": 2, "late": 1, "resting": 1, "busy": 1, "unreadable": 1}
    assert again.counts.arms[1].told.failures == 4


def test_a_shadow_that_had_no_room_has_not_failed(folder):
    tally = Tally(experiment(role="shadow"), folder)
    tally.take([answered("candidate", ["a"], ["yes"]), unanswered(["b"], "busy"), unanswered(["c"], "closed")])
    value = found(tally)["arms"]["candidate"]
    assert (value["rows"], value["failed_rows"], value["shadow"]["lost"]) == (1, 0, {"busy": 1, "closed": 1})


def test_a_shadow_that_becomes_a_challenger_goes_on(folder):
    random = np.random.default_rng(3)
    shadow = experiment(role="shadow")
    tally = Tally(shadow, folder)
    pair = stream(random, 200, 0.8, "champion")
    tally.take([*pair, replace(pair[0], arm="candidate", version="v2")])
    tally.follow(shadow.with_share("candidate", 0.5, at=1.0))
    tally.take([*stream(random, 300, 0.8, "champion", start=200, phase=1), *stream(random, 300, 0.8, "candidate", start=200, phase=1)])
    value = found(tally)
    assert value["comparisons"]["candidate"]["outcomes"] == {"champion": 500, "candidate": 500}
    assert value["sample_ratio"]["keys"]["candidate"] == 300


def test_an_early_experiment_says_so(folder):
    tally = Tally(experiment(min_outcomes=100, share=0.8), folder)
    random = np.random.default_rng(4)
    tally.take([*stream(random, 99, 0.5, "champion"), *stream(random, 400, 0.99, "candidate")])
    assert found(tally)["comparisons"]["candidate"]["state"] == "early"
    tally.take([*stream(random, 1, 0.5, "champion", start=99)])
    assert found(tally)["comparisons"]["candidate"]["state"] == "better"


def test_no_difference_names_the_outcomes_that_are_still_needed(folder):
    random = np.random.default_rng(5)
    tally = Tally(experiment(min_effect=0.05), folder)
    tally.take([*stream(random, 400, 0.85, "champion"), *stream(random, 400, 0.85, "candidate")])
    value = found(tally)["comparisons"]["candidate"]
    assert value["state"] == "undecided"
    assert 1_000 < value["more_outcomes"] < 10_000
    assert "no difference yet" in value["verdict"]
    assert f"about {value['more_outcomes']:,} more outcomes to see one of 0.05" in value["verdict"]


def test_a_wrong_sample_ratio_is_said_and_stays_said(folder):
    random = np.random.default_rng(6)
    tally = Tally(experiment(share=0.5), folder)
    tally.take([*stream(random, 3000, 0.5, "champion"), *stream(random, 2400, 0.99, "candidate")])
    value = found(tally)
    assert value["sample_ratio"]["off"]
    assert value["comparisons"]["candidate"]["state"] == "untrusted"
    assert "the sample ratio is off" in value["verdict"]
    assert "do not trust" in value["verdict"]
    tally.take([*stream(random, 600, 0.99, "candidate", start=2400)])
    tally.close()
    assert found(Tally(experiment(share=0.5), folder))["sample_ratio"]["off"]


def test_keys_count_where_they_were_met_first_and_in_their_own_phase(folder):
    tally = Tally(experiment(share=0.1), folder)
    keys = np.arange(1, 401)
    tally.take([answered("champion", [f"a{key}" for key in keys], ["yes"] * 400, keys=keys)])
    tally.follow(tally.experiment.with_share("candidate", 0.5, at=1.0))
    again = np.arange(1, 201)  # they have the challenger now
    tally.take([answered("candidate", [f"b{key}" for key in again], ["yes"] * 200, keys=again, phase=1)])
    value = found(tally)["sample_ratio"]
    assert value["keys"] == {"champion": 400, "candidate": 0}
    assert value["expected"] == {"champion": 360.0, "candidate": 40.0}


def test_more_keys_than_are_known_one_by_one_are_estimated(folder):
    tally = Tally(experiment(), folder, most_keys=500)
    random = np.random.default_rng(7)
    for start in range(0, 6000, 1000):
        tally.take([stream(random, 500, 0.5, "champion", start=start)[0], stream(random, 500, 0.5, "candidate", start=start)[0]])
    value = found(tally)
    assert sum(tally.counts.keys.values()) <= 500
    assert not value["arms"]["champion"]["keys_exact"]
    assert value["arms"]["champion"]["keys"] + value["arms"]["candidate"]["keys"] == pytest.approx(6000, rel=0.2)
    assert not value["sample_ratio"]["off"]


def test_old_answers_are_forgotten(folder):
    ledger = Ledger(folder / "one.db")
    tally = Tally(experiment(), folder)
    tally.take([answered("champion", [f"a{row}" for row in range(100)], ["yes"] * 100)])
    with tally._ledger.transaction():
        assert tally._ledger.forget(kept=10) == 90
    tally.take([outcomes([f"a{row}" for row in range(100)], ["yes"] * 100)])
    assert found(tally)["arms"]["champion"]["outcomes"] == 10
    ledger.close()


def test_other_experiments_and_other_models_are_none_of_its_business(folder):
    tally = Tally(experiment(), folder)
    tally.take([answered("champion", ["a"], ["yes"], name="e0"), replace(answered("champion", ["b"], ["yes"]), arm=None)])
    tally.take([replace(answered("champion", ["c"], ["yes"]), arm="stranger")])
    assert found(tally)["arms"]["champion"]["rows"] == 0


def test_rows_that_the_champion_answered_instead_still_belong_to_their_arm(folder):
    tally = Tally(experiment(), folder)
    tally.take([answered("candidate", ["a", "b"], ["yes", "yes"], version="v1"), outcomes(["a", "b"], ["yes", "no"])])
    arm = found(tally)["arms"]["candidate"]
    assert (arm["rows"], arm["failed_rows"], arm["outcomes"]) == (2, 2, 2)


def test_latencies_are_right_within_a_tenth(folder):
    random = np.random.default_rng(8)
    tally = Tally(experiment(), folder)
    seconds = random.lognormal(-4, 0.7, 2000)
    tally.take([answered("champion", [f"a{row}"], ["yes"], keys=[row], seconds=second) for row, second in enumerate(seconds)])
    told = found(tally)["arms"]["champion"]["seconds"]
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert told[name] == pytest.approx(np.quantile(seconds, share), rel=0.1)


class TestGuard:
    """The recorder takes a challenger out that is surely worse than was agreed, and none that is not."""

    @pytest.fixture
    def state(self, tmp_path):
        state = State(tmp_path)
        state.begin({"shop": str(tmp_path)})
        return state

    def begin(self, state, **settings):
        value = experiment(**{"guard": {}, **settings}).to_json()
        state.change("shop", lambda old: replace(old, experiment=value))
        return ExperimentConsumer(state)

    def test_failures(self, state):
        consumer = self.begin(state)
        consumer.take([answered("candidate", [f"a{row}"], ["yes"], keys=[row]) for row in range(40)])
        consumer.tick(1.0)
        assert state.read()["shop"].experimenting
        consumer.take([answered("candidate", [f"b{row}"], ["yes"], keys=[row + 99], version="v1") for row in range(20)])
        consumer.tick(3.0)
        wanted = state.read()["shop"]
        assert not wanted.experimenting
        assert "failed 20 of 60 requests" in wanted.experiment["outcome"]
        (line,) = history(state.folder, "shop")
        assert (line["who"], line["what"], line["old"]) == ("guard", "stop", "candidate")
        consumer.close()

    def test_latency(self, state):
        consumer = self.begin(state)
        random = np.random.default_rng(0)
        consumer.take(
            [answered("champion", [f"a{row}"], ["yes"], keys=[row], seconds=s) for row, s in enumerate(random.uniform(0.01, 0.02, 700))]
        )
        consumer.take(
            [answered("candidate", [f"b{row}"], ["yes"], keys=[row], seconds=s) for row, s in enumerate(random.uniform(0.01, 0.03, 300))]
        )
        consumer.tick(1.0)
        assert state.read()["shop"].experimenting
        consumer.take([answered("candidate", [f"c{row}"], ["yes"], keys=[row], seconds=0.2) for row in range(30)])
        consumer.tick(3.0)
        assert "p99" in state.read()["shop"].experiment["outcome"]
        consumer.close()

    def test_equal_arms_are_seldom_ever_called_slow(self):
        """The champion's p99 is guessed as well, and from few requests often too small."""
        agreed, random = experiment(guard={"latency": 1.01, "failures": None, "metric": None}), np.random.default_rng(5)
        stopped = 0
        for _ in range(100):
            champion, candidate = ArmCounts(), ArmCounts()
            champion.seconds.update(random.lognormal(-4, 1.0, 300))
            looks = []
            for _ in range(10):
                candidate.seconds.update(random.lognormal(-4, 1.0, 600))
                champion.seconds.update(random.lognormal(-4, 1.0, 30))
                looks.append(reason_to_stop(agreed, Counts([champion, candidate])))
            stopped += any(looks)
        assert stopped <= 5

    def test_metric(self, state):
        consumer = self.begin(state)
        random = np.random.default_rng(0)
        consumer.take([*stream(random, 700, 0.9, "champion"), *stream(random, 700, 0.9, "candidate")])
        consumer.tick(1.0)
        assert state.read()["shop"].experimenting
        consumer.take([*stream(random, 2000, 0.9, "champion", start=700), *stream(random, 2000, 0.7, "candidate", start=700)])
        consumer.tick(3.0)
        assert "accuracy is worse by" in state.read()["shop"].experiment["outcome"]
        consumer.close()

    def test_one_of_several_arms_is_left_without_a_share(self, state):
        consumer = self.begin(state, arms=("candidate", "second"), share=0.3)
        consumer.take([answered("candidate", [f"b{row}"], ["yes"], keys=[row], version="v1") for row in range(30)])
        consumer.tick(3.0)
        wanted = state.read()["shop"]
        assert wanted.experimenting
        assert [arm["share"] for arm in wanted.experiment["arms"]] == [0.0, 0.0, 0.3]
        consumer.close()

    def test_without_a_guard_nothing_is_stopped(self, state):
        consumer = self.begin(state, guard=None)
        consumer.take([answered("candidate", [f"b{row}"], ["yes"], keys=[row], version="v1") for row in range(60)])
        consumer.tick(3.0)
        assert state.read()["shop"].experimenting
        consumer.close()


def test_the_consumer_follows_experiments_as_they_begin_and_end(tmp_path):
    state = State(tmp_path)
    state.begin({"shop": str(tmp_path)})
    consumer = ExperimentConsumer(state)
    consumer.take([answered("champion", ["a"], ["yes"])])
    consumer.tick(0.0)
    assert not (tmp_path / "experiments" / "shop" / "status.json").exists()
    first = experiment()
    state.change("shop", lambda old: replace(old, experiment=first.to_json()))
    consumer.take([answered("champion", ["a"], ["yes"])])
    consumer.tick(5.0)
    status = tmp_path / "experiments" / "shop" / "status.json"
    assert json.loads(status.read_text())["arms"]["champion"]["rows"] == 1
    second = replace(first, id="e2")
    state.change("shop", lambda old: replace(old, experiment=second.to_json()))
    consumer.take([answered("champion", ["a"], ["yes"], name="e2"), answered("champion", ["b"], ["yes"])])
    consumer.tick(10.0)
    value = json.loads(status.read_text())
    assert (value["experiment"], value["arms"]["champion"]["rows"]) == ("e2", 1)
    assert json.loads((status.parent / "e1.json").read_text())["arms"]["champion"]["rows"] == 1
    consumer.close()


@pytest.fixture
def two_experiments(tmp_path):
    state = State(tmp_path)
    state.begin({"shop": str(tmp_path), "zoo": str(tmp_path)})
    for name in ("shop", "zoo"):
        state.change(name, lambda old, name=name: replace(old, experiment=replace(experiment(), id=f"of-{name}", model=name).to_json()))
    consumer = ExperimentConsumer(state)
    yield consumer
    consumer.close()


def entry_of(model):
    return replace(answered("champion", ["a"], ["yes"], name=f"of-{model}"), model=model)


@pytest.mark.parametrize("error", [RunError("the disk is full"), ValueError("what is this")])
def test_an_experiment_that_cannot_take_its_entries_keeps_none_from_others(two_experiments, monkeypatch, error):
    consumer, take = two_experiments, Tally.take

    def broken(self, entries):
        if self.experiment.model == "shop":
            raise error
        take(self, entries)

    monkeypatch.setattr(Tally, "take", broken)
    with pytest.raises(type(error), match=str(error)):
        consumer.take([entry_of("shop"), entry_of("zoo")])
    assert consumer._tallies["zoo"].counts.arms[0].told.rows == 1


def test_an_error_that_goes_by_is_told_before_a_defect(two_experiments, monkeypatch):
    errors = {"shop": ValueError("what is this"), "zoo": RunError("the disk is full")}

    def broken(self, _):
        raise errors[self.experiment.model]

    monkeypatch.setattr(Tally, "take", broken)
    with pytest.raises(RunError, match="disk is full"):
        two_experiments.take([])


def test_a_book_that_cannot_be_opened_is_tried_again(tmp_path, monkeypatch):
    state = State(tmp_path)
    state.begin({"shop": str(tmp_path)})
    state.change("shop", lambda old: replace(old, experiment=experiment().to_json()))
    consumer = ExperimentConsumer(state)

    def away(*_, **__):
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", away)
        with pytest.raises(RunError, match="unable to open database file"):
            consumer.take([answered("champion", ["a"], ["yes"])])
    consumer.take([answered("champion", ["a"], ["yes"])])
    assert consumer._tallies["shop"].counts.arms[0].told.rows == 1
    consumer.close()


def test_results_come_also_after_the_clock_was_set_back(folder):
    tally = Tally(experiment(), folder)
    tally.take([answered("champion", ["a"], ["yes"])])
    tally.write(10_000.0)
    tally.take([answered("champion", ["b"], ["yes"])])
    assert not tally.is_due(10_000.5)
    tally.write(5_000.0)
    assert json.loads((folder / "status.json").read_text())["arms"]["champion"]["rows"] == 2


def test_a_guard_stops_an_arm_also_where_results_cannot_be_written(tmp_path, monkeypatch):
    state = State(tmp_path)
    state.begin({"shop": str(tmp_path)})
    state.change("shop", lambda old: replace(old, experiment=experiment(guard={}).to_json()))
    consumer = ExperimentConsumer(state)
    consumer.take([answered("candidate", [f"b{row}"], ["yes"], keys=[row], version="v1") for row in range(60)])

    def full(*_, **__):
        raise RunError("the disk is full")

    monkeypatch.setattr("deepseek.serving.experiments.tally.write_text", full)
    with pytest.raises(RunError):
        consumer.tick(3.0)
    assert not state.read()["shop"].experimenting
    monkeypatch.undo()
    consumer.tick(4.0)  # nothing new has come, and what could not be written is
    assert (tmp_path / "experiments" / "shop" / "status.json").is_file()
    consumer.close()


def test_a_line_of_the_log_that_was_cut_off_hides_no_other(tmp_path):
    note(tmp_path, "shop", who="a", what="begin", old=None, new="e1")
    with (folder_of(tmp_path, "shop") / "log.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    note(tmp_path, "shop", who="a", what="stop", old=None, new="e1")
    note(tmp_path, "shop", who="a", what="load", old=None, new="e1")
    assert [one["what"] for one in history(tmp_path, "shop")] == ["begin", "unreadable", "load"]


def test_two_arms_of_one_bundle_are_called_an_aa_test(folder):
    made = experiment()
    same = replace(made, arms=(made.arms[0], replace(made.arms[1], version="v1")))
    random = np.random.default_rng(9)
    tally = Tally(same, folder)
    candidate, told = stream(random, 400, 0.9, "candidate")
    tally.take([*stream(random, 400, 0.9, "champion"), replace(candidate, version="v1"), told])
    value = found(tally)
    assert value["comparisons"]["candidate"]["state"] == "undecided"
    assert "A/A test" in value["verdict"]
    assert value["arms"]["candidate"]["failed_rows"] == 0

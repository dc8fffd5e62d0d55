import json
import subprocess
import sys

import numpy as np
import pytest

from deepseek.errors import MissingExtraError
from deepseek.progress import collected_warnings
from deepseek.registry import family
from deepseek.search import Float, Integer, Study, parse_space
from deepseek.search.hybrid import HybridSearch, neighbours
from deepseek.search.searches import GridSearch

pytest.importorskip("optuna")

SPACE = {"x": (-1.0, 1.0), "rate": (1e-5, 1e-1), "layers": (1, 4), "shape": ["bowl", [1, 2], None]}
SEARCHES = [
    "random",
    {"type": "grid", "points": 2},
    {"type": "tpe", "startup": 3},
    {"type": "hybrid", "seed_share": 0.3, "local_share": 0.3},
    {"type": "gp", "startup": 9},
]


def bowl(trial):
    point = trial.parameters
    return (point["x"] - 0.3) ** 2 + point["layers"] / 10 + (point["shape"] != [1, 2])


def points(study):
    return [record.parameters for record in study.trials if record.state == "complete"]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search if isinstance(search, str) else search["type"])
class TestEverySearch:
    def test_it_is_a_function_of_the_seed(self, search):
        def run(seed):
            study = Study(SPACE, trials=10, search=search, seed=seed)
            study.run(bowl)
            return points(study)

        with collected_warnings():
            assert run(0) == run(0)
            if search != {"type": "grid", "points": 2}:
                assert run(0) != run(1)

    def test_an_interrupted_study_goes_on_as_it_would_have(self, search):
        def interrupted(trial):
            if trial.number == 7:
                raise KeyboardInterrupt
            return bowl(trial)

        with collected_warnings():
            whole, study = (Study(SPACE, trials=12, search=search) for _ in range(2))
        whole.run(bowl)
        with pytest.raises(KeyboardInterrupt):
            study.run(interrupted)
        study.run(bowl)
        assert [record.state for record in study.trials] == ["complete"] * 7 + ["lost"] + ["complete"] * 5
        assert points(study) == points(whole)

    def test_points_lie_in_the_space(self, search):
        with collected_warnings():
            study = Study(SPACE, trials=10, search=search)
            study.run(bowl)
        space = parse_space(SPACE)
        for point in points(study):
            assert all(-1e-9 <= place <= 1 + 1e-9 for place in space.places(point))
            assert json.dumps(point)


def test_bayes_is_better_than_chance():
    def best(search):
        studies = [Study(SPACE, trials=40, search=search, seed=seed) for seed in range(4)]
        return sum(study.run(bowl).value for study in studies)

    assert best("tpe") < 0.8 * best("random")


def test_gp_refines_a_smooth_bowl():
    study = Study({"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, trials=9, search={"type": "gp", "startup": 5, "deterministic": True})
    best = study.run(lambda trial: (trial.parameters["x"] - 0.3) ** 2 + (trial.parameters["y"] + 0.2) ** 2)
    assert best.number >= 5
    assert best.value < 0.01


def test_a_grid_that_fits_is_tried_whole():
    study = Study({"x": (0.0, 1.0), "k": ["a", "b"]}, trials=6, search="grid")
    study.run(lambda trial: 0.0)
    assert sorted((point["x"], point["k"]) for point in points(study)) == [(x, k) for x in (0.0, 0.5, 1.0) for k in "ab"]


def test_a_grid_larger_than_the_budget_warns_and_covers_every_level_evenly():
    space = parse_space(dict.fromkeys("abcd", (0.0, 1.0)))
    with collected_warnings() as said:
        Study(space, trials=27, search="grid")
    assert "81 points and the study 27 trials" in said[0]
    tried = [GridSearch().point(space, ordinal) for ordinal in range(27)]
    assert len({tuple(point.values()) for point in tried}) == 27
    for name in space:
        counts = [sum(point[name] == level for point in tried) for level in (0.0, 0.5, 1.0)]
        assert max(counts) - min(counts) <= 2


def test_a_grid_whose_budget_is_raised_goes_on_to_the_points_that_are_left(tmp_path):
    space = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    for trials in (5, 9):  # fewer than the grid's nine points, then all of them
        with collected_warnings(), Study(space, trials=trials, search="grid", storage=tmp_path / "s.db") as study:
            study.run(lambda trial: 0.0)
            tried = points(study)
    assert len({tuple(point.values()) for point in tried}) == len(tried) == 9


def test_a_failed_trial_keeps_its_point_of_the_grid():
    def fails_once(trial):
        if trial.number == 1:
            raise ValueError("no")
        return 0.0

    study = Study({"x": (0.0, 1.0)}, trials=3, search="grid")
    study.run(fails_once)
    assert [record.parameters["x"] for record in study.trials] == [0.0, 1.0, 0.5]


class TestHybrid:
    def test_phases_are_shares_of_the_trials(self):
        assert HybridSearch().phases(50) == (5, 40)
        assert HybridSearch(seed_share=0.0, local_share=0.0).phases(10) == (1, 10)
        assert HybridSearch(seed_share=1.0, local_share=1.0).phases(10) == (10, 10)

    def test_seeds_show_every_level_equally_often(self):
        space = parse_space({"x": (0.0, 1.0), "y": (0.0, 1.0), "k": ["a", "b"]})
        study = Study(space, trials=10, search={"type": "hybrid", "seed_share": 0.6, "local_share": 0.0})
        study.run(lambda trial: 0.0)
        seeds = points(study)[:6]
        for name, levels in (("x", [1 / 6, 0.5, 5 / 6]), ("y", [1 / 6, 0.5, 5 / 6]), ("k", ["a", "b"])):
            seen = [point[name] for point in seeds]
            assert [sum(value == pytest.approx(level) for value in seen) for level in levels] == [6 // len(levels)] * len(levels)

    def test_the_last_trials_change_the_best_point_in_one_dimension(self):
        study = Study(SPACE, trials=20, search={"type": "hybrid", "local_share": 0.5})
        study.run(bowl)
        for index in range(10, 20):
            rows = study.trials[:index]
            centre = min(rows, key=lambda record: record.value).parameters
            changed = [name for name in SPACE if study.trials[index].parameters[name] != centre[name]]
            assert len(changed) == 1
            assert study.trials[index].parameters not in [record.parameters for record in rows]

    def test_the_fine_grid_grows_finer_when_all_of_it_was_tried(self):
        space, search = parse_space({"x": (0.0, 1.0)}), HybridSearch(reach=0.2)
        rows = [({"x": 0.5}, 0.0)]
        for _ in range(6):
            rows.append((search.local_point(space, rows, np.random.default_rng(0), sign=1), 1.0))
        assert [round(abs(point["x"] - 0.5), 6) for point, _ in rows] == [0.0, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05]

    def test_neighbours_of_whole_numbers_are_the_next_ones(self):
        space = parse_space({"n": (1, 3)})
        assert [point["n"] for point in neighbours(space, {"n": 2}, 0.01)] == [1, 3]
        assert [point["n"] for point in neighbours(space, {"n": 1}, 0.01)] == [2]

    def test_it_maximizes_as_well(self):
        study = Study({"x": (-1.0, 1.0)}, trials=20, direction="maximize", search="hybrid")
        assert study.run(lambda trial: -((trial.parameters["x"] - 0.3) ** 2)).value > -0.01

    def test_a_study_whose_every_trial_failed_falls_back_to_chance(self):
        def never(trial):
            raise ValueError("no")

        study = Study({"x": (-1.0, 1.0)}, trials=10, search={"type": "hybrid", "bayes": "tpe"})
        with pytest.raises(Exception, match="failed one after the other"):
            study.run(never)
        assert len({record.parameters["x"] for record in study.trials}) == 10


def test_without_optuna_the_install_line_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in family("search").names():
        with pytest.raises(MissingExtraError, match=r"'optuna'.*not installed"):
            family("search").build(name).sampler(parse_space(SPACE), seed=0, trials=100)
    with pytest.raises(MissingExtraError, match=r"deepseek-framework\[tune\]"):
        Study(SPACE, trials=1)


def test_gp_without_scipy_shows_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match="'scipy'"):
        family("search").build("gp").optuna_sampler(0)


def test_searching_loads_optuna_only_when_a_study_is_opened():
    program = "import sys, deepseek.search as s; s.parse_space({'x': (0.0, 1.0)}); print('optuna' in sys.modules, 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split() == ["False", "False"]


def test_single_values_are_no_dimension_to_learn():
    study = Study({"x": Float(0, 1), "n": Integer(1, 2), "one": ["only"]}, trials=14, search={"type": "tpe", "startup": 3})
    assert study.run(lambda trial: trial.parameters["x"]).parameters["one"] == "only"
    assert study.importance()["x"] > 0.5

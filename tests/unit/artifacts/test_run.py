from concurrent.futures import ThreadPoolExecutor

import pytest

from deepseek.artifacts import RunFolder
from deepseek.errors import BundleError


def test_runs_are_numbered_and_never_shared(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunFolder.create(tmp_path, "churn"), range(24)))
    assert sorted(run.path.name for run in runs) == [f"{number:03d}" for number in range(1, 25)]


def test_a_run_is_found_by_its_folder_its_name_or_its_bundle(tmp_path):
    for _ in range(2):
        run = RunFolder.create(tmp_path, "churn")
        run.recipe.write_text("name: churn\n")
        run.bundle.mkdir()
    unfinished = RunFolder.create(tmp_path, "churn")
    assert RunFolder.open(tmp_path / "churn") == run
    assert RunFolder.open(run.path) == run
    assert RunFolder.open(run.bundle) == run
    with pytest.raises(BundleError, match="is no run"):
        RunFolder.open(unfinished.path)

"""A search whose study is in a real database, and whose password is in no file of it."""

import re
from pathlib import Path

import numpy as np
import pytest

import deepseek

pytest.importorskip("optuna")


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_search_keeps_its_study_in_a_database_and_its_password_to_itself(server, request, tmp_path, monkeypatch, capfd):
    url = request.getfixturevalue(server)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNER_PASSWORD", "secret-word")
    x = np.random.default_rng(0).normal(size=(120, 2)).round(4)
    Path("points.csv").write_text("\n".join(["a,b,y", *(f"{a},{b},{'yes' if a > b else 'no'}" for a, b in x)]) + "\n")
    recipe = {
        "data": {"source": "points.csv", "target": "y"},
        "model": "mlp",
        "train": {"epochs": 2, "precision": "fp32"},
        "tune": {
            "trials": 2,
            "storage": url.replace("secret-word", "${ENV:TUNER_PASSWORD}"),
            "over": {"train.learning_rate": [0.001, 0.1]},
        },
    }
    short = deepseek.tune(recipe)
    result = deepseek.tune(short.folder, resume=True, trials=3)
    assert [row.state for row in result.facts.trials] == ["complete"] * 3
    assert not (result.folder / "study.db").exists()
    monkeypatch.setenv("TUNER_PASSWORD", "secret-wort")
    unreachable = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", str(recipe["tune"]["storage"]))
    with pytest.raises(deepseek.errors.InputError) as refused:
        deepseek.tune({**recipe, "tune": {**recipe["tune"], "storage": unreachable}})
    told = "".join(capfd.readouterr()) + str(refused.value) + str(refused.value.hint)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "secret-wor" not in told
    assert not any(b"secret-wor" in content for content in written)

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deepseek
from deepseek import DeepSeekClassifier, DeepSeekRegressor, progress
from deepseek.errors import BundleError, InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FEW = {"model": "mlp", "random_state": 0, "overrides": {"train.max_steps": 4}}


def blobs(rows=60, columns=3):
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, columns))
    return x, x[:, 0] > 0


def frame(rows=80):
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "plan": pd.Categorical(random.choice(list("abc"), rows)),
            "joined": pd.date_range("2024-01-01", periods=rows),
            "city": random.choice(["Rome", "Oslo"], rows),
            "age": np.where(random.random(rows) < 0.1, np.nan, random.normal(40, 9, rows)),
        },
        index=range(500, 500 + rows),
    )
    return table, pd.Series(np.where(table.city == "Oslo", "yes", "no"), index=table.index, name="churned")


def test_it_learns_and_keeps_the_classes_as_given():
    x, y = blobs(200)
    for given in (y, y.astype(int) * 7, np.where(y, "yes", "no"), np.where(y, 2.0, 1.0)):
        model = DeepSeekClassifier(random_state=0).fit(x, given)
        assert model.predict(x).dtype == given.dtype
        assert model.classes_.tolist() == sorted(set(given.tolist()))
        assert model.score(x, given) > 0.9
        assert np.allclose(model.predict_proba(x).sum(axis=1), 1, atol=1e-12)


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others():
    x, y = blobs()
    one, again, other = (DeepSeekClassifier(**{**FEW, "random_state": seed}).fit(x, y).predict_proba(x) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    states = [DeepSeekClassifier(**{**FEW, "random_state": np.random.RandomState(3)}).fit(x, y).predict_proba(x) for _ in range(2)]
    assert np.array_equal(*states)


def test_frames_of_every_kind_give_the_same_answers():
    x, y = frame()
    model = DeepSeekClassifier(**FEW).fit(x, y)
    assert model.feature_names_in_.tolist() == ["plan", "joined", "city", "age"]
    expected = model.predict_proba(x)
    table = pa.Table.from_pandas(x, preserve_index=False)
    for same in (pl.from_arrow(table), table, table.select(["age", "city", "joined", "plan"]), Dataset(table), table.to_pylist()):
        assert np.array_equal(model.predict_proba(same), expected)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(x[["age", "city", "joined", "plan"]])
    with pytest.raises(ValueError, match="lacks 'plan'"):
        model.predict(table.drop_columns(["plan"]))


def test_columns_are_what_they_are_said_to_be():
    random = np.random.default_rng(0)
    x = np.column_stack([random.integers(0, 3, 90), random.normal(size=90)])
    y = x[:, 0] == 1
    for given in ([0], ["x0"], [-2], [True, False], np.array([True, False])):
        schema = DeepSeekClassifier(categorical_features=given, **FEW).fit(x, y)._predictor.schema
        assert [schema[name].kind.value for name in ("x0", "x1")] == ["category", "number"]
    assert DeepSeekClassifier(**FEW).fit(x, y)._predictor.schema["x0"].kind.value == "number"
    for wrong, said in (([2], "column 2 of 2"), ([True], "1 booleans for 2 columns")):
        with pytest.raises(ValueError, match=said):
            DeepSeekClassifier(categorical_features=wrong, **FEW).fit(x, y)
    named = DeepSeekClassifier(fields={"x1": "category"}, **FEW).fit(x, y)
    assert named._predictor.schema["x1"].kind.value == "category"


def test_objects_and_texts_in_arrays():
    x = np.array([[1, "a"], [2, "b"], [3, None], [4, "c"]] * 10, dtype=object)
    model = DeepSeekClassifier(**FEW).fit(x, [0, 1, 0, 1] * 10)
    assert [model._predictor.schema[name].kind.value for name in ("x0", "x1")] == ["number", "category"]
    assert len(model.predict([[1, "a"], [2, "new"]])) == 2
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        DeepSeekClassifier(**FEW).fit(sparse.dok_array(np.eye(4)), [0, 1, 0, 1])


@pytest.mark.parametrize("kind", [object, str])
def test_texts_in_arrays_are_read_alike_whatever_rows_stand_beside_them(kind):
    codes = np.array(["01", "1", "1.50", "a"], dtype=object)[np.arange(120) % 4]
    x = np.column_stack([codes, np.linspace(0, 1, 120)]).astype(kind)
    model = DeepSeekClassifier(model="mlp", random_state=0, epochs=8, learning_rate=0.01).fit(x, codes == "01")
    together = model.predict_proba(x[:8])
    assert np.abs(together[0] - together[1]).max() > 0.5  # it has learned to tell them apart
    alone = np.concatenate([model.predict_proba(x[row : row + 1]) for row in range(8)])
    assert np.allclose(alone, together, atol=1e-6)


def test_numbers_among_texts_are_spelled_alike_in_every_type():
    codes = np.array([1, 2.0, True, "a"], dtype=object)[np.arange(80) % 4]
    x = np.column_stack([codes, np.linspace(0, 1, 80)]).astype(object)
    model = DeepSeekClassifier(**FEW).fit(x, np.arange(80) % 2)
    wanted = model.predict_proba(x[:3])
    for one, other in ((["1", "2", "true"], object), ([1.0, 2, True], object)):
        again = np.column_stack([np.array(one, dtype=object), x[:3, 1]]).astype(other)
        assert np.array_equal(model.predict_proba(again), wanted)


def test_infinity_is_refused_in_tables_of_every_kind():
    x, y = blobs()
    model = DeepSeekClassifier(**FEW).fit(x, y)
    named = DeepSeekClassifier(**FEW).fit(pd.DataFrame(x, columns=["a", "b", "c"]), y)
    x[7, 1] = np.inf
    for wrong in (x, x.astype(object), x.astype(np.float32)):
        with pytest.raises(ValueError, match="infinity"):
            model.predict(wrong)
    table = pd.DataFrame(x, columns=["a", "b", "c"])
    for wrong in (table, pl.from_pandas(table), pa.Table.from_pandas(table), table.to_dict("records")):
        with pytest.raises(ValueError, match="infinity in the column 'b', row 7"):
            named.predict(wrong)
        with pytest.raises(ValueError, match="infinity in the column 'b', row 7"):
            DeepSeekClassifier(**FEW).fit(wrong, y)


def test_a_row_of_weight_zero_is_as_good_as_absent():
    x, y = blobs()
    weights = np.tile([0.0, 1.0, 2.0], 20)
    weighed = DeepSeekClassifier(**FEW).fit(x, y, sample_weight=weights).predict_proba(x)
    kept = weights > 0
    absent = DeepSeekClassifier(**FEW).fit(x[kept], y[kept], sample_weight=weights[kept]).predict_proba(x)
    assert np.array_equal(weighed, absent)
    assert not np.array_equal(weighed, DeepSeekClassifier(**FEW).fit(x[kept], y[kept]).predict_proba(x))


def test_class_weights_by_class_whatever_its_type():
    x, y = blobs()
    for given, heavy in ((y, True), (y.astype(int), 1), (np.where(y, "p", "n"), "p")):
        plain = DeepSeekClassifier(model="mlp", random_state=0, epochs=8).fit(x, given)
        model = clone(plain).set_params(class_weight={heavy: 50.0}).fit(x, given)
        assert model.predict_proba(x)[:, 1].mean() > plain.predict_proba(x)[:, 1].mean()


def test_few_rows_are_all_trained_on_and_many_are_validated():
    few, many = (DeepSeekClassifier(**FEW).fit(*blobs(rows)).run_.metrics["validation"] for rows in (100, 200))
    assert few is None
    assert many is not None
    assert DeepSeekClassifier(validation_fraction=0, **FEW).fit(*blobs(200)).run_.metrics["validation"] is None


def test_a_fit_that_fails_leaves_nothing_of_the_one_before(tmp_path):
    x, y = blobs()
    model = DeepSeekClassifier(**FEW).fit(x, y)
    place = model.run_.bundle
    for wrong in ({"learning_rate": -1.0}, {"model": "no_such"}):
        with pytest.raises(ValueError, match=r"learning_rate|no_such"):
            clone(model).set_params(**wrong).fit(x, y)
        model.fit(x, y).set_params(**wrong)
        with pytest.raises(ValueError, match=r"learning_rate|no_such"):
            model.fit(x, np.where(y, "b", "c"))
        with pytest.raises(NotFittedError):
            model.predict(x)
        with pytest.raises(NotFittedError):
            pickle.loads(pickle.dumps(model)).predict(x)
        model.set_params(learning_rate=None, model="mlp")
    assert not place.exists()


def test_it_survives_pickling_and_its_files_are_verified(tmp_path):
    x, y = blobs()
    model = DeepSeekClassifier(**FEW).fit(x, y)
    joblib.dump(model, tmp_path / "model.joblib")
    expected, folder = model.predict_proba(x), model.run_.run
    del model
    assert not folder.exists()  # the temporary run goes with its estimator
    again = joblib.load(tmp_path / "model.joblib")
    assert np.array_equal(again.predict_proba(x), expected)
    assert np.array_equal(copy.deepcopy(again).predict_proba(x), expected)
    state = again.__getstate__()
    state["_files"]["task.json"] += b" "
    with pytest.raises(BundleError, match=r"task\.json was changed"):
        DeepSeekClassifier().__setstate__(state)


def test_searches_and_pipelines():
    x, y = blobs()
    search = GridSearchCV(DeepSeekClassifier(**FEW), {"learning_rate": [1e-3, 1e-2]}, cv=2).fit(x, y)
    assert search.best_params_["learning_rate"] in {1e-3, 1e-2}
    piped = make_pipeline(StandardScaler(), DeepSeekClassifier(**FEW))
    assert cross_val_score(piped, *frame_of_numbers(), cv=2).shape == (2,)
    assert TransformedTargetRegressor(DeepSeekRegressor(**FEW)).fit(x, x[:, 0]).predict(x).shape == (60,)


def frame_of_numbers():
    x, y = blobs()
    return pd.DataFrame(x, columns=list("abc")), y


def test_numbers_are_learned_one_or_several():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3))
    y = np.column_stack([1000 + 5 * x[:, 0], x[:, 1]])
    assert DeepSeekRegressor(random_state=0).fit(x, y[:, 0]).score(x, y[:, 0]) > 0.9
    several = DeepSeekRegressor(random_state=0).fit(x, pd.DataFrame(y, columns=["price", "size"]))
    assert several.predict(x).shape == (300, 2)
    assert several.score(x, y) > 0.9
    assert "rmse_price" in several.run_.metrics["validation"]


def test_the_recipe_takes_any_other_key():
    x, y = blobs()
    for overrides in ({"train.max_steps": 2, "train.optimizer": {"type": "sgd"}}, ["train.max_steps=2", "train.optimizer={type: sgd}"]):
        model = DeepSeekClassifier(model={"type": "mlp", "width": 8}, random_state=0, overrides=overrides).fit(x, y)
        assert "sgd" in (model.run_.run / "resolved.yaml").read_text()
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        DeepSeekClassifier(overrides={"train.epoch": 2}).fit(x, y)


def test_a_named_folder_keeps_the_run(tmp_path):
    x, y = frame()
    model = DeepSeekClassifier(out=tmp_path, **FEW).fit(x, y)
    assert model.run_.run == tmp_path / "DeepSeekClassifier" / "001"
    answers = deepseek.load(model.run_).predict(x)
    assert answers.prediction.tolist() == model.predict(x).tolist()


def test_what_cannot_be_learned_is_said_plainly():
    x, y = blobs()
    for wrong, message in (
        (lambda: DeepSeekClassifier().fit(x, np.ones(60)), "one class only"),
        (lambda: DeepSeekClassifier().fit(x, y, sample_weight=y.astype(float)), "one class only"),
        (lambda: DeepSeekRegressor().fit(x, np.ones(60)), "nothing to predict"),
        (lambda: DeepSeekClassifier().fit(x[:1], y[:1]), "1 sample"),
        (lambda: DeepSeekClassifier(validation_fraction=1.5).fit(x, y), "validation_fraction is 1.5"),
        (lambda: DeepSeekClassifier().fit(pd.DataFrame({"a": x[:, 0]})["a"], y), "one dimension"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            wrong()
        assert not message.startswith("one") or isinstance(raised.value, InputError)


def test_a_column_that_is_left_out_is_warned_of():
    x, y = frame()
    with pytest.warns(UserWarning, match="'same' is left out"):
        DeepSeekClassifier(**FEW).fit(x.assign(same=1), y)


def test_without_scikit_learn_the_error_says_what_to_install():
    code = """
import sys
sys.modules["sklearn"] = None
import deepseek
try:
    deepseek.DeepSeekClassifier
except deepseek.DeepSeekError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    assert "deepseek-framework[sklearn]" in printed


def test_fits_in_threads_are_those_made_alone_and_leave_the_process_as_it_was():
    x, y = blobs()
    dropping = {**FEW, "model": {"type": "mlp", "dropout": 0.5}}
    alone = DeepSeekClassifier(**dropping).fit(x, y).predict_proba(x)
    assert not progress.is_quiet()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: DeepSeekClassifier(**dropping).fit(x, y).predict_proba(x), range(4)))
    assert all(np.array_equal(alone, one) for one in together)
    assert not progress.is_quiet()
    assert torch.get_deterministic_debug_mode() == 0


def test_targets_of_one_name_stay_two():
    x, y = blobs()
    targets = pd.DataFrame(np.column_stack([x[:, 0], y]), columns=["y", "y"])
    assert DeepSeekRegressor(**FEW).fit(x, targets).predict(x).shape == (60, 2)
    inputs = pd.DataFrame(x, columns=["a", "b", "c"])
    clashing = pd.DataFrame(np.column_stack([x[:, 0], y]), columns=["a", "a_"])  # the first becomes a_, as the second is called
    assert DeepSeekRegressor(**FEW).fit(inputs, clashing).predict(inputs).shape == (60, 2)


def test_texts_of_a_matrix_stay_texts_whatever_else_is_asked_with_them():
    """Alone, `01` could be read as a number; beside `x` it could not, and is a category."""
    codes = np.array(["01", "02", "x"] * 20, dtype=object)
    x = np.column_stack([codes, np.arange(60.0) % 7]).astype(object)
    model = DeepSeekClassifier(**FEW).fit(x, codes == "01")
    together = model.predict_proba(x[:6])
    assert not np.allclose(together[0], together[2])
    for row in range(6):
        np.testing.assert_allclose(model.predict_proba(x[row : row + 1])[0], together[row], atol=1e-6)

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from tests.forecast_tables import asked, recipe, sales

from deepseek.artifacts import StageCache
from deepseek.data.landing import LandedTable
from deepseek.data.loader import Loader
from deepseek.data.unknown_categories import Unknown
from deepseek.data.windows.dataset import WindowDataset
from deepseek.data.windows.making import windows_of
from deepseek.data.windows.preparation import WindowPreparation, carried_forward
from deepseek.data.windows.tables import LatestWindows, window_rows
from deepseek.errors import ColumnError, DataError, RecipeError, RowError
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

CONTEXT, HORIZON = 12, 3


def dataset(folder, table, **changes):
    pa.parquet.write_table(table, folder / "sales.parquet")
    value = recipe(str(folder / "sales.parquet"))
    value["data"] |= changes
    return make_dataset(load_recipe(value, folder=folder), StageCache(folder / "cache"))


def changed(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, table.schema.field(name).type))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("windows"), sales())


def arrays(data, rows):
    batch = data.take(np.asarray(rows))
    return {name: tensor.numpy() for name, tensor in {**batch.inputs, **batch.targets}.items()}


def test_a_batch_holds_the_past_what_is_known_ahead_and_the_future_as_target(made):
    train = made.open("train")
    assert isinstance(train, WindowDataset)
    batch = arrays(train, [0, 5])
    spec = made.preparation().target.spec
    sold = np.asarray(sales()["sold"])
    assert np.allclose(batch["history"][1, :, 0] * spec.std[0] + spec.mean[0], sold[5 : 5 + CONTEXT], atol=1e-4)
    assert np.allclose(batch["target"][1, :, 0] * spec.std[0] + spec.mean[0], sold[5 + CONTEXT : 5 + CONTEXT + HORIZON], atol=1e-4)
    assert batch["known_numbers"].shape == (2, CONTEXT + HORIZON, 1)
    assert batch["observed_numbers"].shape == (2, CONTEXT, 1)
    assert batch["static_categories"].shape == (2, 2)


def test_windows_cost_no_copy_of_their_steps(made):
    """What lies on disk grows with the steps, and by eight bytes a window."""
    steps = sum(path.stat().st_size for path in (made.folder / "steps").glob("array_*.npy"))
    windows = len(made.open("train"))
    assert steps < 2 * 240 * 40 + 8 * 1024
    assert (made.folder / "train" / "starts.npy").stat().st_size < windows * 8 + 256


def test_the_loader_gathers_them_as_any_rows(made):
    train = made.open("train")
    seen = np.concatenate([batch.row.numpy() for batch in Loader(train, batch_size=16, seed=3).batches(0)])
    assert sorted(seen) == list(range(len(train)))


def test_a_window_of_production_is_prepared_as_one_of_training(made):
    """The gathered steps and a row of lists give the same arrays, to the bit."""
    preparation, test = made.preparation(), made.open("test")
    places = np.array([0, 3, len(test) - 1])
    table = LandedTable.open(made.landed["source"])
    rows = window_rows(table.column, test.steps, test.starts[places], preparation=preparation)
    alone, gathered = preparation.apply(rows), arrays(test, places)
    assert set(alone) == set(preparation.inputs)
    for name, array in alone.items():
        assert array.dtype == gathered[name].dtype
        assert np.array_equal(array, gathered[name]), name


def test_a_preparation_comes_back_from_json_the_same(made):
    preparation = made.preparation()
    again = WindowPreparation.from_json(preparation.to_json())
    assert again.inputs == preparation.inputs
    rows = LatestWindows(asked(), preparation).rows(0, 2)
    one, two = preparation.apply(rows), again.apply(rows)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_no_statistic_moves_when_the_test_period_does(made, tmp_path):
    table = sales()
    late = np.asarray(table["time"]) >= np.datetime64("2024-01-08T00")
    shifted = changed(table, "sold", np.asarray(table["sold"]) + 1000 * late)
    shifted = changed(shifted, "price", np.asarray(table["price"]) + 1000 * late)
    shifted = changed(shifted, "visitors", np.asarray(table["visitors"]) + 1000 * late)
    other = dataset(tmp_path, shifted)
    assert other.preparation().to_json() == made.preparation().to_json()


def test_statistics_do_move_with_the_training_period(made, tmp_path):
    table = sales()
    other = dataset(tmp_path, changed(table, "sold", np.asarray(table["sold"]) + 1000))
    assert other.preparation().target.spec.mean != made.preparation().target.spec.mean


@pytest.mark.parametrize(("name", "input_", "moves"), [("visitors", "observed_numbers", False), ("price", "known_numbers", True)])
def test_the_future_of_what_is_observed_is_in_no_batch(made, tmp_path, name, input_, moves):
    """Observed values behind a window's context change nothing of it; known ones do."""
    table, first = sales(), 4
    behind = (np.arange(table.num_rows) >= first + CONTEXT) & (np.asarray(table["shop"]) == "north")
    other = dataset(tmp_path, changed(table, name, np.where(behind, np.asarray(table[name])[::-1], np.asarray(table[name]))))
    before, after = (arrays(one.open("train"), [first])[input_] for one in (made, other))
    assert np.array_equal(before, after) != moves


def test_rows_in_any_order_give_the_same_windows(tmp_path):
    table = sales(shops=("north",))
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    made = []
    for place, one in enumerate((table, mixed)):
        (tmp_path / str(place)).mkdir()
        made.append(arrays(dataset(tmp_path / str(place), one, series=[], static=[]).open("test"), [0, 7]))
    assert all(np.allclose(made[0][name], made[1][name], atol=1e-5) for name in made[0])


def test_gaps_are_counted_carried_forward_and_told_to_the_network(tmp_path):
    table = sales(shops=("north",))
    lost = np.ones(table.num_rows, dtype=bool)
    lost[[20, 21, 60]] = False
    gappy = dataset(tmp_path, table.filter(pa.array(lost)), series=[], static=[])
    assert any("3 of 240 steps of 1h have no row" in warning for warning in gappy.warnings)
    train = gappy.open("train")
    window = arrays(train, [int(np.flatnonzero(train.starts == 15)[0])])
    assert window["history_known"][0, 5:8, 0].tolist() == [0.0, 0.0, 1.0]
    assert window["history"][0, 5, 0] == window["history"][0, 4, 0] == window["history"][0, 6, 0]
    with pytest.raises(DataError, match="3 of 240 steps of 1h have no row"):
        dataset(tmp_path, table.filter(pa.array(lost)), series=[], static=[], gaps="fail")


def test_values_are_carried_forward_within_their_window_only():
    nan = np.nan
    given = np.array([[[nan, 1.0], [2.0, nan], [nan, nan], [4.0, nan]]], dtype=np.float32)
    values, known = carried_forward(given)
    assert values[0].T.tolist() == [[0.0, 2.0, 2.0, 4.0], [1.0, 1.0, 1.0, 1.0]]
    assert known[0].T.tolist() == [[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]


def test_the_naive_error_is_each_series_own_in_training(made):
    preparation = made.preparation()
    train, parts = 168, np.asarray(sales()["sold"]).reshape(2, -1)
    std = preparation.target.spec.std[0]
    for name, values in zip(("north", "south"), parts, strict=True):
        wanted = np.abs(values[24:train] - values[: train - 24]).mean() / std
        assert preparation.naive_errors[f'["{name}"]'][0] == pytest.approx(wanted, rel=1e-4)


class TestLatest:
    def test_the_context_ends_with_the_last_known_target(self, made):
        table = sales()
        latest = LatestWindows(asked(), made.preparation())
        row = latest.rows(0, 1)
        assert row["sold"][0].as_py() == table["sold"].to_pylist()[225:237]
        assert row["price"][0].as_py() == table["price"].to_pylist()[225:240]

    def test_what_is_known_ahead_must_be_given(self, made):
        with pytest.raises(DataError, match=r"the future of 'price' is an input: 3 steps .* are needed, and series north has 0"):
            LatestWindows(sales(), made.preparation())

    def test_values_that_are_missing_ahead_are_counted(self, made):
        table = asked()
        price = [None if place in (237, 239, 478) else value for place, value in enumerate(table["price"].to_pylist())]
        assert LatestWindows(table, made.preparation()).warnings == ()
        (said,) = LatestWindows(changed(table, "price", price), made.preparation()).warnings
        assert said.startswith("3 of 6 values of 'price' that are to be known ahead are missing")

    def test_what_training_did_not_know_is_counted(self, made):
        names = ["east" if one == "south" else one for one in asked()["shop"].to_pylist()]
        unknown = Unknown()
        preparation = made.preparation().watched(unknown)
        preparation.apply(LatestWindows(changed(asked(), "shop", names), preparation).rows(0, 2))
        (said,) = unknown.warnings("rows")
        assert said.startswith("50% of the values of 'shop' in the rows were never seen in training (1 of 2)")

    def test_a_series_that_is_too_short_is_named(self, made):
        with pytest.raises(DataError, match=r"2 of 2 series have fewer than 12 steps .* the first of them series north with 5"):
            LatestWindows(sales(5), made.preparation())

    def test_a_table_without_rows_is_refused_in_words(self, made):
        with pytest.raises(DataError, match="the table has no row"):
            LatestWindows(sales().slice(0, 0), made.preparation())

    def test_a_missing_column_is_named(self, made):
        with pytest.raises(ColumnError, match="'visitors'"):
            LatestWindows(sales().drop_columns(["visitors"]), made.preparation())

    def test_no_column_of_the_table_is_lost_to_one_of_the_answer(self, tmp_path):
        """A time that is called `step` keeps its moments; how far ahead each is stands beside it."""
        table = pa.table({"step": np.arange(100, 200), "sold": np.random.default_rng(0).normal(size=100)})
        pa.parquet.write_table(table, tmp_path / "steps.parquet")
        value = recipe(str(tmp_path / "steps.parquet"))
        value["data"] = {"source": value["data"]["source"], "target": "sold", "time": "step"}
        preparation = make_dataset(load_recipe(value, folder=tmp_path), StageCache(tmp_path / "cache")).preparation()
        latest = LatestWindows(table, preparation)
        told = latest.answers(pa.table({"prediction": [[1.0, 2.0, 3.0]]}), 0, 1)
        assert told.to_pydict() == {"step": [200, 201, 202], "step_ahead": [1, 2, 3], "prediction": [1.0, 2.0, 3.0]}
        with pytest.raises(ColumnError, match="the column 'step' is called like one of the answer, which has step"):
            latest.answers(pa.table({"step": [[1.0, 2.0, 3.0]]}), 0, 1)

    def test_moments_are_told_in_the_time_zone_in_which_they_were_asked(self, tmp_path):
        """The same moments, not the clock of another place."""
        kind = pa.timestamp("us", tz="Asia/Tokyo")
        given = pa.compute.assume_timezone(sales()["time"].combine_chunks(), "UTC").cast(kind)
        table = sales().set_column(0, "time", given)
        preparation = dataset(tmp_path, table).preparation()
        latest = LatestWindows(asked().set_column(0, "time", given), preparation)
        told = latest.answers(pa.table({"prediction": [[1.0, 2.0, 3.0]] * 2}), 0, 2)
        assert told["time"].type == kind
        assert told["time"].to_pylist() == [*given[237:240].to_pylist(), *given[477:480].to_pylist()]

    @pytest.mark.parametrize("key", ["time", "series"])
    def test_a_column_that_is_called_like_the_answer_is_refused_before_training(self, tmp_path, key):
        value = recipe("sales.parquet")
        value["data"][key] = "prediction"
        with pytest.raises(RecipeError, match="names 'prediction', which answers have a column of"):
            load_recipe(value, folder=tmp_path)


class TestWindowsAsRows:
    def test_a_list_of_another_length_is_refused(self, made):
        test = made.open("test")
        rows = window_rows(LandedTable.open(made.landed["source"]).column, test.steps, test.starts[:1], preparation=made.preparation())
        short = rows.set_column(0, "sold", pa.array([[1.0, 2.0]]))
        with pytest.raises(DataError, match="row 0 of the batch has 2 values of 'sold', but a window holds 12"):
            made.preparation().apply(short)

    def test_times_are_read_as_those_of_a_table_are(self, tmp_path):
        """In the form of training or in ISO 8601; what is no time is refused, and never taken for a missing one in silence."""
        times = [one.strftime("%d.%m.%Y %H:%M") for one in sales()["time"].to_pylist()]
        written = sales().set_column(0, "time", pa.array(times))
        preparation = dataset(tmp_path, written, known=["time", "price"]).preparation()
        assert preparation.form == "%d.%m.%Y %H:%M"
        (row,) = LatestWindows(asked(), preparation).rows(0, 1).to_pylist()
        spelled = [[one.strftime(preparation.form) for one in row["time"]], [one.isoformat() for one in row["time"]]]
        made = [preparation.apply(pa.RecordBatch.from_pylist([{**row, "time": given}])) for given in (row["time"], *spelled)]
        name = next(name for name in made[0] if name.startswith("known") and made[0][name].shape[-1] == 5)
        assert not np.isnan(made[0][name]).any()
        assert np.array_equal(made[0][name], made[1][name])
        assert np.array_equal(made[0][name], made[2][name])
        wrong = [row, {**row, "time": [*spelled[1][:-1], "soon"]}]
        with pytest.raises(RowError, match="the column 'time' holds times, but row 1 of the batch holds 'soon'"):
            preparation.apply(pa.RecordBatch.from_pylist([{**one, "time": list(map(str, one["time"]))} for one in wrong]))

    def test_single_steps_are_no_windows(self, made):
        with pytest.raises(ColumnError, match="a window's column holds lists of 12 values"):
            made.preparation().apply(sales().to_batches()[0])

    def test_windows_in_memory_are_those_of_the_stage(self, made):
        """Every window of the table, and for each of the stage's the same arrays."""
        whole, test = windows_of(sales(), made.preparation()), made.open("test")
        places = np.searchsorted(whole.starts, test.starts[[0, 5]])
        one, two = arrays(whole, places), arrays(test, [0, 5])
        assert all(np.array_equal(one[name], two[name]) for name in one)


class TestRecipe:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"time": None}, "a forecast needs the column that says when each row is"),
            ({"known": ["sold"]}, "names the target 'sold'"),
            ({"static": ["price"]}, "stands under 'data.known' too"),
            ({"weight": "price"}, "does not go with forecasts"),
            ({"split": {"group": "shop"}}, "which are split by data.time"),
            ({"series": []}, "needs data.series"),
        ],
    )
    def test_keys_that_do_not_go_together(self, change, said):
        value = recipe("sales.csv")
        value["data"] |= change
        with pytest.raises(RecipeError, match=said):
            load_recipe(value)

    def test_keys_of_forecasts_need_the_task(self):
        with pytest.raises(RecipeError, match=r"task: \{type: forecasting, horizon: STEPS\}"):
            load_recipe({"data": {"source": "sales.csv", "target": "sold", "time": "time"}})

    def test_a_static_column_that_changes_is_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"'visitors' is named under data.static, and changes within 2 series"):
            dataset(tmp_path, sales(), static=["visitors"])


def test_a_window_of_nothing_but_missing_values_is_answered(made):
    """As a server asks its model before it opens: every value missing, the times too."""
    preparation = made.preparation()
    rows = LatestWindows(asked(), preparation).rows(0, 1)
    nothing = pa.RecordBatch.from_arrays([pa.nulls(1, field.type) for field in rows.schema], schema=rows.schema)
    arrays_of = preparation.apply(nothing)
    assert {name: array.shape[0] for name, array in arrays_of.items()} == dict.fromkeys(preparation.inputs, 1)
    assert not arrays_of["history"].any()

"""Related tables: what a row sees, what is refused, and how the same features are made again."""

import json
from datetime import datetime, timedelta
from typing import ClassVar

import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.data.sources import open_source
from deepseek.errors import ColumnError, DataError, InputError, RecipeError, UnknownNameError
from deepseek.recipe import load_recipe
from deepseek.registry import family

DAY = timedelta(days=1)
START = datetime(2024, 1, 1)


def day(number):
    return START + number * DAY


DRIVERS = {"driver": ["a", "b", "c"], "born": [day(-9000), day(-8000), None], "country": ["IT", "NO", "IT"]}
RACES = {"race": [1, 2, 3], "date": [day(0), day(10), day(20)], "laps": [50, 60, 70]}
RESULTS = {
    "result": [1, 2, 3, 4, 5, 6],
    "race": [1, 1, 2, 2, 3, 3],
    "driver": ["a", "b", "a", "b", "a", "c"],
    "grid": [1, 2, 3, 4, 5, 6],
    "points": [10.0, 8.0, 6.0, 9.0, 1.0, 2.0],
    "won": [True, False, False, True, False, True],
}
RELATIONSHIPS = ["races.race -> results.race", "drivers.driver -> results.driver"]


def spec(tables=None, **more):
    given = {
        "drivers": {"source": DRIVERS, "static": True, "fields": {"country": "category"}},
        "races": {"source": RACES, "time": "date"},
        "results": {"source": RESULTS, "index": "result", "time": "races.date"},
    }
    for name, changes in (tables or {}).items():
        given[name] = {key: value for key, value in {**given.get(name, {}), **changes}.items() if value is not None}
    asked = {"driver": ["a", "b", "c"], "when": [day(10), day(9), day(30)], "top": [1, 0, 1]}
    base = {"target_table": "drivers", "relationships": RELATIONSHIPS, "cutoffs": {"source": asked, "time": "when"}}
    return {"type": "related_tables", "tables": given, "depth": 1, **base, **more}


def read(given, **request):
    source = open_source(given)
    return pa.Table.from_batches(list(source.read(**request)), source.schema() if not request else None)


def column(given, name):
    return read(given)[name].to_pylist()


class TestWhatIsSeen:
    def test_a_row_sees_what_was_known_by_its_own_cutoff(self):
        table = read(spec())
        assert table.column_names[:4] == ["driver", "when", "top", "country"]
        assert table["COUNT(results)"].to_pylist() == [2, 1, 1]
        assert table["SUM(results.points)"].to_pylist() == [16.0, 8.0, 2.0]
        assert table["top"].to_pylist() == [1, 0, 1]

    def test_the_cutoff_itself_is_seen_unless_said_otherwise(self):
        assert column(spec(inclusive=False), "COUNT(results)") == [1, 1, 1]

    def test_a_window_leaves_older_rows_out(self):
        assert column(spec(window="10d"), "COUNT(results)") == [1, 1, 0]
        assert column(spec(window="10d", inclusive=False), "COUNT(results)") == [1, 1, 1]
        assert column(spec(window="11d"), "COUNT(results)") == [2, 1, 1]

    def test_what_is_filled_in_later_is_seen_later(self):
        late = {**RESULTS, "stewards": [day(15), day(1), day(12), day(12), day(21), day(21)]}
        given = spec({"results": {"source": late, "later": {"points": "stewards"}}})
        assert column(given, "SUM(results.points)") == [0.0, 8.0, 2.0]
        assert column(given, "COUNT(results)") == [2, 1, 1]

    def test_the_moment_of_what_is_filled_in_later_is_not_seen_before(self):
        late = {**RESULTS, "stewards": [day(15), day(1), day(12), day(12), day(21), day(21)]}
        given = spec({"results": {"source": late, "later": {"points": "stewards"}}}, depth=2, aggregations=["last"], derive=["day"])
        assert column(given, "LAST(results.DAY(stewards))") == [None, 2, 22]

    def test_a_parent_is_seen_when_it_is_there(self):
        given = spec(
            {"races": {"source": {**RACES, "date": [day(0), day(10), day(40)]}}, "results": {"time": None, "static": True}}, depth=2
        )
        assert column(given, "SUM(results.races.laps)") == [110, 50, 0]
        assert column(given, "COUNT(results)") == [3, 2, 1]

    def test_features_of_a_parent_are_as_of_the_cutoff_too(self):
        given = spec({"results": {"fields": {"driver": "category"}}}, depth=3, aggregations=["mean", "last"])
        names = [name for name in open_source(given).schema().names if "races.MEAN(results.points)" in name]
        assert names
        assert column(given, "LAST(results.races.MEAN(results.points))") == [7.5, 9.0, 1.5]

    def test_rows_of_one_moment_stand_in_the_order_of_their_index(self):
        twice = {**RESULTS, "race": [1, 1, 1, 1, 1, 1]}
        turned = {name: values[::-1] for name, values in twice.items()}
        for source in (twice, turned):
            assert column(spec({"results": {"source": source}}, aggregations=["last"]), "LAST(results.points)") == [1.0, 9.0, 2.0]

    def test_rows_without_a_time_are_never_seen_and_counted(self, capsys):
        gap = {**RACES, "date": [day(0), None, day(20)]}
        assert column(spec({"races": {"source": gap}}), "COUNT(results)") == [1, 1, 1]
        assert "2 of 6 rows of 'results' have no races.date and are never seen" in capsys.readouterr().err

    def test_asked_before_it_is_there_nothing_is_known_of_a_row(self, capsys):
        given = spec({"drivers": {"static": None, "time": "born", "source": {**DRIVERS, "born": [day(5), day(9), day(29)]}}})
        given["cutoffs"]["source"]["when"][0] = day(4)
        table = read(given)
        assert table["country"].to_pylist() == [None, "NO", "IT"]
        assert table["COUNT(results)"].to_pylist() == [0, 1, 1]
        assert read({**given, "inclusive": False})["country"].to_pylist() == [None, None, "IT"]
        assert "1 rows of 'drivers' are asked about before they are there" in capsys.readouterr().err

    def test_finer_than_a_microsecond_is_never_seen_too_early(self):
        nanos = pa.table({**RACES, "date": pa.array([1, 2_001, 3_000], pa.timestamp("ns"))})
        asked = {"driver": ["a", "a"], "when": pa.array([2_000, 3_000], pa.timestamp("ns"))}
        assert column(spec({"races": {"source": nanos}}, cutoffs={"source": asked, "time": "when"}), "COUNT(results)") == [1, 3]

    def test_neither_is_a_text_that_tells_more_than_microseconds(self):
        dates = [f"2024-01-01 10:00:00.{fraction}" for fraction in ("000001", "0000021", "0000030")]
        asked = {"driver": ["a", "a"], "when": [f"2024-01-01 10:00:00.{fraction}" for fraction in ("0000020", "0000030")]}
        given = spec({"races": {"source": {**RACES, "date": dates}}}, cutoffs={"source": asked, "time": "when"})
        assert column(given, "COUNT(results)") == [1, 3]

    def test_a_cutoff_that_tells_more_than_microseconds_sees_nothing_after_it(self):
        dates = [f"2024-01-01 10:00:00.00000{digit}" for digit in (1, 2, 3)]
        asked = {"driver": ["a", "a"], "when": ["2024-01-01 10:00:00.0000019", "2024-01-01 10:00:00.0000020"]}
        given = spec({"races": {"source": {**RACES, "date": dates}}}, cutoffs={"source": asked, "time": "when"})
        assert column(given, "COUNT(results)") == [1, 2]
        before = pa.table({**RACES, "date": pa.array([-2_000, -1_000, 0], pa.timestamp("ns"))})  # before 1970 down is away from zero
        asked = {"driver": ["a"], "when": pa.array([-1_001], pa.timestamp("ns"))}
        assert column(spec({"races": {"source": before}}, cutoffs={"source": asked, "time": "when"}), "COUNT(results)") == [1]

    def test_conditions_look_at_some_rows_alone(self):
        given = spec({"results": {"where": {"won": [True]}}}, where=["count", "mean"])
        assert column(given, "COUNT(results WHERE won = True)") == [1, 0, 1]
        assert column(given, "MEAN(results.points WHERE won = True)") == [10.0, None, 2.0]

    def test_two_relationships_to_one_table_are_told_apart(self):
        games = {"game": [1, 2], "home": ["a", "b"], "away": ["b", "c"], "at": [day(0), day(1)]}
        given = spec({"games": {"source": games, "index": "game", "time": "at"}})
        given["relationships"] = [*RELATIONSHIPS, "drivers.driver -> games.home", "drivers.driver -> games.away"]
        table = read(given)
        assert table["COUNT(games[home])"].to_pylist() == [1, 1, 0]
        assert table["COUNT(games[away])"].to_pylist() == [0, 1, 1]


class TestItsOwnTime:
    """Each row of the target table is asked about as of its own time, and must not see how it ends."""

    GIVEN: ClassVar = {"target_table": "results", "cutoffs": {"labels": ["won"], "known": ["grid"]}, "depth": 3}

    def test_only_what_is_said_to_be_known_is_seen_of_the_row_itself(self):
        names = read(spec(**self.GIVEN)).column_names
        assert names[:3] == ["result", "races.date", "won"]
        assert "grid" in names
        assert "points" not in names

    def test_the_label_and_the_outcome_count_from_the_next_moment_on(self):
        table = read(spec(**self.GIVEN, aggregations=["sum", "n_true", "count", "max"]))
        assert table["drivers.NUM_TRUE(results.won)"].to_pylist() == [0, 0, 1, 0, 1, 0]
        assert table["drivers.SUM(results.points)"].to_pylist() == [0.0, 0.0, 10.0, 8.0, 16.0, 0.0]
        assert table["drivers.MAX(results.grid)"].to_pylist() == [1, 2, 3, 4, 5, 6]
        assert table["races.SUM(results.points)"].to_pylist() == [0.0] * 6

    @pytest.mark.parametrize("depth", [1, 2, 3])
    @pytest.mark.parametrize("inclusive", [True, False])
    def test_labels_of_the_last_race_move_no_feature(self, depth, inclusive):
        """Whatever the labels and outcomes at a cut-off are, its features stay as they are, bit for bit."""
        given = {**self.GIVEN, "depth": depth, "inclusive": inclusive}
        other = {**RESULTS, "won": [*RESULTS["won"][:4], True, False], "points": [*RESULTS["points"][:4], 99.0, -99.0]}
        before, after = read(spec(**given)), read(spec({"results": {"source": other}}, **given))
        assert after.drop_columns("won").equals(before.drop_columns("won"))
        assert not after.equals(before)

    def test_without_cutoffs_nothing_counts_up_to_one(self):
        given = spec({name: {"time": None, "static": True} for name in ("races", "results")}, **self.GIVEN, derive=["time_since"])
        with pytest.raises(InputError, match="TIME_SINCE counts up to the cut-off"):
            read(given)

    def test_a_static_label_is_no_feature(self):
        given = spec({name: {"time": None, "static": True} for name in ("races", "results")}, **self.GIVEN)
        assert not [name for name in read(given).column_names[1:] if "won" in name and name != "won"]


class TestOneMoment:
    def test_every_row_that_is_there_is_asked_about(self):
        table = read(spec(cutoffs={"at": "2024-01-11"}))
        assert table["cutoff_time"].to_pylist() == [day(10)] * 3
        assert table["COUNT(results)"].to_pylist() == [2, 2, 0]

    def test_now_has_no_fingerprint(self):
        assert open_source(spec(cutoffs={"at": "now"})).fingerprint() is None
        assert open_source(spec(cutoffs={"at": "2024-01-11"})).fingerprint()


class TestRefusals:
    """What cannot be, said before anything is computed, with what to do."""

    @pytest.mark.parametrize(
        ("tables", "more", "error", "said"),
        [
            ({}, {"target_table": "driver"}, UnknownNameError, "did you mean 'drivers'"),
            ({}, {"relationships": ["race.race -> results.race"]}, UnknownNameError, "did you mean 'races'"),
            ({}, {"relationships": ["races.rase -> results.race"]}, UnknownNameError, "did you mean 'race'"),
            ({}, {"relationships": ["races.race = results.race"]}, InputError, "the parent first"),
            ({}, {"relationships": [RELATIONSHIPS[0], RELATIONSHIPS[0]]}, InputError, "stands twice"),
            ({}, {"relationships": [*RELATIONSHIPS, "results.result -> races.race"]}, InputError, "circle: races -> results -> races"),
            ({"races": {"time": None}}, {}, InputError, "'races' has neither time nor static"),
            ({"races": {"static": True}}, {}, InputError, "'races' has both time and static"),
            ({"races": {"time": "dates"}}, {}, UnknownNameError, "did you mean 'date'"),
            ({"races": {"time": "laps"}}, {}, ColumnError, "'laps' of the table 'races' holds int64, which is no time"),
            ({"results": {"time": "races.dates"}}, {}, UnknownNameError, "races.date"),
            ({"results": {"later": {"points": "stewards"}}}, {}, UnknownNameError, "'stewards'"),
            ({"results": {"drop": ["pointz"]}}, {}, UnknownNameError, "did you mean 'points'"),
            ({"drivers": {"source": {**DRIVERS, "driver": ["a", "a", "c"]}}}, {}, DataError, "several rows: 'a'"),
            (
                {"drivers": {"source": {**DRIVERS, "driver": ["a", None, "c"]}}},
                {},
                DataError,
                "1 rows of the table 'drivers' have no driver",
            ),
            ({"drivers": {"source": {**DRIVERS, "driver": [1, 2, 3]}}}, {}, ColumnError, "keys of type string cannot name rows"),
            ({"races": {"source": {name: values[:2] for name, values in RACES.items()}}}, {}, DataError, "2 rows of 'results' .* lacks: 3"),
            ({}, {"cutoffs": {"source": {"driver": ["a", "z"], "when": [day(1)] * 2}, "time": "when"}}, DataError, "lacks: 'z'"),
            ({}, {"cutoffs": {"source": {"driver": ["a"], "when": [7.5]}, "time": "when"}}, ColumnError, "no time"),
            (
                {},
                {"cutoffs": {"source": {"driver": ["a"], "when": ["soon"]}, "time": "when"}},
                ColumnError,
                "'soon', which is no point in time",
            ),
            ({}, {"cutoffs": {"source": {"driver": ["a"], "day": [day(1)]}}}, InputError, "has no time"),
            (
                {},
                {"cutoffs": {"source": {"driver": ["a"], "when": [day(1)], "country": [1]}, "time": "when"}},
                InputError,
                "would be given away",
            ),
            ({}, {"cutoffs": {"time": "when"}}, InputError, "no table that has them"),
            ({}, {"cutoffs": {}}, InputError, "no cut-offs are given"),
            ({}, {"cutoffs": {"at": "soon"}}, InputError, "the moment is 'soon'"),
            ({}, {"target_table": "results", "cutoffs": {"labels": ["wonn"]}}, UnknownNameError, "did you mean 'won'"),
            ({}, {"target_table": "results", "cutoffs": {"labels": ["won"], "known": ["won"]}}, InputError, "both a label and known"),
            ({"results": {"where": {"won": [True]}}}, {"where": ["skew"]}, UnknownNameError, "among the aggregations as well"),
            ({}, {"max_features": 3}, InputError, "max_features is 3"),
            ({"results": {"source": {**RESULTS, "points": [2**60] * 6}}}, {}, DataError, "beyond 2\\^53"),
        ],
    )
    def test_it_says_what_is_wrong(self, tables, more, error, said):
        with pytest.raises(error, match=said):
            read(spec(tables, **more))

    def test_a_recipe_is_told_of_misspelt_keys(self):
        with pytest.raises(RecipeError, match="did you mean 'relationships'"):
            family("source").validate({**{key: value for key, value in spec().items() if key != "relationships"}, "relationship": []})
        with pytest.raises(RecipeError, match="did you mean 'static'"):
            family("source").validate(spec({"drivers": {"static": None, "statik": True}}))
        with pytest.raises(RecipeError, match="did you mean 'median'"):
            family("source").validate(spec(aggregations=["meddian"]))

    def test_orphans_are_kept_and_counted_where_that_is_said(self, capsys):
        few = {name: values[:2] for name, values in RACES.items()}
        assert column(spec({"races": {"source": few}}, orphans="keep"), "COUNT(results)") == [2, 1, 0]
        assert "2 rows of 'results' have a race that 'races' lacks: 3" in capsys.readouterr().err

    @pytest.mark.parametrize(("kind", "first"), [(pa.float64(), 2**53), (pa.float32(), 2**24)])
    def test_keys_that_are_floats_name_no_row_where_a_float_is_several_numbers(self, kind, first):
        """A missing key makes floats of whole numbers: of two that differ by one, both become the same."""
        races = {**RACES, "race": [first, first + 1, first + 2]}
        keys = pa.array([float(first)] * 6, kind)
        with pytest.raises(ColumnError, match=r"keys of type .* cannot name rows whose index is of type int64"):
            read(spec({"races": {"source": races}, "results": {"source": pa.table({**RESULTS, "race": keys})}}))
        few = pa.table({**RESULTS, "race": pa.array([1, 1, 2, 2, 3, None], kind)})
        assert column(spec({"results": {"source": few}}), "COUNT(results)") == [2, 1, 0]

    def test_keys_of_two_types_are_equal_as_texts(self):
        numbers = {**RESULTS, "driver": [1, 2, 1, 2, 1, 3]}
        texts = {"driver": ["1", "2", "3"], "country": ["IT", "NO", "IT"]}
        given = spec({"drivers": {"source": texts}, "results": {"source": numbers, "fields": {"driver": "category"}}})
        given["cutoffs"]["source"]["driver"] = ["1", "2", "3"]
        assert column(given, "COUNT(results)") == [2, 1, 1]

    def test_questions_without_index_or_time_are_set_aside(self):
        asked = {"driver": ["a", None, "c"], "when": [None, day(9), day(30)], "top": [1, 0, 1]}
        source = open_source(spec(cutoffs={"source": asked, "time": "when"}))
        assert pa.Table.from_batches(list(source.read()))["driver"].to_pylist() == ["c"]
        rejects = pa.Table.from_batches(list(source.rejects()))
        assert rejects["line"].to_pylist() == [1, 2]
        assert rejects["reason"].to_pylist() == ["it has no time", "it has no index"]


class TestAgain:
    def test_the_same_features_are_made_of_other_rows(self):
        first = open_source(spec(depth=2))
        definitions = json.loads(json.dumps(first.definitions()))
        # fewer rows, of which nobody could tell what their columns are
        few = {"drivers": {"source": {"driver": ["x"], "born": [None], "country": [None]}, "fields": None}}
        few["results"] = {"source": {name: values[:0] for name, values in RESULTS.items()}}
        asked = {"source": {"driver": ["x"], "when": [day(3)]}, "time": "when"}
        again = open_source(spec(few, cutoffs=asked, depth=1, definitions=definitions))
        assert again.schema().names == [name for name in first.schema().names if name != "top"]
        assert again.schema().field("country").type == first.schema().field("country").type
        (row,) = pa.Table.from_batches(list(again.read())).to_pylist()
        assert row["COUNT(results)"] == 0
        assert row["country"] is None

    def test_definitions_come_from_a_file(self, tmp_path):
        first = open_source(spec(aggregations=["count"]))
        (tmp_path / "features.json").write_text(json.dumps(first.definitions()))
        again = open_source(spec(definitions="features.json"), folder=tmp_path)
        assert again.schema().names == first.schema().names

    def test_other_tables_are_refused(self):
        definitions = open_source(spec()).definitions()
        with pytest.raises(InputError, match="target_table 'drivers', and here it is 'results'"):
            read(spec(target_table="results", definitions=definitions))
        with pytest.raises(UnknownNameError, match="'points'"):
            read(
                spec(
                    {"results": {"source": {name: values for name, values in RESULTS.items() if name != "points"}}}, definitions=definitions
                )
            )

    def test_only_wanted_features_are_computed(self, monkeypatch):
        from deepseek.data.synthesis.engine import Engine

        asked = []
        monkeypatch.setattr(
            Engine,
            "values",
            lambda self, feature, rows, seen, plain=Engine.values: asked.append(feature.name) or plain(self, feature, rows, seen),
        )
        assert read(spec(), columns=["top", "COUNT(results)"]).column_names == ["top", "COUNT(results)"]
        assert asked == ["COUNT(results)"]

    def test_its_fingerprint_follows_every_table(self, tmp_path):
        for name, table in (("drivers", DRIVERS), ("races", RACES), ("results", RESULTS)):
            pa.csv.write_csv(pa.table(table), tmp_path / f"{name}.csv")
        given = spec({name: {"source": f"{name}.csv"} for name in ("drivers", "races", "results")})
        seen = {open_source(given, folder=tmp_path).fingerprint()}
        for name in ("drivers", "races", "results"):
            with (tmp_path / f"{name}.csv").open("a") as file:
                file.write("\n")
            seen.add(open_source(given, folder=tmp_path).fingerprint())
        assert len(seen) == 4
        assert len(open_source(given, folder=tmp_path).files()) == 3

    def test_the_catalogue_says_what_each_feature_is(self):
        catalogue = {one["name"]: one for one in open_source(spec(depth=2)).features()}
        assert (
            catalogue["MEAN(results.points)"]["what"]
            == "the mean of points of results, over the rows of results that belong to the row of drivers"
        )
        assert catalogue["COUNT(results)"]["type"] == "int64"

    def test_the_order_of_the_spec_makes_no_difference_to_values(self):
        given = spec(depth=2)
        turned = {**given, "tables": dict(reversed(given["tables"].items()))}
        assert read(turned).select(read(given).column_names).equals(read(given))


def test_a_run_keeps_its_definitions_and_tells_of_features(tmp_path, monkeypatch):
    """The road: trained from Python with tables in memory, then asked with features made again from the run."""
    monkeypatch.chdir(tmp_path)
    example = deepseek.example("shop", tmp_path, rows=40)
    recipe = load_recipe(example, overrides=["train.max_steps=2", "train.precision=fp32"])
    run = deepseek.run(recipe)
    kept = json.loads((run.bundle / "features.json").read_text())
    listed = deepseek.features(run.run)["features"]
    assert [one["name"] for one in listed] == [one["name"] for one in deepseek.features(example)["features"]]
    assert len(kept["features"]) == len(listed)
    made = deepseek.features(run.run, cutoffs=example.parent / "new.csv", output="new.parquet")
    assert made["rows"] == 40
    assert deepseek.predict(run.run, "new.parquet", "answers.csv")["rows"] == 40
    with pytest.raises(InputError, match="no related tables"):
        deepseek.features({"data": {"source": str(example.parent / "churn.csv")}})


def test_passwords_of_tables_are_not_saved(monkeypatch):
    from deepseek.recipe.secrets import conceal_password

    monkeypatch.setenv("SHOP_PASSWORD", "hush, shop")
    given = {"type": "related_tables", "tables": {"a": {"source": {"type": "sql", "url": "postgresql://me:hush, shop@host/shop"}}}}
    assert conceal_password(given)["tables"]["a"]["source"]["url"] == "postgresql://me:${ENV:SHOP_PASSWORD}@host/shop"


def test_tables_in_memory_are_named_beside_the_runs(tmp_path):
    from deepseek.pipeline.preparing.sources import named_source

    named = named_source(spec(), tmp_path)
    assert named["tables"]["drivers"]["source"].endswith("table.arrow")
    assert read(named).equals(read(spec()))

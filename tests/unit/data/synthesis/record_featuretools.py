"""What Featuretools makes of a few small tables, recorded, since it does not go together with the libraries that this project needs.

In an environment of its own:

    python -m venv featuretools
    featuretools/bin/pip install featuretools==1.31.0 'setuptools<81' 'pandas<3'
    featuretools/bin/python tests/unit/data/synthesis/record_featuretools.py

`featuretools.json` beside this file is then what `test_featuretools.py` compares with. The keys are texts, as Featuretools counts no whole
numbers that are keys; the tables that are only looked up have no time of their own, as a window would hide their rows.
"""

import json
import random
from datetime import datetime, timedelta
from pathlib import Path

FILE = Path(__file__).with_name("featuretools.json")
START = datetime(2024, 1, 1)
INDEXES = {"customers": "id", "sessions": "sid", "buys": "bid", "goods": "gid"}
TIMES = {"sessions": "start", "buys": "at"}
RELATIONSHIPS = [("customers", "id", "sessions", "customer"), ("sessions", "sid", "buys", "sid"), ("goods", "gid", "buys", "gid")]
AGGREGATIONS = {
    **{name: name for name in ("count", "sum", "mean", "min", "max", "std", "skew", "median", "mode", "percent_true", "num_true")},
    "num_unique": "n_unique",
    "num_true": "n_true",
}
LAST = {"last": "last", "first": "first", "time_since_last": "time_since_last", "time_since_first": "time_since_first"}
"""By Featuretools' name of a primitive that of ours."""
CASES = {
    "depth 1": {"target": "customers", "depth": 1, "aggregations": AGGREGATIONS},
    "depth 2": {"target": "customers", "depth": 2, "aggregations": AGGREGATIONS},
    "depth 2, first and last": {"target": "customers", "depth": 2, "aggregations": {**LAST, "count": "count"}, "derivations": []},
    "depth 2, window": {"target": "customers", "depth": 2, "aggregations": AGGREGATIONS, "window_days": 20},
    "depth 2, before the cut-off": {"target": "goods", "depth": 2, "aggregations": AGGREGATIONS, "inclusive": False},
    "depth 2, from below": {"target": "sessions", "depth": 2, "aggregations": AGGREGATIONS},
}
DERIVATIONS = ["year", "month", "weekday"]
"""Not of the first and last times: Featuretools fails on those of customers without sessions."""
WHERE = ["count", "mean"]


def tables():
    """The rows of each table: gaps in numbers, texts and truths, customers without sessions, and no two rows of one moment."""
    draw = random.Random(7)
    moments = iter(draw.sample(range(60 * 24), 90))

    def maybe(value, share=0.2):
        return None if draw.random() < share else value

    customers = [
        {"id": f"c{n}", "city": maybe("xyz"[n % 3]), "born": START - timedelta(days=9_000 + 397 * n), "score": maybe(n * 1.5)}
        for n in range(5)
    ]
    sessions = [
        {
            "sid": f"s{n:02d}",
            "customer": f"c{draw.randrange(4)}",
            "start": START + timedelta(hours=next(moments)),
            "device": maybe(draw.choice(["phone", "tablet", "web"])),
            "new": maybe(draw.random() < 0.5),
        }
        for n in range(14)
    ]
    goods = [{"gid": f"g{n}", "kind": "pq"[n % 2], "price": round(draw.uniform(1, 9), 2)} for n in range(4)]
    buys = [
        {
            "bid": f"b{n:02d}",
            "sid": f"s{draw.randrange(14):02d}",
            "gid": f"g{draw.randrange(4)}",
            "at": START + timedelta(hours=next(moments)),
            "amount": maybe(float(draw.randrange(-3, 9))),
        }
        for n in range(60)
    ]
    return {"customers": customers, "sessions": sessions, "buys": buys, "goods": goods}


def questions(target):
    """Each row of the target table as of three times, the last of them that of a row."""
    rows = tables()
    times = [START + timedelta(days=15), START + timedelta(days=33), rows["buys"][20]["at"]]
    return [(row[INDEXES[target]], when) for when in times for row in rows[target][:6]]


def featuretools_values(case):
    """Return by the name of a feature its values in the order of the questions."""
    import featuretools as ft
    import pandas as pd

    types = {"city": "Categorical", "device": "Categorical", "kind": "Categorical", "new": "BooleanNullable", "amount": "Double"}
    types |= dict.fromkeys(("id", "customer", "sid", "gid", "bid"), "Categorical") | {"score": "Double", "price": "Double"}
    world = ft.EntitySet("shop")
    for name, rows in tables().items():
        frame = pd.DataFrame(rows)
        world.add_dataframe(
            dataframe_name=name,
            dataframe=frame,
            index=INDEXES[name],
            time_index=TIMES.get(name),
            logical_types={column: types[column] for column in frame.columns if column in types},
        )
    for relationship in RELATIONSHIPS:
        world.add_relationship(*relationship)
    world.add_interesting_values(dataframe_name="sessions", values={"device": ["phone"]})
    asked = pd.DataFrame(questions(case["target"]), columns=[INDEXES[case["target"]], "time"])
    matrix, _ = ft.dfs(
        entityset=world,
        target_dataframe_name=case["target"],
        cutoff_time=asked,
        agg_primitives=list(case["aggregations"]),
        trans_primitives=case.get("derivations", DERIVATIONS),
        where_primitives=WHERE,
        max_depth=case["depth"],
        training_window=f"{case['window_days']} days" if "window_days" in case else None,
        include_cutoff_time=case.get("inclusive", True),
        cutoff_time_in_index=True,
    )
    matrix = matrix.loc[list(asked.itertuples(index=False, name=None))]
    return {name: [plain(value) for value in matrix[name].tolist()] for name in matrix.columns}


def plain(value):
    """Return a value as JSON holds it."""
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:  # noqa: PLR0124 - NaN
        return None
    return value if isinstance(value, str | bool) else float(value)


if __name__ == "__main__":
    found = {name: featuretools_values(case) for name, case in CASES.items()}
    FILE.write_text(json.dumps(found, indent=None, separators=(",", ":")).replace('],"', '],\n"') + "\n", encoding="utf-8")
    print({name: len(values) for name, values in found.items()})  # noqa: T201

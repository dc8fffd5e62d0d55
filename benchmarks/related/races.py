"""Formula 1 races as related tables, and three questions about drivers; with pandas alone, as both sides of the benchmarks need it.

The tables lie in `$DEEPSEEK_DATA/f1_ergast`, whose terms are non-commercial. Questions are put every thirty days, backwards from 2005 for
training, from 2005 to 2010 for validation, and at forty moments from 2010 on for the test, about drivers who raced (or qualified) in the
year before and again in the thirty days after; labels look at those thirty days. So do the tasks of RelBench (Robinson et al., 2024),
whose choice of drivers differs: do not compare directly.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

FOLDER = Path(os.environ.get("DEEPSEEK_DATA", "data")) / "f1_ergast"
HORIZON, YEAR = pd.Timedelta(days=30), pd.Timedelta(days=365)
COLUMNS = {
    "drivers": ["driverId", "dob", "nationality"],
    "races": ["raceId", "year", "round", "circuitId", "date"],
    "circuits": ["circuitId", "country", "lat", "lng", "alt"],
    "constructors": ["constructorId", "nationality"],
    "results": ["resultId", "raceId", "driverId", "constructorId", "grid", "positionOrder", "points", "laps", "statusId"],
    "qualifying": ["qualifyId", "raceId", "driverId", "constructorId", "position"],
    "standings": ["driverStandingsId", "raceId", "driverId", "points", "position", "wins"],
}
INDEXES = {name: columns[0] for name, columns in COLUMNS.items()}
DATED = ("results", "qualifying", "standings")
"""Tables whose rows became known with their race."""
RELATIONSHIPS = [
    ("races", "raceId", "results"),
    ("drivers", "driverId", "results"),
    ("races", "raceId", "qualifying"),
    ("drivers", "driverId", "qualifying"),
    ("races", "raceId", "standings"),
    ("drivers", "driverId", "standings"),
]
LABELS = ("top3", "dnf", "retired")
"""Whether a driver qualifies among the first three; has a result other than `Finished`, laps down included; retires."""


def read() -> dict[str, pd.DataFrame]:
    """Return the tables, with the date of its race beside each row that has none of its own."""
    files = {"standings": "driver_standings"}
    tables = {
        name: pd.read_csv(FOLDER / f"{files.get(name, name)}.csv", na_values="\\N", usecols=columns)[columns]
        for name, columns in COLUMNS.items()
    }
    tables["races"]["date"] = pd.to_datetime(tables["races"]["date"])
    tables["drivers"]["dob"] = pd.to_datetime(tables["drivers"]["dob"])
    for name in DATED:
        tables[name] = tables[name].merge(tables["races"][["raceId", "date"]], on="raceId", how="left")
    return tables


def questions(tables: dict[str, pd.DataFrame], label: str) -> pd.DataFrame:
    """Return `driverId`, `asked_at`, `label` and `part`, in the order of time."""
    events = tables["qualifying" if label == "top3" else "results"].dropna(subset=["date"])
    if label == "retired":
        status = pd.read_csv(FOLDER / "status.csv", na_values="\\N")
        running = status["status"].eq("Finished") | status["status"].str.match(r"\+\d+ Laps?")
        events = events.assign(bad=~events["statusId"].isin(status.loc[running, "statusId"]))
    elif label == "dnf":
        events = events.assign(bad=events["statusId"] != 1)
    found = []
    for part, moments in _moments(events["date"].min()).items():
        for when in moments:
            after = events[(events["date"] > when) & (events["date"] <= when + HORIZON)]
            before = events[(events["date"] > when - YEAR) & (events["date"] <= when)]
            asked = after[after["driverId"].isin(before["driverId"])].groupby("driverId")
            value = asked["position"].min() <= 3 if label == "top3" else asked["bad"].any()
            found.append(value.astype(int).rename("label").reset_index().assign(asked_at=when, part=part))
    return pd.concat(found).sort_values(["asked_at", "driverId"], ignore_index=True)[["driverId", "asked_at", "label", "part"]]


def _moments(first: pd.Timestamp) -> dict[str, list[pd.Timestamp]]:
    train = [pd.Timestamp("2005-01-01") - HORIZON * (n + 1) for n in range(1_000)]
    validation = pd.date_range("2005-01-01", "2009-12-01", freq="30D")
    test = [pd.Timestamp("2010-01-01") + HORIZON * n for n in range(40)]
    return {"train": sorted(when for when in train if when > first + YEAR), "validation": list(validation), "test": test}


def spec(tables: dict[str, pd.DataFrame], asked: pd.DataFrame, **more: object) -> dict[str, object]:
    """Return the source that makes the features of drivers."""
    sections = {
        name: {
            "source": table,
            "index": INDEXES[name],
            **({"time": "date"} if "date" in table.columns else {"static": True}),
            "fields": {name: "category" for name in ("statusId", "nationality") if name in table.columns},
        }
        for name, table in tables.items()
    }
    relationships = [f"{parent}.{key} -> {child}.{key}" for parent, key, child in RELATIONSHIPS if {parent, child} <= {*tables}]
    cutoffs = {"source": asked, "id": "driverId", "time": "asked_at"}
    return {
        "type": "related_tables",
        "target_table": "drivers",
        "tables": sections,
        "relationships": relationships,
        "cutoffs": cutoffs,
        "orphans": "keep",
        **more,
    }

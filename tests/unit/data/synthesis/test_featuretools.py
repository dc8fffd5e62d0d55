"""The same tables give the features that Featuretools gives, under the same names, with the same values."""

import importlib.util
import json
import re

import pyarrow as pa
import pytest
from tests.unit.data.synthesis.record_featuretools import (
    CASES,
    DERIVATIONS,
    FILE,
    INDEXES,
    RELATIONSHIPS,
    TIMES,
    WHERE,
    featuretools_values,
    questions,
    tables,
)

from deepseek.data.sources import open_source

KEYS = {"customer", "sid", "gid"}
"""Columns that refer to other tables: Featuretools gives them as features, here they are none."""
THEIRS = re.compile(r"(\b(buys\.bid|sessions\.sid|goods\.gid)|TIME_SINCE_(FIRST|LAST)\(buys\.sessions\.start)\)")
"""What only Featuretools makes: the first and last index, and times since the start of a session that is looked up from what was bought."""


def ours(case):
    rows = tables()
    sections = {
        name: {
            "source": pa.Table.from_pylist(table),
            "index": INDEXES[name],
            **({"time": TIMES[name]} if name in TIMES else {"static": True}),
        }
        for name, table in rows.items()
    }
    for name, fields in {"customers": ["city"], "sessions": ["device"], "goods": ["kind"]}.items():
        sections[name]["fields"] = dict.fromkeys(fields, "category")
    sections["sessions"]["where"] = {"device": ["phone"]}
    asked = questions(case["target"])
    spec = {
        "type": "related_tables",
        "target_table": case["target"],
        "tables": sections,
        "relationships": [f"{parent}.{index} -> {child}.{column}" for parent, index, child, column in RELATIONSHIPS],
        "cutoffs": {"source": {INDEXES[case["target"]]: [key for key, _ in asked], "when": [when for _, when in asked]}, "time": "when"},
        "aggregations": sorted({*case["aggregations"].values()}),
        "derive": case.get("derivations", DERIVATIONS),
        "where": [name for name in WHERE if name in case["aggregations"]],
        "depth": case["depth"],
        "inclusive": case.get("inclusive", True),
        **({"window": f"{case['window_days']}d"} if "window_days" in case else {}),
    }
    source = open_source(spec)
    return pa.Table.from_batches(list(source.read())).drop_columns([INDEXES[case["target"]], "when"]).to_pydict()


def theirs(name):
    if importlib.util.find_spec("featuretools") is not None:
        return featuretools_values(CASES[name])
    return json.loads(FILE.read_text())[name]


@pytest.mark.parametrize("name", CASES)
def test_names_and_values_are_those_of_featuretools(name):
    expected, found = theirs(name), ours(CASES[name])
    keys = {one for one in expected if one.rpartition(".")[2] in KEYS and "(" not in one}
    assert {*expected} - keys - {one for one in expected if THEIRS.search(one)} == {*found}
    for feature, values in found.items():
        for place, (got, wanted) in enumerate(zip(values, expected[feature], strict=True)):
            number = isinstance(wanted, float) and got is not None
            assert got == (pytest.approx(wanted, rel=1e-9, abs=1e-9) if number else wanted), f"{feature}, question {place}"

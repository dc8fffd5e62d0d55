"""Featuretools' side of `synthesis.py`, in an environment of its own: makes the matrix once for each line that comes.

Usage: PYTHON benchmarks/related/featuretools_side.py STAMPS FILE; needs featuretools. Prints what each matrix took as a JSON
line, and leaves the last one in FILE.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib.metadata import version

import featuretools as ft
from races import INDEXES, RELATIONSHIPS, questions, read

warnings.filterwarnings("ignore")
USED = ("drivers", "races", "results", "qualifying", "standings")


def main() -> int:
    tables = read()
    asked = questions(tables, "top3")
    asked = asked[asked["asked_at"].isin(asked["asked_at"].drop_duplicates().tail(int(sys.argv[1])))]
    world = ft.EntitySet("races")
    for name in USED:
        index, times = INDEXES[name], "date" if "date" in tables[name].columns else None
        frame = tables[name].drop(columns=["statusId"], errors="ignore")
        world.add_dataframe(dataframe_name=name, dataframe=frame, index=index, time_index=times)
    for parent, key, child in RELATIONSHIPS:
        world.add_relationship(parent, key, child, key)
    given = json.loads(sys.argv[3])
    features = ft.dfs(
        entityset=world,
        target_dataframe_name="drivers",
        agg_primitives=given["aggregations"],
        trans_primitives=[],
        max_depth=given["depth"],
        features_only=True,
    )
    cutoffs = asked[["driverId", "asked_at"]].rename(columns={"asked_at": "time"})
    about = {"featuretools": version("featuretools"), "pandas": version("pandas"), "rows": len(cutoffs), "features": len(features)}
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        matrix = ft.calculate_feature_matrix(features, entityset=world, cutoff_time=cutoffs, cutoff_time_in_index=True, n_jobs=1)
        seconds = time.perf_counter() - began
        matrix.reset_index().to_csv(sys.argv[2], index=False)
        print(json.dumps({"seconds": seconds}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

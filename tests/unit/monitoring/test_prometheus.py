import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import deepseek.monitoring
from deepseek.monitoring import MonitorSettings, Store, Watcher
from deepseek.monitoring.prometheus import METRICS, metrics_text
from deepseek.serving.metrics import FAMILIES

DASHBOARDS = Path(deepseek.monitoring.__file__).parent / "dashboards"
NAME = re.compile(r"deepseek_\w+?(?=_bucket\b|_sum\b|_count\b|\b)")
EXPORTED = {*METRICS, *FAMILIES}


@pytest.fixture
def text(bundle, make_rows, tmp_path):
    with Store(tmp_path / "log.db") as store:
        watcher = Watcher(bundle, store, settings=MonitorSettings(window_rows=500))
        rows = make_rows(2000, seed=1, shift=8, gap=0.1)
        watcher.observe(rows.inputs, rows.answers, ids=rows.ids)
        watcher.label(rows.ids, rows.truth)
        return metrics_text(watcher.check())


def samples(text):
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
            found[name, *sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))[:1]] = float(value)
    return found


def test_every_metric_is_exported_with_its_type_and_only_those(text):
    assert set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) == set(METRICS) == {name for name, *_ in samples(text)}
    for name, (kind, words) in METRICS.items():
        assert f"# HELP {name} {words}\n# TYPE {name} {kind}\n" in text


def test_values_are_those_of_the_watch(text):
    found = samples(text)
    assert (
        found["deepseek_monitor_labels_total", ("model", next(iter(labels[1] for name, labels in found if name.endswith("rows_total"))))]
        == 2000
    )
    assert found["deepseek_monitor_drifted", ("column", "age")] == 1
    assert found["deepseek_monitor_drifted", ("column", "city")] == 0
    assert found["deepseek_monitor_alarm", ("alarm", "drift:age")] == 1


def test_strange_names_are_escaped():
    state = {
        "model": 'a"b\\c\nd',
        "rows": 1,
        "alarms": [],
        "last_window": None,
        "performance": {"labels": 0, "window": {"accuracy": float("nan")}, "reference": {}, "test": None},
    }
    text = metrics_text(state)
    assert 'deepseek_monitor_rows_total{model="a\\"b\\\\c\\nd"} 1.0' in text
    assert "accuracy" not in text  # there is no sample without a value


def test_every_expression_of_dashboard_and_alerts_is_of_exported_metrics():
    dashboard = json.loads((DASHBOARDS / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    rules = [rule for group in yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    named = [NAME.findall(expression) for expression in [*expressions, *(rule["expr"] for rule in rules)]]
    assert all(named)
    assert {name for names in named for name in names} <= EXPORTED
    assert EXPORTED - {name for expression in expressions for name in NAME.findall(expression)} <= {"deepseek_monitor_drift_probability"}


def test_the_dashboard_is_built_as_grafana_wants_it():
    dashboard = json.loads((DASHBOARDS / "dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    for panel in panels:
        assert panel["type"] in {"timeseries", "stat"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGHI"[: len(panel["targets"])])
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"] in {"short", "percentunit", "s", "bytes", "reqps"}
    wanted = ("Requests a second", "Errors", "Time of a request", "Rows in a batch", "Memory", "Processor", "GPU", "Drift by column")
    assert set(wanted) <= {panel["title"] for panel in panels}
    assert isinstance(dashboard["schemaVersion"], int)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_promtool_parses_every_expression_of_the_dashboard(tmp_path):
    dashboard = json.loads((DASHBOARDS / "dashboard.json").read_text())
    expressions = [target["expr"].replace("$model", ".*") for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"panel:{place}", "expr": expression} for place, expression in enumerate(expressions)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(expressions)} rules found" in done.stdout


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_promtool_passes_rules_and_text(text):
    done = subprocess.run(["promtool", "test", "rules", "alerts_test.yaml"], cwd=DASHBOARDS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

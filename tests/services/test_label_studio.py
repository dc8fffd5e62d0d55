"""Label Studio itself: rows go there with a model's answers, are labelled over its API, and come back as a table to learn from."""

import json
import os
import re
import secrets
import subprocess
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from tests.services.conftest import answers, free_port, own_program

import deepseek
from deepseek.cli import main
from deepseek.data.labelling.annotations import read_export
from deepseek.data.labelling.client import TOKEN, LabelStudio
from deepseek.data.labelling.preannotations import shapes_result, spans_result
from deepseek.data.labelling.shapes import Box, Polygon
from deepseek.data.labelling.spans import Span
from deepseek.data.sources import open_source
from deepseek.errors import DataError, InputError

pytestmark = pytest.mark.slow

LONGEST_S = 300
CONFIG = """<View>
  <Text name="text" value="$text"/><Image name="image" value="$image"/>
  <Choices name="mood" toName="text" choice="multiple"><Choice value="good"/><Choice value="bad"/></Choices>
  <Labels name="names" toName="text"><Label value="PER"/></Labels>
  <RectangleLabels name="boxes" toName="image"><Label value="car"/></RectangleLabels>
  <PolygonLabels name="areas" toName="image"><Label value="sky"/></PolygonLabels>
</View>"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    command = own_program("label-studio", variable="DEEPSEEK_LABEL_STUDIO")
    home, token, port = tmp_path_factory.mktemp("label-studio"), secrets.token_hex(20), free_port()
    words = ["start", "--no-browser", "--port", str(port), "--internal-host", "127.0.0.1", "--username", "me@example.org"]
    words += ["--password", secrets.token_hex(8), "--user-token", token, "--enable-legacy-api-token"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    with (home / "log").open("w") as log:
        process = subprocess.Popen([command, *words], stdout=log, stderr=log, env=environment, cwd=home)
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + LONGEST_S
        try:
            while not answers(f"{url}/health"):
                assert process.poll() is None, (home / "log").read_text()[-3000:]
                assert time.monotonic() < until, (home / "log").read_text()[-3000:]
                time.sleep(0.5)
            yield url, token
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def client(server, monkeypatch):
    url, token = server
    monkeypatch.setenv(TOKEN, token)
    return LabelStudio(url)


def annotate(client, project, results):
    """Say of each task what a person would, by the field `text`."""
    for task in json.loads(client.export(project)):
        for result in results(task):
            client._ask("POST", f"/api/tasks/{task['id']}/annotations/", {"result": result})


def test_rows_go_there_and_come_back_labelled(client, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    moods = [("good", "bad")[number % 2] for number in range(60)]
    rows = pa.table({"text": [f"this is {mood}, says {number}" for number, mood in enumerate(moods)], "mood": moods})
    pa.csv.write_csv(rows, "old.csv")
    pa.csv.write_csv(rows.slice(0, 12).select(["text"]), "new.csv")
    overrides = ["train.epochs=1", "data.fields={text: text}"]
    run = deepseek.train("old.csv", target="mood", out="runs", overrides=overrides, progress=False)
    words = ["annotate", "push", str(run.run), "new.csv", "--server", client.url, "--json"]
    assert main([*words, "--project", "Moods of reviews", "--most", "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pushed"], found["there_already"]) == (5, 0)
    project = found["project"]
    again = deepseek.push_tasks(run.run, "new.csv", url=client.url, project=project)
    assert (again["pushed"], again["there_already"]) == (7, 5)
    assert deepseek.push_tasks(run.run, "new.csv", url=client.url, project=project)["pushed"] == 0
    tasks = json.loads(client.export(project))
    assert len(tasks) == 12
    config = client.config(project)
    control = re.search(r'<Choices name="(\w+)"', config).group(1)
    assert control == "mood"
    predictions = client._ask("GET", f"/api/predictions/?project={project}")
    assert len(predictions) == 12
    assert {one["result"][0]["value"]["choices"][0] for one in predictions} <= {"good", "bad"}
    said = lambda name: [{"from_name": "mood", "to_name": "text_", "type": "choices", "value": {"choices": [name]}}]  # noqa: E731
    annotate(client, project, lambda task: [said("good" if "good" in task["data"]["text"] else "bad")] * 2)
    assert main(["annotate", "pull", "--project", str(project), "--server", client.url, "-o", "export.json"]) == 0
    assert "mood: krippendorff_alpha" in capsys.readouterr().out
    for source in (
        {"type": "label_studio", "path": "export.json"},
        {"type": "label_studio", "url": client.url, "project": project},
    ):
        table = pa.Table.from_batches(list(open_source(source).read(columns=["text", "mood"])))
        assert table.num_rows == 12
        assert all(mood in text for text, mood in zip(table["text"].to_pylist(), table["mood"].to_pylist(), strict=True))


def test_every_kind_of_label_comes_back_as_it_was_given(client):
    text = "Ada met 🎉 Bo."
    project = client.create_project("Every kind", CONFIG)
    client.push(project, [{"data": {"text": text, "image": "https://example.org/x.png"}}])
    start = text.index("Bo")
    result = [
        {"from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["good", "bad"]}},
        *spans_result(text, [Span(0, 3, "PER"), Span(start, start + 2, "PER")], control="names", to="text"),
        *shapes_result([Box(10, 20, 30, 40, "car")], (200, 100), control="boxes", to="image"),
        *shapes_result([Polygon(((0.0, 0.0), (50.0, 0.0), (50.0, 25.0)), "sky")], (200, 100), control="areas", to="image"),
    ]
    annotate(client, project, lambda task: [result])
    export = client._send("GET", f"/api/projects/{project}/export?exportType=JSON_MIN", None, client._authorization()).decode()
    whole = open_source({"type": "label_studio", "url": client.url, "project": project})
    (row,) = pa.Table.from_batches(list(whole.read())).to_pylist()
    assert sorted(row["mood"]) == ["bad", "good"]
    assert row["names"] == [{"start": 0, "end": 3, "label": "PER"}, {"start": start, "end": start + 2, "label": "PER"}]
    box = row["boxes"][0]
    assert (box["x"], box["y"], box["width"], box["height"], box["label"]) == pytest.approx((10, 20, 30, 40, "car"))
    assert np.array(row["areas"][0]["points"]) == pytest.approx(np.array([[0, 0], [50, 0], [50, 25]]))
    small = read_export(export, controls=["mood", "names", "boxes", "areas"]).tasks[0]
    assert small.problems == []
    assert small.annotations[0].values["names"] == (Span(0, 3, "PER"), Span(start, start + 2, "PER"))
    assert set(small.annotations[0].values) == {"mood", "names", "boxes", "areas"}


def test_what_the_server_refuses_is_said(client, server):
    with pytest.raises(DataError, match="no such project"):
        client.export(999_999)
    with pytest.raises(InputError, match="refuses the token"):
        LabelStudio(server[0], "0" * 40).export(1)

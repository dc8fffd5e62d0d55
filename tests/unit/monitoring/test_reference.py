import json
import math

import numpy as np
import pyarrow as pa
import pytest

from deepseek.artifacts import Bundle, write_bundle
from deepseek.errors import BundleError
from deepseek.monitoring.reference import REFERENCE_FILE, ModelReference, make_reference


def test_what_is_written_is_read(document):
    reference = ModelReference.from_json(json.loads(json.dumps(document, allow_nan=False)))
    assert reference.to_json() == document
    assert list(reference.inputs) == ["age", "city", "note"]  # points in time go on by themselves
    assert list(reference.answers) == ["prediction", "confidence"]
    assert reference.metrics["accuracy"].value == pytest.approx(0.9, abs=0.02)
    assert reference.rows == {"inputs": 4000, "answers": 4000}


def test_it_is_small_and_holds_no_row(document):
    assert len(json.dumps(document)) < 20_000


def test_old_bundles_say_so(tmp_path):
    with write_bundle(tmp_path / "old", {"metrics.json": {}}):
        pass
    with pytest.raises(BundleError, match=r"no reference\.json"):
        ModelReference.load(Bundle.open(tmp_path / "old"))


@pytest.mark.parametrize(
    ("damage", "message"), [({"version": 2}, "version 2"), ({"rows": None}, "does not describe"), ({"inputs": {"a": {}}}, "not describe")]
)
def test_newer_and_damaged_ones_are_refused(document, damage, message, tmp_path):
    with write_bundle(tmp_path / "other", {REFERENCE_FILE: {**document, **damage}}):
        pass
    with pytest.raises(BundleError, match=message):
        ModelReference.load(Bundle.open(tmp_path / "other"))


def test_what_an_area_of_few_positives_was_measured_on_is_told_apart_from_its_rows(target):
    draw = np.random.default_rng(0)
    truth = draw.random(2000) < 0.05
    share = 1 / (1 + np.exp(-draw.normal(size=2000) - 1.2 * truth))
    said = np.array(["no", "yes"])[(share > 0.5) * 1]
    answers = pa.table({"prediction": said, "probability_no": 1 - share, "probability_yes": share})
    document = make_reference({}, target, answers, labels=np.array(["no", "yes"])[truth * 1].tolist())
    positives = int(truth.sum())
    assert document["metrics"]["auc"]["rows"] == 4 * positives * (2000 - positives) / 2000
    assert document["rows"]["answers"] == 2000
    found = ModelReference.from_json(document).metrics["auc"]
    first, second = found.value / (2 - found.value), 2 * found.value**2 / (1 + found.value)
    spread = (positives - 1) * (first - found.value**2) + (1999 - positives) * (second - found.value**2)
    whole = (found.value * (1 - found.value) + spread) / (positives * (2000 - positives))
    assert found.error == pytest.approx(math.sqrt(whole), rel=0.05)  # Hanley and McNeil's, of all rows at once

import json

import pytest

from deepseek.artifacts import Bundle, write_bundle
from deepseek.errors import BundleError
from deepseek.monitoring.reference import REFERENCE_FILE, ModelReference


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

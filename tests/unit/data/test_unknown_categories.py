import pyarrow as pa
import pytest

from deepseek.data.preparation import Preparation
from deepseek.data.transforms.category import CategoryTransform
from deepseek.data.unknown_categories import Unknown
from deepseek.fields import Field, Kind, Schema


def fitted(**arguments):
    transform = CategoryTransform([Field("town", Kind.CATEGORY)], **arguments)
    transform.observe(pa.record_batch({"town": ["Ulm", "Bonn", "Ulm"]}))
    transform.finish()
    return CategoryTransform([Field("town", Kind.CATEGORY)], **arguments).load_json(transform.to_json())


def test_values_that_training_did_not_know_are_counted():
    batch = pa.record_batch({"town": ["Ulm", "Rome", None, "Oslo"]})
    assert fitted().unknown(batch) == {"town": (2, 3)}
    assert fitted(encoding="one_hot").unknown(batch) == {"town": (2, 3)}


def test_a_cut_vocabulary_has_unknown_values_by_design():
    assert fitted(max_categories=1).unknown(pa.record_batch({"town": ["Bonn"]})) == {}


def test_a_warning_needs_more_than_a_tenth():
    unknown = Unknown()
    unknown.add({"town": (1, 5)})
    unknown.add({"town": (0, 5)})
    assert unknown.warnings("test rows") == []
    unknown.add({"town": (1, 1)})
    assert unknown.warnings("test rows")[0].startswith("18% of the values of 'town' in the test rows were never seen in training (2 of 11)")


@pytest.mark.parametrize(("texts", "told"), [(["a note", "another"], True), (["a note", None], False)])
def test_a_sense_that_no_training_row_lacked_and_others_do_is_counted(texts, told):
    """Of a text that some training rows lacked the network has learned what that means; of another it has not."""
    rows = pa.record_batch({"note": texts, "size": [1.0, None]})
    fitted = Preparation(Schema((Field("note", Kind.TEXT), Field("size", Kind.NUMBER)), ())).fit(lambda: iter([rows]))
    unknown = Unknown()
    Preparation.from_json(fitted.to_json()).watched(unknown).apply(pa.record_batch({"note": [None, None, "a note"], "size": [None] * 3}))
    said = [one for one in unknown.warnings("rows") if "every training row had one" in one]
    assert len(said) == told
    assert all(one.startswith("2 of 3 rows have no 'note'") for one in said)

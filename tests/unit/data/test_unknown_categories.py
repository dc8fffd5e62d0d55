import pyarrow as pa

from deepseek.data.transforms.category import CategoryTransform
from deepseek.data.unknown_categories import Unknown
from deepseek.fields import Field, Kind


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

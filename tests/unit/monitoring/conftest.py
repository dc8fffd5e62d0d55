"""A reference as a bundle has it, of a small table, and rows to watch."""

import numpy as np
import pyarrow as pa
import pytest

from deepseek.artifacts import Bundle, write_bundle
from deepseek.fields import Field, Kind
from deepseek.monitoring.outcomes import Target
from deepseek.monitoring.reference import REFERENCE_FILE, make_reference, sketch_inputs

TARGET = Target("binary", ("churned",), ("no", "yes"))
FIELDS = [Field("age", Kind.NUMBER), Field("city", Kind.CATEGORY), Field("note", Kind.TEXT), Field("since", Kind.TIMESTAMP)]


class Rows:
    """Rows, a model's answers (right with the probability that it says, less `gap`), and the truth."""

    def __init__(self, count, *, seed=0, shift=0.0, gap=0.0):
        draw = np.random.default_rng(seed)
        self.inputs = pa.table(
            {
                "age": draw.normal(40 + shift, 10, count),
                "city": draw.choice(["Oslo", "Rome", "Bern"], count),
                "note": ["x" * n for n in draw.integers(0, 50, count)],
            }
        )
        yes = draw.random(count) < 0.4
        sure = draw.uniform(0.8, 1.0, count)
        right = draw.random(count) < sure - gap
        probability = np.where(yes, sure, 1 - sure)
        names = np.array(["no", "yes"])
        self.answers = pa.table({"prediction": names[yes * 1], "probability_no": 1 - probability, "probability_yes": probability})
        self.truth = pa.array(names[np.where(right, yes, ~yes) * 1])
        self.ids = [f"{seed}-{n}" for n in range(count)]


def reference_document(rows=4000, **settings):
    known = Rows(rows, seed=10_000, **settings)
    return make_reference(sketch_inputs(known.inputs, FIELDS), TARGET, known.answers, labels=known.truth.to_pylist())


@pytest.fixture(scope="session")
def make_rows():
    return Rows


@pytest.fixture(scope="session")
def target():
    return TARGET


@pytest.fixture(scope="session")
def document():
    return reference_document()


@pytest.fixture(scope="session")
def bundle(document, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched") / "bundle"
    with write_bundle(folder, {REFERENCE_FILE: document}):
        pass
    return Bundle.open(folder)

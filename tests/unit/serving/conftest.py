"""Two small bundles: a table with a column of every kind, and photos."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import deepseek
from deepseek import serving

FAST = ["train.max_steps=2", "train.precision=fp32", "model={type: mlp, depth: 1, width: 8}"]


def people(rows=120, seed=0):
    random = np.random.default_rng(seed)
    age = random.integers(18, 80, rows)
    return pa.table(
        {
            "age": age,
            "income": random.normal(30_000, 9_000, rows).round(2),
            "city": random.choice(["Rome", "Oslo", "Lima"], rows),
            "floor": random.integers(0, 3, rows),
            "member": random.random(rows) < 0.5,
            "since": pa.array(np.datetime64("2020-01-01T00:00:00", "us") + random.integers(0, 10**9, rows) * 1_000_000),
            "note": [f"the customer number {n} is {w} with us" for n, w in enumerate(random.choice(["happy", "angry", "new"], rows))],
            "bought": np.where(age + random.normal(0, 5, rows) > 45, "yes", "no"),
        }
    )


@pytest.fixture(scope="session")
def people_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    kinds = ["data.fields={floor: category, member: binary, note: text}"]
    return deepseek.train(people(), target="bought", name="people", out=folder / "runs", overrides=[*FAST, *kinds]).run


@pytest.fixture(scope="session")
def other_run(people_run):
    """The same recipe again: another bundle of the same name."""
    return deepseek.train(
        people(seed=1), target="bought", name="people", out=people_run.parents[1],
        overrides=[*FAST, "data.fields={floor: category, member: binary, note: text}"],
    ).run  # fmt: skip


@pytest.fixture(scope="session")
def photos_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog")):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = random.integers(0, 120, (12, 12, 3), dtype=np.uint8)
            pixels[..., number] += 120
            Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.png")
    return deepseek.train(
        folder / "photos", name="photos", out=folder / "runs", overrides=["train.max_steps=2", "train.precision=fp32"]
    ).run


@pytest.fixture
def app(people_run):
    return serving.make_app(people_run, settings={"read_timeout": "200ms", "max_body": "100kB", "max_rows": 500})


@pytest.fixture
def table():
    return people()

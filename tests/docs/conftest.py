"""Data for the pages: a folder with the files that their examples name."""

import importlib
import os

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

from deepseek.data.examples.customers import customers


def write_customers(folder, rows=240):
    whole = customers(rows)
    pa.csv.write_csv(whole, folder / "customers.csv")
    pa.csv.write_csv(whole.slice(0, 50).drop_columns(["churned"]), folder / "new_customers.csv")
    pa.csv.write_csv(whole.slice(120), folder / "more_customers.csv")
    (folder / "parts").mkdir()
    for number in range(2):
        pa.csv.write_csv(whole.slice(120 * number, 120), folder / "parts" / f"{number}.csv")
    pa.csv.write_csv(pa.table({"code": ["IT", "NO", "PE"], "inhabitants": [58_900_000, 5_600_000, 34_200_000]}), folder / "countries.csv")


def write_photos(folder, size=24, each=12):
    random = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog")):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(each):
            pixels = random.integers(0, 120, (size, size, 3), dtype=np.uint8)
            pixels[..., number] += 120
            Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.png")


@pytest.fixture
def page_folder(tmp_path, monkeypatch, plugins_forgotten):
    before = dict(os.environ)
    write_customers(tmp_path)
    write_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    os.environ.clear()  # pages set keys in it
    os.environ.update(before)


_TAKERS_OF_RESOLVE = ("deepseek.pipeline.planning.plan", "deepseek.pipeline.preview", "deepseek.pipeline.tune")


@pytest.fixture
def short_training(monkeypatch):
    """A few steps in float32 wherever a page trains: what is tested is that the examples work, not what they reach."""
    takers = [importlib.import_module(name) for name in _TAKERS_OF_RESOLVE]  # now: one that a page loads would keep the replacement
    run = importlib.import_module("deepseek.pipeline.run")  # the package's attribute of this name is the function
    resolve = run.resolve

    def few_steps(recipe, dataset):
        given = recipe.with_decisions({"train.max_steps": (2, "a page's example"), "train.precision": ("fp32", "a page's example")})
        return resolve(given, dataset)

    for module in (run, *takers):
        monkeypatch.setattr(module, "resolve", few_steps)

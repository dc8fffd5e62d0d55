"""Data for the pages: a folder with the files that their examples name."""

import importlib

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

CITIES = {"Rome": "IT", "Oslo": "NO", "Lima": "PE"}


def write_customers(folder, rows=240):
    random = np.random.default_rng(0)
    age = random.integers(18, 80, rows).astype(float)
    city = random.choice(list(CITIES), rows)
    table = {
        "customer_id": [f"c{number:04d}" for number in range(rows)],
        "age": [None if number % 40 == 7 else value for number, value in enumerate(age)],
        "income": random.lognormal(10, 0.5, rows).round(2),
        "city": city,
        "country": [CITIES[name] for name in city],
        "plan": random.choice(["free", "basic", "pro"], rows),
        "email": [f"user{number}@example.org" if number % 60 != 11 else "unknown" for number in range(rows)],
        "signed_up": [f"2024-{1 + number % 12:02d}-{1 + number % 28:02d}" for number in range(rows)],
        "visits": random.poisson(6, rows),
        "note": [["<b>called</b> twice", "wrote  a mail", "visited https://example.org", "moved"][number % 4] for number in range(rows)],
        "spend": (age * 3 + random.normal(0, 20, rows)).round(2),
        "churned": np.where(age + 20 * (city == "Oslo") + random.normal(0, 8, rows) > 50, "yes", "no"),
    }
    whole = pa.table(table)
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
def page_folder(tmp_path, monkeypatch):
    write_customers(tmp_path)
    write_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def short_training(monkeypatch):
    """A few steps in float32 wherever a page trains: what is tested is that the examples work, not what they reach."""
    run = importlib.import_module("deepseek.pipeline.run")  # the package's attribute of this name is the function
    resolve = run.resolve

    def few_steps(recipe, dataset):
        given = recipe.with_decisions({"train.max_steps": (2, "a page's example"), "train.precision": ("fp32", "a page's example")})
        return resolve(given, dataset)

    monkeypatch.setattr(run, "resolve", few_steps)

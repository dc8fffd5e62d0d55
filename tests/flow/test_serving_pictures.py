"""Detectors and segmentations over HTTP: a picture goes in, boxes or a mask come out as JSON."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io

import httpx
import numpy as np
import pytest
from PIL import Image

import deepseek
from deepseek import serving
from deepseek.data.volumes import write_volume

pytest.importorskip("nibabel")
TRAIN = {"epochs": 1, "batch_size": 4, "precision": "fp32", "channels_last": False}


def write_pictures(folder):
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "boxes"):
        (folder / name).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((24, 30), np.uint8)
        top, left = rng.integers(0, 12, 2)
        mask[top : top + 9, left : left + 11] = 200
        for name in ("images", "boxes"):
            Image.fromarray(mask).save(folder / name / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}.png")
        (folder / "boxes" / f"{number:02}.txt").write_text(f"{left} {top} {left + 11} {top + 9} block")
    return folder


def file_of(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def ask_app(app, method, path, **arguments):
    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://models") as client:
            return await client.request(method, path, **arguments)

    return asyncio.run(main())


def asked(app, name, content, field="image"):
    """Ask by a form and by base64 in JSON, and return the one answer that both give."""
    address = f"/v1/models/{name}/predict"
    form = ask_app(app, "POST", address, files={field: content})
    text = ask_app(app, "POST", address, json={field: base64.b64encode(content).decode()})
    assert (form.status_code, text.status_code) == (200, 200), form.text
    assert form.json()["prediction"] == text.json()["prediction"]
    return form.json()["prediction"]


def test_a_detector_answers_with_boxes(pictures, tmp_path):
    recipe = {
        "name": "blocks",
        "data": {"source": {"type": "box_files", "path": str(pictures / "boxes"), "form": "pixels"}, "target": "boxes"},
        "model": {"type": "detector", "width": 0.25, "depth": 0.5},
        "task": {"type": "detection", "least_score": 0.0, "most": 5},
        "train": TRAIN,
    }
    run = deepseek.run(recipe, out=tmp_path / "runs")
    app = serving.make_app(run)
    content = (pictures / "images" / "00.png").read_bytes()
    boxes = asked(app, "blocks", content)
    (wanted,) = deepseek.load(run).predict(str(pictures / "images" / "00.png"))["prediction"].to_pylist()
    assert len(boxes) == len(wanted) == 5
    assert list(boxes[0]) == ["left", "top", "right", "bottom", "label", "score"]
    assert boxes[0]["label"] == "block"
    assert [one["score"] for one in boxes] == pytest.approx([one["score"] for one in wanted], abs=1e-5)
    assert max(len(str(one["score"])) for one in boxes) < 13, "float32 numbers are spelled as such"
    bad = ask_app(app, "POST", "/v1/models/blocks/predict", files={"image": b"no picture"})
    assert bad.status_code == 422
    described = ask_app(app, "GET", "/v1/models/blocks").json()["answer"]["properties"]["prediction"]
    assert set(described["items"]["properties"]) == set(boxes[0])


def test_a_segmentation_answers_with_a_mask_of_the_pictures_size(pictures, tmp_path):
    recipe = {
        "name": "cells",
        "data": {"source": {"type": "masks", "path": str(pictures)}, "target": "mask"},
        "model": {"type": "unet", "width": 4, "depth": 1},
        "train": TRAIN,
    }
    run = deepseek.run(recipe, out=tmp_path / "runs")
    larger = file_of(Image.open(pictures / "images" / "00.png").resize((41, 37)))
    mask = asked(serving.make_app(run), "cells", larger)
    assert mask["shape"] == [37, 41]
    found = np.array(mask["data"]).reshape(mask["shape"])
    assert set(np.unique(found)) <= {0, 200}
    (tmp_path / "one.png").write_bytes(larger)
    (wanted,) = deepseek.masks_in(deepseek.load(run).predict(str(tmp_path / "one.png")))
    assert np.array_equal(found, wanted)


def test_a_volume_is_sent_as_a_file_and_answered_whole(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "scans" / name).mkdir(parents=True)
    for number in range(10):
        values = rng.normal(0, 1, (8, 9, 7)).astype(np.float32)
        write_volume(tmp_path / "scans" / "images" / f"{number}.nii.gz", values)
        write_volume(tmp_path / "scans" / "masks" / f"{number}.nii.gz", (values > 0).astype(np.uint8))
    recipe = {
        "name": "scans",
        "data": {"source": str(tmp_path / "scans"), "target": "mask"},
        "model": {"type": "unet3d", "width": 4, "depth": 1},
        "train": TRAIN,
    }
    run = deepseek.run(recipe, out=tmp_path / "runs")
    app = serving.make_app(run)
    write_volume(tmp_path / "large.nii.gz", rng.normal(0, 1, (8, 20, 11)).astype(np.float32))
    content = (tmp_path / "large.nii.gz").read_bytes()
    mask = asked(app, "scans", content)
    (wanted,) = deepseek.masks_in(deepseek.load(run).predict(str(tmp_path / "large.nii.gz")))
    assert np.array_equal(np.array(mask["data"]).reshape(mask["shape"]), wanted)
    assert asked(app, "scans", gzip.decompress(content)) == mask
    for wrong in (b"no volume", content[:40], content[:-20]):
        answer = ask_app(app, "POST", "/v1/models/scans/predict", files={"image": wrong})
        assert answer.status_code == 422, answer.text

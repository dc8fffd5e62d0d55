"""The try-it page in a real browser: form, bars, errors at their field, key, themes, telephone; nothing asked of anybody else."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import deepseek

KEY = "a-key-of-sixteen-or-more"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("page"), np.random.default_rng(0)
    age = draw.normal(40, 12, 200).round(1)
    table = pa.table(
        {
            "age": age,
            "city": draw.choice(["Rome", "Oslo", "<b>Lima</b>"], 200),
            "member": draw.random(200) < 0.5,
            "bought": np.select([age < 35, age < 45], ["no", "<i>maybe</i>"], "yes"),
        }
    )
    fast = ["train.max_steps=30", "train.precision=fp32"]
    shop = deepseek.train(table, target="bought", name="shop", out=folder / "runs", overrides=[*fast, "data.fields={member: binary}"]).run
    for number, name in enumerate(("cat", "dog")):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = draw.integers(0, 120, (12, 12, 3), dtype=np.uint8)
            pixels[..., number] += 120
            Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.png")
    photos = deepseek.train(folder / "photos", name="photos", out=folder / "runs", overrides=fast).run
    return shop, photos, folder / "photos" / "cat" / "0.png"


@contextlib.contextmanager
def serving(*arguments, keys=""):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "deepseek", "serve", *map(str, arguments), "--port", str(port), "--no-optimize"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, "DEEPSEEK_KEYS": keys})
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            assert process.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def server(runs):
    with serving(runs[0], runs[1]) as url:
        yield url


def opened(browser, url, **options):
    page = browser.new_context(**options).new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    return page, said, asked


def test_a_row_is_tried_and_its_bars_drawn(browser, server):
    page, said, asked = opened(browser, server)
    page.get_by_label("age", exact=True).fill("70")
    page.get_by_label("city", exact=True).fill("Atlantis")
    page.get_by_role("button", name="Answer").click()
    page.wait_for_selector(".prediction")
    prediction = page.locator(".prediction").inner_text()
    names, shares = (page.locator(f".bars {part}").all_inner_texts() for part in ("[role=cell]:not(.share)", ".share"))
    assert sorted(names) == ["<i>maybe</i>", "no", "yes"]
    assert prediction == names[0]
    numbers = [float(share.removesuffix(" %")) for share in shares]
    assert sum(numbers) == pytest.approx(100, abs=0.3)
    assert numbers == sorted(numbers, reverse=True)
    width = page.locator(".bar").first.bounding_box()["width"] / page.locator(".track").first.bounding_box()["width"]
    assert 100 * width == pytest.approx(numbers[0], abs=1)
    assert said == []
    assert all(url.startswith(server) for url in asked)
    assert '"age":70' in page.locator("#command").text_content()


def test_a_bad_value_is_marked_at_its_field(browser, server):
    page, _, _ = opened(browser, server)
    page.get_by_label("age", exact=True).fill("1e39")
    page.get_by_role("button", name="Answer").click()
    page.wait_for_selector(".callout.error")
    assert "the field 'age'" in page.locator(".callout.error").inner_text()
    assert page.get_by_label("age", exact=True).get_attribute("aria-invalid") == "true"
    assert "finite number" in page.locator(".wrong:visible").inner_text()


def test_another_model_with_a_picture(browser, server, runs):
    page, said, _ = opened(browser, server)
    page.get_by_label("Model").select_option("photos")
    page.locator("input[type=file]").set_input_files(runs[2])
    page.get_by_role("button", name="Answer").click()
    page.wait_for_selector(".prediction")
    assert page.locator(".prediction").inner_text() in ("cat", "dog")
    assert said == []


def test_a_key_is_asked_for_and_used(browser, runs):
    with serving(runs[0], keys=KEY) as url:
        page, _, _ = opened(browser, url)
        page.locator("#about", has_text="key").wait_for()  # the page's policy lets nobody evaluate texts again and again
        assert page.get_by_label("age", exact=True).count() == 0
        page.get_by_label("Key").fill(KEY)
        page.get_by_label("Key").press("Tab")
        page.get_by_label("age", exact=True).wait_for()
        page.get_by_role("button", name="Answer").click()
        page.wait_for_selector(".prediction")
        assert KEY not in page.locator("#command").text_content()


def test_a_telephone_does_not_scroll_sideways_and_both_themes_are_legible(browser, server):
    for scheme in ("light", "dark"):
        page, _, _ = opened(browser, server, viewport={"width": 360, "height": 740}, color_scheme=scheme)
        page.get_by_role("button", name="Answer").click()
        page.wait_for_selector(".prediction")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        back, text = (page.evaluate(f"getComputedStyle(document.body).{what}") for what in ("backgroundColor", "color"))
        lightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, text)]
        assert (lightness[0] > lightness[1]) == (scheme == "light")
        assert abs(lightness[0] - lightness[1]) > 400

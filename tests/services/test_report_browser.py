"""The report in a real browser: no error, no sideways scrolling on a telephone, legible in both themes, whole without script."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek

LEAST_CONTRAST = """() => {
  const parse = (text) => { const c = text.match(/[\\d.]+/g).map(Number); return {rgb: c.slice(0, 3), a: c.length > 3 ? c[3] : 1}; };
  const light = (rgb) => { const v = rgb.map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const behind = (node) => { for (; node; node = node.parentElement) { const back = parse(getComputedStyle(node).backgroundColor);
    if (back.a > 0.99) return back.rgb; } return [255, 255, 255]; };
  let worst = [99, ""];
  const see = (value, what) => { if (value < worst[0]) worst = [value, what]; };
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
    if (!node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    see(ratio(parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color).rgb, behind(node)), node.textContent.slice(0, 40));
  }
  for (const cell of document.querySelectorAll("svg .heat, svg .below")) {
    see(ratio(parse(getComputedStyle(cell).fill).rgb, parse(getComputedStyle(document.body).color).rgb), "a cell of a heat map");
  }
  return worst;
}"""
LEAST_DRAWN = """() => { const probe = document.createElement("i"); document.body.append(probe); const found = [];
  for (let place = 0; place < 6; place++) { probe.style.color = `var(--c${place})`; found.push(getComputedStyle(probe).color); }
  probe.remove(); return [found, getComputedStyle(document.body).backgroundColor]; }"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with every kind of part: three classes of images beside a table, with a warning."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    x, city = random.standard_normal(600), random.choice(["a rather long name of a town", "b", "<script>window.ran = 1</script>"], 600)
    y = np.where((city == "b") & (random.random(600) < 0.7), "maybe", np.where(x > 0, "yes", "no"))
    pa.csv.write_csv(pa.table({"x": x, "city": city, "y": y, "constant": np.ones(600)}), folder / "job.csv")
    overrides = ["train.max_steps=60", "model={type: mlp, width: 32}"]
    return deepseek.report(
        deepseek.train(folder / "job.csv", target="y", out=folder / "runs", overrides=overrides, progress=False).run
    ).output


def opened(browser, path: Path, **options):
    context = browser.new_context(**options)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    return page, said, asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 360])
def test_it_is_legible_and_nothing_scrolls_sideways(browser, report, scheme, width):
    page, said, asked = opened(browser, report, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    worst, where = page.evaluate(LEAST_CONTRAST)
    assert worst >= 4.5, where
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_a_series_stands_out(browser, report, scheme):
    page, _, _ = opened(browser, report, color_scheme=scheme)
    colours, back = page.evaluate(LEAST_DRAWN)

    def light(text):
        parts = [int(part) / 255 for part in text.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in colours:
        high, low = sorted((light(colour), light(back)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_the_theme_is_switched_and_remembered(browser, report):
    page, _, _ = opened(browser, report, color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("button.theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    until = time.monotonic() + 30
    page.reload()
    while page.evaluate("getComputedStyle(document.body).backgroundColor") == before:  # a busy browser keeps it a little later
        assert time.monotonic() < until
        page.reload()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_click_on_a_heading_sorts(browser, report):
    page, _, _ = opened(browser, report)
    table = page.locator("table.sortable").filter(has_text="precision").first
    column = "(table) => [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.value))"
    table.locator("th button").nth(1).click()
    down = table.evaluate(column)
    table.locator("th button").nth(1).click()
    assert down == sorted(down, reverse=True)
    assert table.evaluate(column) == sorted(down)


def test_without_script_everything_is_there_but_the_buttons(browser, report):
    page, said, _ = opened(browser, report, java_script_enabled=False)
    assert page.locator("h2").count() >= 8
    assert page.locator("svg[role=img]").count() >= 4
    assert page.locator("button:visible").count() == 0
    assert said == []


def test_a_script_that_came_in_would_not_run(browser, report, tmp_path):
    hostile = tmp_path / "hostile.html"
    page = report.read_text(encoding="utf-8").replace(
        "</main>", "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'></main>"
    )
    hostile.write_text(page, encoding="utf-8")
    page, said, _ = opened(browser, hostile)
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in said)

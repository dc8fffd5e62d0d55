"""The page of a preview: what the network will see, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.reporting.charts import Bar, bars
from deepseek.reporting.html import Html, element
from deepseek.reporting.numbers import number, percent, size
from deepseek.reporting.page import (
    Page,
    Tile,
    callout,
    cards,
    charts,
    details,
    facts,
    heading,
    items,
    paragraph,
    picture,
    shortened,
    table,
    tiles,
)

Facts = Mapping[str, Any]


def preview_page(
    preview: Facts, *, pictures: Mapping[str, Sequence[Sequence[bytes]]] | None = None, labels: Sequence[Sequence[str]] = ()
) -> str:
    """Return the page of a preview as one HTML document.

    Args:
        preview: What `deepseek.preview` returns.
        pictures: By input of images, each image as PNG: as stored, then as it may be changed.
        labels: What the target of each picture is, where rows are mixed.
    """
    page = Page(f"Preview of {preview['name']}", subtitle="what the network will see; nothing was trained")
    page.section("Overview", _overview(preview), *[callout(warning, kind="warning") for warning in preview["warnings"]])
    page.section("Target", *_target(preview["target"]))
    page.section("Row by row", *[_row(row, preview["target"]) for row in preview["rows"]], note=_ROWS_NOTE)
    for name, images in (pictures or {}).items():
        page.section(f"Images: {name}", *_images(images, preview["batch"]["augmented"], labels))
    page.section("Inputs", _inputs(preview["inputs"]))
    page.section("The first training batch", *_batch(preview["batch"]))
    page.section("Network", *_network(preview["network"]))
    page.section("What was chosen", _choices(preview["choices"]))
    return page.render()


_ROWS_NOTE = (
    "The first rows of the first training batch. Left to right: as it stands in the source after the checks; after the cleaners; as the "
    "encoders meet it, after transforms and scaling. What does not change is left empty."
)


def _overview(preview: Facts) -> Html:
    splits, batch, network = preview["splits"], preview["batch"], preview["network"]
    figures = [Tile(f"{name} rows", rows) for name, rows in splits.items()]
    figures += [
        Tile("rows in a batch", batch["rows"], f"{batch['steps_an_epoch']:,} steps an epoch"),
        Tile("memory of a batch", size(batch["size_bytes"])),
        Tile("parameters", network["parameters"], f"{size(network['size_bytes'])} in float32"),
    ]
    return tiles(figures)


def _target(target: Facts) -> list[Html]:
    head = facts([("column", ", ".join(target["columns"])), ("kind", target["kind"]), ("training rows", target["rows"])])
    if target["kind"] == "values":
        spread = [list(line) for line in zip(target["columns"], target["mean"], target["std"], strict=True)]
        return [
            head,
            paragraph(f"Coded {target['coded']}."),
            table(["column", "mean", "standard deviation"], spread),
        ]
    classes = target["classes"]
    weighted = any(item["weight"] is not None for item in classes)
    lines = [[item["name"], item["code"], item["rows"], *([item["weight"]] if weighted else [])] for item in classes]
    total = max(sum(item["rows"] for item in classes), 1)
    drawn = bars([Bar(item["name"], item["rows"] / total) for item in classes[:20]], title="balance in the training rows", as_percent=True)
    return [head, charts(table(["class", "code", "training rows", *(["weight"] if weighted else [])], lines), drawn)]


def _row(row: Facts, target: Facts) -> Html:
    names = list(dict.fromkeys([*row["raw"], *row["cleaned"], *row["ready"]]))
    lines = []
    for name in names:
        raw, cleaned = row["raw"].get(name), row["cleaned"].get(name)
        same = name not in row["cleaned"] or cleaned == raw
        is_new = name not in row["raw"] and name in row["cleaned"]
        shown = _met(row["ready"][name]) if name in row["ready"] else _left(name, target)
        lines.append([name, _shown(raw) if name in row["raw"] else "", "" if same and not is_new else _shown(cleaned), shown])
    coded = f"coded {row['target']}" if not isinstance(row["target"], float) else f"coded {number(row['target'])}"
    title = f"row {row['row']:,} of the source"
    return join_parts(heading(title), table(["column", "raw", "cleaned", "as the network meets it"], lines), paragraph(f"Target: {coded}."))


def join_parts(*parts: Html) -> Html:
    """Return parts in a block of their own."""
    return element("div", *parts)


def _left(name: str, target: Facts) -> str:
    return "the target" if name in target["columns"] else "not an input by itself"


def _shown(value: object) -> object:
    return "missing" if value is None else shortened(str(value))


def _met(value: object) -> object:
    if isinstance(value, Mapping) and "tokens" in value:
        cut = f" (cut at {value['most']:,})" if value["length"] >= value["most"] else ""
        marked = [element("code", token) for token in value["tokens"]]
        spaced = [part for token in marked for part in (token, " ")]
        return element("span", f"{value['length']:,} tokens{cut}: ", *spaced, "…" if value["length"] > len(value["tokens"]) else "")
    if isinstance(value, Mapping):
        return f"{value['shape']}, {number(value.get('min'))} to {number(value.get('max'))}, mean {number(value.get('mean'))}"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _images(images: Sequence[Sequence[bytes]], augmented: Sequence[str], labels: Sequence[Sequence[str]]) -> list[Html]:
    if not augmented:
        made = [picture(drawn[0], "image/png", description="an image as it is stored", width=112) for drawn in images]
        return [paragraph("As they are stored; the recipe changes none of them."), cards(made)]
    said = paragraph(f"First as stored, then as the first step of each epoch would change it: {', '.join(augmented)}.")
    words = ["as stored", *(f"epoch {epoch}" for epoch in range(max(map(len, images)) - 1))]
    lines: list[list[object]] = []
    for row, drawn in enumerate(images):
        lines.append([picture(image, "image/png", description=word, width=112) for image, word in zip(drawn, words, strict=True)])
        if labels:
            lines.append(list(labels[row]))
    return [said, table(words, lines, head_first=False)]


def _inputs(inputs: Sequence[Facts]) -> Html:
    lines = []
    for item in inputs:
        columns = shortened(", ".join(item["columns"]), 120)
        codes = shortened(", ".join(map(str, item["codes"])), 60)
        lines.append([item["name"], item["kind"], columns, item["stored"], item["after"], codes, item["encoder"]])
    return table(["input", "kind", "columns", "stored", "after the graph transforms", "codes a column", "encoder"], lines)


def _batch(batch: Facts) -> list[Html]:
    lines = []
    for item in batch["tensors"]:
        spread = [item.get(key) for key in ("min", "mean", "max")]
        lines.append([item["name"], str(item["shape"]), item["dtype"], size(item["size_bytes"]), *spread])
    notes = [f"{name}: {percent(share)} of the places are padding" for name, share in batch["padding"].items()]
    notes += [f"augmented by {', '.join(batch['augmented'])}"] if batch["augmented"] else []
    return [table(["tensor", "shape", "type", "memory", "min", "mean", "max"], lines), items(notes)]


def _network(network: Facts) -> list[Html]:
    lines = [[part["part"], part["what"], part["parameters"], part["trainable"]] for part in network["parts"]]
    lines.append(["all", "", network["parameters"], network["trainable"]])
    shares = [Bar(part["part"], part["parameters"]) for part in network["parts"] if part["parameters"]]
    return [charts(table(["part", "class", "parameters", "trained"], lines), bars(shares, title="parameters by part"))]


def _choices(choices: Facts) -> Html:
    lines = [[path, shortened(str(item["value"]), 160), item["reason"]] for path, item in choices.items()]
    return details(f"{len(lines)} values that the recipe left open", table(["key", "value", "why"], lines)) if lines else Html()

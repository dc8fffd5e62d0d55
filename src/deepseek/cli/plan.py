"""`deepseek plan`: what a run will take, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides, RecipePath
from deepseek.cli.output import Output, as_table
from deepseek.reporting.numbers import binary_size, seconds

DOES_NOT_FIT = 4
"""The exit status where memory or disk would not suffice."""


def plan_verb(
    recipe: RecipePath,
    *,
    devices: Annotated[int | None, typer.Option("--devices", metavar="N", help="How many devices there are.")] = None,
    device_memory: Annotated[
        str | None, typer.Option("--device-memory", metavar="SIZE", help="Memory of a device that is not here: 16GB.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Time a few steps, or reckon the time.")] = True,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    out: Out = "runs",
    as_json: Json = False,
) -> Output:
    """Say what a run will take of memory, time, devices and disk; train nothing."""
    progress.quiet(as_json)
    planned = deepseek.plan(recipe, overrides=overrides, out=out, devices=devices, device_memory=device_memory, measure=measure)
    return Output(planned, _text(planned), 0 if planned["fits"] and planned["disk"]["fits"] else DOES_NOT_FIT)


def _text(planned: Mapping[str, Any]) -> str:
    memory, batch, time, devices, disk = (planned[name] for name in ("memory", "batch", "time", "devices", "disk"))
    parts = [(part["part"], binary_size(part["bytes"]), part["why"]) for part in memory["parts"]]
    peak = ("at the highest moment", binary_size(memory["peak_bytes"]), memory["highest"])
    prepared = binary_size(disk["prepared_bytes"])
    where = "one device" if devices["asked"] == 1 else f"{devices['asked']} devices"
    rest = [
        ("parameters", f"{planned['parameters']['all']:,}", f"{planned['parameters']['trained']:,} of them trained"),
        ("batch", f"{batch['size']:,} rows", batch["why"]),
        ("time", seconds(time["seconds"]), f"{time['steps']:,} steps of {seconds(time['step_s'])} on {where}, {time['how']}"),
        ("devices", str(devices["recommended"]), devices["why"]),
        ("disk", binary_size(disk["checkpoints_bytes"] + disk["bundle_bytes"]), f"beside {prepared} of prepared data"),
    ]
    said = [f"{planned['name']}: {planned['model']} for {planned['task']}, {planned['rows']:,} training rows", ""]
    said += [as_table([("memory", "", "why"), *parts, peak]), "", as_table(rest), ""]
    if len(devices["scaling"]) > 1:
        scaled = [_scaled(one) for one in devices["scaling"]]
        said += [as_table([("devices", "rows each", "step", "speed", "memory of each", "fits"), *scaled]), ""]
    if planned["changes"]:
        changes = [_change(one) for one in planned["changes"]]
        said += [as_table([("change", "memory", "", ""), *changes]), ""]
    if not disk["fits"]:
        said.append(f"the disk does not suffice: {binary_size(disk['free_bytes'])} are free")
    return "\n".join([*said, planned["sentence"]])


def _scaled(one: Mapping[str, Any]) -> tuple[str, ...]:
    step, speed = seconds(one["step_s"]), f"{one['speedup']:.2f}"
    return str(one["devices"]), f"{one['rows']:,}", step, speed, binary_size(one["peak_bytes"]), "yes" if one["fits"] else "no"


def _change(one: Mapping[str, Any]) -> tuple[str, ...]:
    return one["change"], binary_size(one["peak_bytes"]), "fits" if one["fits"] else "not enough", one["what"]

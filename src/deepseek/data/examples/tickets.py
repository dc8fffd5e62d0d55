"""Support tickets: a text, a screenshot and what the shop knows of the customer; which team is to answer?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image, ImageDraw

from deepseek.data.examples.paths import free

TEAMS = ("billing", "delivery", "technical")
_CLEAR = {
    "billing": ["My invoice shows {n} items I never bought", "You charged my card {n} times", "Where is my refund for order {n}?"],
    "delivery": ["Parcel {n} has not arrived", "The courier left my {n} boxes in the rain", "Tracking says delivered, but I have nothing"],
    "technical": ["The app crashes since version {n}", "I cannot log in, error {n}", "The screen stays white after the update"],
}
_VAGUE = ["Please help, this is the {n}th time", "It happened again, see the picture", "Nobody answers my mail from {n} days ago"]
_COLOURS = {"billing": (40, 160, 70), "delivery": (200, 140, 30), "technical": (60, 90, 210)}
CLEAR, TELLING = 0.6, 0.5
"""The share of texts that name the problem, and of screenshots whose bar has the colour of the team's page."""


def write_tickets(folder: Path, *, rows: int = 1_500, seed: int = 0) -> Path:
    """Write `tickets/tickets.csv` and its screenshots: `message`, `screenshot` (a path), `plan`, `orders`, `days_since_order` and `team`.

    No column is enough by itself: six texts in ten name the problem, every second screenshot shows the team's colour, one in ten is
    missing, and late orders are more often the delivery's.
    """
    home = free(folder / "tickets")
    (home / "screenshots").mkdir(parents=True)
    random = np.random.default_rng(seed)
    table: dict[str, list[object]] = {name: [] for name in ("message", "screenshot", "plan", "orders", "days_since_order", "team")}
    for number in range(rows):
        team = TEAMS[int(random.integers(3))]
        forms = _CLEAR[team] if random.random() < CLEAR else _VAGUE
        shown = team if random.random() < TELLING else TEAMS[int(random.integers(3))]
        path = f"screenshots/{number:05d}.png"
        _screenshot(_COLOURS[shown], random).save(home / path)
        days = random.exponential(12.0 if team == "delivery" else 4.0)
        row = (str(random.choice(forms)).format(n=random.integers(2, 90)), path, str(random.choice(["free", "pro"])))
        for column, value in zip(table, (*row, int(random.poisson(3)), round(float(days), 1), team), strict=True):
            table[column].append(value)
    table["screenshot"] = [None if random.random() < 0.1 else path for path in table["screenshot"]]
    pa.csv.write_csv(pa.table(table), home / "tickets.csv")
    return home / "tickets.csv"


def _screenshot(bar: tuple[int, int, int], random: np.random.Generator, *, side: int = 32) -> Image.Image:
    """Return a page with a coloured bar on top and lines of grey under it."""
    image = Image.fromarray(random.integers(225, 256, (side, side, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, side, 6), fill=tuple(int(np.clip(part + random.integers(-30, 31), 0, 255)) for part in bar))
    for top in range(10, side - 4, 5):
        draw.rectangle((3, top, 3 + int(random.integers(6, side - 8)), top + 1), fill=(170, 170, 170))
    return image

"""Small pictures of shapes, in a folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from deepseek.data.examples.paths import free

SHAPES = ("circle", "square", "triangle")
SIDE = 32


def picture(shape: str, random: np.random.Generator, *, side: int = SIDE) -> Image.Image:
    """Return a picture `[side, side]` in RGB: one shape of any colour, size and place, on a noisy ground.

    Args:
        shape: `circle`, `square` or `triangle`.
        random: Decides the rest.
        side: Height and width in pixels.
    """
    ground = random.integers(0, 110, 3) + random.integers(-25, 26, (side, side, 3))
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    radius = random.uniform(0.16, 0.36) * side
    x, y = random.uniform(radius, side - radius, 2)
    colour = tuple(int(part) for part in random.integers(120, 256, 3))
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        draw.regular_polygon((x, y, radius), n_sides=4 if shape == "square" else 3, rotation=int(random.integers(0, 360)), fill=colour)
    return image


def write_photos(folder: Path, *, rows: int = 1_500, seed: int = 0) -> Path:
    """Write `photos/CLASS/NUMBER.png`, the classes in turn."""
    home = free(folder / "photos")
    random = np.random.default_rng(seed)
    for number in range(rows):
        shape = SHAPES[number % len(SHAPES)]
        (home / shape).mkdir(parents=True, exist_ok=True)
        picture(shape, random).save(home / shape / f"{number:05d}.png")
    return home

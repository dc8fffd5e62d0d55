"""A long table of two shops, as forecasts are made of: sales that follow the price and the hour, and a little noise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

HOURS = 240
SHOPS = ("north", "south")


def sales(hours: int = HOURS, *, seed: int = 0, shops: tuple[str, ...] = SHOPS) -> pa.Table:
    """Return sales, price (known ahead), visitors (observed) and region (static) of each shop, hour by hour."""
    draw = np.random.default_rng(seed)
    parts = []
    for place, shop in enumerate(shops):
        hour = np.arange(hours)
        price = draw.choice([1.0, 2.0, 3.0], hours)
        visitors = 20 + 5 * np.sin(hour / 24 * 2 * np.pi) + draw.normal(size=hours)
        sold = 100 * (place + 1) + 10 * np.sin(hour / 24 * 2 * np.pi) - 5 * price + draw.normal(size=hours)
        time = np.datetime64("2024-01-01T00", "h") + hour
        columns = {
            "time": pa.array(time.astype("datetime64[us]")),
            "shop": pa.array([shop] * hours),
            "sold": pa.array(sold),
            "price": pa.array(price),
            "visitors": pa.array(visitors),
            "region": pa.array(["hill" if place else "coast"] * hours),
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts).combine_chunks()


def asked(*, seed: int = 0) -> pa.Table:
    """Return sales of which the last three hours of each shop are not known, as they are when a forecast is asked for."""
    table = sales(seed=seed)
    sold = [value if place % HOURS < HOURS - 3 else None for place, value in enumerate(table["sold"].to_pylist())]
    visitors = [value if place % HOURS < HOURS - 3 else None for place, value in enumerate(table["visitors"].to_pylist())]
    for name, values in (("sold", sold), ("visitors", visitors)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    return table


def recipe(source: str, **task: object) -> dict[str, object]:
    """Return a recipe for these sales: three hours ahead from the last twelve."""
    return {
        "name": "sales",
        "data": {
            "source": source,
            "time": "time",
            "series": "shop",
            "target": "sold",
            "known": ["price", "time"],
            "static": ["region", "shop"],
        },
        "task": {"type": "forecasting", "horizon": 3, "context_length": 12, **task},
        "model": {"type": "nlinear"},
        "train": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
    }

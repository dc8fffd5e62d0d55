"""A shop's tables: its customers, what they ordered and sent back, and the question who will buy nothing any more."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from deepseek.data.examples.paths import free

START, DAYS, QUIET_DAYS = datetime(2023, 1, 1), 540, 60
"""When the shop opens, for how long, and after how many days without an order a customer is said to have left."""
_GROUPS = {"books": 14.0, "garden": 35.0, "toys": 22.0, "music": 60.0}
RECIPE = """name: shop
data:
  source:
    type: related_tables
    target_table: customers
    tables:
      customers: {source: customers.csv, index: customer_id, time: joined}
      orders: {source: orders.csv, index: order_id, time: placed_at, later: {returned: decided_at}}
      items: {source: items.csv, index: item_id, time: orders.placed_at}
      products: {source: products.csv, index: product_id, static: true}
    relationships:
      - customers.customer_id -> orders.customer_id
      - orders.order_id -> items.order_id
      - products.product_id -> items.product_id
    cutoffs: {source: churn.csv, time: asked_at}
    aggregations: [count, sum, mean, max, n_unique, mode, percent_true, time_since_last]
  target: left
  drop: [customer_id, asked_at]
  split: {time: asked_at}
"""


def write_shop(folder: Path, *, rows: int = 400, seed: int = 0) -> Path:
    """Write `shop/` with `customers.csv`, `orders.csv`, `items.csv`, `products.csv`, `churn.csv`, `new.csv` and `recipe.yaml`.

    `churn.csv` asks at the end of every second month about each customer who has ordered: `left` says whether nothing was ordered in the
    60 days after, which the orders themselves show as well to whoever does not stop at the cut-off. Who orders often stays; an order that
    is sent back halves how often its customer comes again. `new.csv` asks about all customers as of the last day.

    Args:
        folder: Where the folder goes.
        rows: The number of customers.
        seed: Another seed gives another shop.
    """
    home = free(folder / "shop")
    home.mkdir(parents=True)
    random = np.random.default_rng(seed)
    products = [{"product_id": f"p{n:02d}", "category": group, "price": price} for n, (group, price) in enumerate(_products(random))]
    customers = _customers(random, rows)
    orders = [order for customer in customers for order in _orders(random, customer)]
    orders.sort(key=lambda order: (order["placed_at"], order["customer_id"]))
    for number, order in enumerate(orders):
        order["order_id"] = number
    items = [item for order in orders for item in _items(random, order, len(products))]
    for number, item in enumerate(items):
        item["item_id"] = number
    tables = {"customers": customers, "orders": orders, "items": items, "products": products, **_questions(customers, orders)}
    for name, table in tables.items():
        pa.csv.write_csv(pa.Table.from_pylist(table), home / f"{name}.csv")
    (home / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return home / "recipe.yaml"


def _products(random: np.random.Generator) -> list[tuple[str, float]]:
    return [(group, round(float(price * random.lognormal(0, 0.4)), 2)) for group, price in _GROUPS.items() for _ in range(6)]


def _customers(random: np.random.Generator, rows: int) -> list[dict[str, object]]:
    return [
        {
            "customer_id": f"c{number:04d}",
            "country": str(random.choice(["IT", "NO", "PE"])),
            "joined": START + timedelta(minutes=int(random.uniform(0, DAYS * 0.6 * 1440))),
        }
        for number in range(rows)
    ]


def _orders(random: np.random.Generator, customer: dict[str, object]) -> list[dict[str, object]]:
    """Return a customer's orders: after each that is sent back the next takes twice as long to come."""
    found: list[dict[str, object]] = []
    gap = float(random.lognormal(3.0, 0.6))
    when = customer["joined"]
    assert isinstance(when, datetime)
    while True:
        when += timedelta(minutes=int(random.exponential(gap) * 1440) + 1)
        if when > START + timedelta(days=DAYS):
            return found
        returned = bool(random.random() < 0.25)
        gap *= 2.0 if returned else 1.0
        channel = str(random.choice(["app", "web", "phone"], p=[0.5, 0.4, 0.1]))
        decided = when + timedelta(days=int(random.integers(2, 14)))
        found.append(
            {"customer_id": customer["customer_id"], "placed_at": when, "channel": channel, "returned": returned, "decided_at": decided}
        )


def _items(random: np.random.Generator, order: dict[str, object], products: int) -> list[dict[str, object]]:
    chosen = random.integers(0, products, int(random.integers(1, 4)))
    return [{"order_id": order["order_id"], "product_id": f"p{n:02d}", "pieces": int(random.integers(1, 4))} for n in chosen]


def _questions(customers: list[dict[str, object]], orders: list[dict[str, object]]) -> dict[str, list[dict[str, object]]]:
    """Return what is asked: of those who have ordered, every second month, and of everybody on the last day."""
    placed: dict[object, list[datetime]] = {}
    for order in orders:
        assert isinstance(order["placed_at"], datetime)
        placed.setdefault(order["customer_id"], []).append(order["placed_at"])
    asked: list[dict[str, object]] = []
    for days in range(120, DAYS - QUIET_DAYS + 1, QUIET_DAYS):
        when = START + timedelta(days=days)
        for name, times in placed.items():
            if min(times) <= when:
                stays = any(when < time <= when + timedelta(days=QUIET_DAYS) for time in times)
                asked.append({"customer_id": name, "asked_at": when, "left": "no" if stays else "yes"})
    last = START + timedelta(days=DAYS)
    return {"churn": asked, "new": [{"customer_id": customer["customer_id"], "asked_at": last} for customer in customers]}

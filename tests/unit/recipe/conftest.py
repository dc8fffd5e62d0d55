"""Small components that recipes in these tests name, so that the tests are about recipes alone."""

from collections.abc import Iterator
from typing import Annotated

import pytest
from annotated_types import Ge

from deepseek.registry import family


class Fake:
    """A component for tests.

    Args:
        width: A width.
        rate: A rate.
    """

    def __init__(self, wiring: object = None, /, *, width: Annotated[int, Ge(1)] = 3, rate: float = 0.1) -> None:
        self.width, self.rate = width, rate


@pytest.fixture(autouse=True)
def _fakes() -> Iterator[None]:
    families = [family(name) for name in ("model", "optimizer", "check", "callback", "task", "source", "transform")]
    before = [dict(one._added) for one in families]
    for one in families:
        one._added["fake"] = Fake
    families[3]._added["early_stopping"] = Fake
    yield
    for one, added in zip(families, before, strict=True):
        one._added = added

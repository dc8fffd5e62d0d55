"""Each kind of server, and a source that reads from it."""

import pytest

from deepseek.data.sources import open_source


@pytest.fixture(params=["postgresql", "mariadb"])
def kind(request):
    return request.param


@pytest.fixture
def url(kind, request):
    return request.getfixturevalue(kind)


@pytest.fixture
def opened(url):
    return lambda **keys: open_source({"type": "sql", "url": url, "retries": 2} | keys)

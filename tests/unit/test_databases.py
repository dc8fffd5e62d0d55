"""Drivers of databases, where a URL names none."""

import pytest

from deepseek.databases import dialect_of, with_driver


@pytest.mark.parametrize(
    ("scheme", "dialect", "whole"),
    [
        ("postgresql", "postgresql", "postgresql+psycopg"),
        ("postgres", "postgresql", "postgresql+psycopg"),
        ("mariadb", "mysql", "mysql+pymysql"),
        ("sqlite", "sqlite", "sqlite"),
    ],
)
def test_the_driver_that_is_meant(scheme, dialect, whole):
    assert (dialect_of(scheme), with_driver(scheme)) == (dialect, whole)


def test_a_driver_that_is_named_stays():
    assert with_driver("postgresql+asyncpg") == "postgresql+asyncpg"

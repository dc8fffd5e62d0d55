"""Estimators are fitted by the hundred here: their temporary runs need not wait for the disk."""

import os

import pytest


@pytest.fixture(autouse=True)
def impatient_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)

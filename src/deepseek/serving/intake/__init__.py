"""Ingest: flow files and other contents taken in over HTTP, each kept exactly once, as a dataset that a recipe can read."""

from deepseek.serving.intake.server import ingest, make_app

__all__ = ["ingest", "make_app"]

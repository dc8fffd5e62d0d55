"""Serving: a trained model behind HTTP, with dynamic batching, several workers and exchange of models without a lost request."""

from deepseek.serving.server import make_app, serve

__all__ = ["make_app", "serve"]

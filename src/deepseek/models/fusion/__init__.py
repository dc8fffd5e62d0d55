"""Fusions: how the tokens of several encoders become one vector a row, a file each."""

from deepseek.models.fusion.concat import ConcatFusion

__all__ = ["ConcatFusion"]

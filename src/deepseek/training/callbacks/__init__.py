"""What happens beside the training step: one callback a file."""

from deepseek.training.callbacks.base import Callback

__all__ = ["Callback"]

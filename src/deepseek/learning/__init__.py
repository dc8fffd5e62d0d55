"""Ways of learning beside passes over a fixed table."""

from deepseek.learning.online import OnlineLearner, Progress, progressive_validation

__all__ = ["OnlineLearner", "Progress", "progressive_validation"]

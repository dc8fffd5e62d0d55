"""What becomes of gradients on their way between ranks: summed as they are, in shorter numbers, or by way of groups and servers."""

from deepseek.distributed.exchange.base import Bucket, Exchange, Traffic, Waitable

__all__ = ["Bucket", "Exchange", "Traffic", "Waitable"]

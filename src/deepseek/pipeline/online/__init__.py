"""The parts of `deepseek learn`: what begins, what arrives, who learns, what is saved; and learning from a live stream."""

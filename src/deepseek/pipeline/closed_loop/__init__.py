"""The closed loop: an alarm, a new model of fresh rows, a gate, and its way into production or not.

Each decision is a function of plain facts (`policy`, `gate`, `rollout`); what happened stands in `loop.jsonl` (`journal`), from which a
process that was killed goes on (`machine`); `making` and `retraining` make the models, and `replay` plays all of it on rows of the past.
"""

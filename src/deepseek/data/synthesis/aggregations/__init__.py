"""Aggregations: many rows' values become one."""

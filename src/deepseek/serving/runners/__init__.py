"""Runners: processes that run a model for a worker, so that whatever kills one of them costs no accepted request."""

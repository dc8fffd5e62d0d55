"""Backends: what computes a bundle's answers."""

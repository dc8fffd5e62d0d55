"""Exporters: a bundle's network as a graph that runs without PyTorch, compared with the original before it is kept."""

"""Encoders: one kind of input a file, from tensors to tokens."""

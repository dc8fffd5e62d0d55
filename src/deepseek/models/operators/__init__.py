"""Operators: tensors to tensors along their last dimension, one family a file; plugins bring their own."""

"""Data: from sources through checks, cleaning, splits and transforms to prepared arrays and batches."""

"""Prepared rows: one row-major block for each NumPy type, so that a batch is one gather a block.

On disk a dataset is a folder: `block_TYPE.bin` (raw, little-endian, read through the page cache, never loaded as a whole), values and
offsets for rows of unequal length, `rows.bin` (which row of the table each came from), and `manifest.json`, written last, so that a
broken-off folder is never opened.
"""

from deepseek.data.prepared.dataset import PreparedDataset
from deepseek.data.prepared.layout import Column, Layout, layout_of
from deepseek.data.prepared.wholes import WholeRow, Wholes, write_wholes
from deepseek.data.prepared.writer import PreparedWriter

__all__ = ["Column", "Layout", "PreparedDataset", "PreparedWriter", "WholeRow", "Wholes", "layout_of", "write_wholes"]

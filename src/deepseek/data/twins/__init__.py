"""Rows that are nearly the same on both sides of a split: a text with another word, a picture saved again, numbers rounded otherwise.

`data.leaks` counts rows that are equal to the last bit. Here measured rows (validation and test) are held, at most 50,000 of each part,
drawn at random, and training rows pass by once, in memory that does not grow with them. Each column of texts and of pictures is looked at
by itself; the other columns together, where there are no texts and pictures beside them.
"""

from deepseek.data.twins.found import Near, Twins
from deepseek.data.twins.kinds import twin_kinds
from deepseek.data.twins.pictures import picture_twins
from deepseek.data.twins.rows import table_twins
from deepseek.data.twins.search import Sides
from deepseek.data.twins.texts import text_twins

__all__ = ["Near", "Sides", "Twins", "picture_twins", "table_twins", "text_twins", "twin_kinds"]

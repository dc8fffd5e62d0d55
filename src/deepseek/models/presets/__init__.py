"""Networks under one name each, with the settings that matter as flat keys.

Each sets the parts of a `Network`; inputs of other kinds than the one it is named for get their default encoders, so that tables, images
and texts can be mixed.
"""

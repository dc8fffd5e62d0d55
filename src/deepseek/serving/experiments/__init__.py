"""Experiments: several models behind one address, divided by key; shadows, canaries, and statistics that may be looked at any time."""

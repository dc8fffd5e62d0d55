"""Windows over series: a long table in order of time, each step prepared once, and windows that are nothing but places in it."""

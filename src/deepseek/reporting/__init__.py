"""Pages for people: plain facts in, one HTML file out, which asks nothing of any other machine.

`page` has the page and its parts, `charts` the drawings; both take plain values and know nothing of the rest of the framework.
"""

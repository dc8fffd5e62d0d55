"""The road from data to a bundle, and what can be asked of a finished run.

Nothing is imported here: what checks a recipe (`recipes`, `sources`) does without torch, which the road itself (`run`) needs.
"""

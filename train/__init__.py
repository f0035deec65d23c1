"""Detectors, their training and their evaluation, on any folder in WildRF layout.

May import: `schemas`, and nothing else of ours. Curation is met on disk. Nothing here prints or
reads the environment; a clock comes in as an argument.
"""

"""Verbs of the command line that live in a file of their own, one file per topic.

Each has `add_to(app)`, which puts its verbs on the command line. Nothing heavy is imported before one runs.
"""

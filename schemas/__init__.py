"""Nouns: rows, tables, labels, policy and errors. No I/O, nothing heavier than pyarrow and pydantic.

May import: nothing of ours.
"""

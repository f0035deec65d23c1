"""Verbs: open things, call things, print. The command line, the engines and the reports.

May import: everything of ours. The only room that prints and reads the clock, the environment and the
command line. Whatever needs torch, DuckDB or a plot is imported inside its verb, so that help is instant.
"""

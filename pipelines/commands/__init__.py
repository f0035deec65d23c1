"""The verbs of the command line, a file per topic, above what they share: `options` and `telling`.

Each topic has `add_to(app)`, which puts its verbs on the command line. Nothing heavy is imported before one
runs.
"""

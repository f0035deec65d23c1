"""From platform exports to a release: collect, fetch, probe, match, group, split, check, audit.

May import: schemas. Decisions are pure functions on rows; `stages` wires them to the catalog and the store.
"""

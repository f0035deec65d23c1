"""Humans in the loop: what annotators see, what they said, and what follows from it.

`interface` is the page, `tasks` converts to and from Label Studio's files, `client` alone speaks
to a server, `agreement` measures the annotators and `consensus` decides. May import `curate` and
`schemas`.
"""

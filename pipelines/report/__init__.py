"""Pages that explain results: one self-contained HTML file each, nothing fetched when opened.

May import: everything of ours but the verbs, which hand over what they found.
"""

"""Pages that explain results: one self-contained HTML file each, nothing fetched when opened."""

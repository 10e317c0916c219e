"""Model files and videos: written, placed, read back and judged."""

"""From an optimised representation to files that Blender and printers open without repair."""

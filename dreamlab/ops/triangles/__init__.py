"""Triangle meshes: rasterized, seen smoothly at silhouettes, textured, cast at, extracted."""

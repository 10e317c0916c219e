"""How a representation becomes images: one file a renderer, named in recipes by its file name."""

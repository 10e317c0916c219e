"""The toybox world: objects, scenes, captions, and what they look like from anywhere."""

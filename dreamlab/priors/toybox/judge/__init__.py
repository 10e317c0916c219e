"""The independent judge of the toybox world, and what it says about the prior."""

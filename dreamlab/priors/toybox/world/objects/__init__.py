"""The objects of the toybox world and the parts that they are made of."""

"""From a density to a clean, painted mesh: surface, repairs, simplification, UV, texture."""

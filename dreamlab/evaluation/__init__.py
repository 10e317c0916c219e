"""ToyBench: what exported models are worth, measured against the truth."""

"""Rules that turn renders and a prior into a loss; one file a rule."""

"""Batches: files of many rows, each of which becomes a run."""

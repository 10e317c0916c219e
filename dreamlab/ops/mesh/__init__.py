"""Meshes as plain arrays, without gradient: repairs, simplification, UV, texture."""

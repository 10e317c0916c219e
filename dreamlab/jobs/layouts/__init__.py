"""Layouts for prompts: read from words, drawn, described by a schema."""

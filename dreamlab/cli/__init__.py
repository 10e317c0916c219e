"""The `dreamlab` command."""

"""The training loop: optimisers, checkpoints, collapse watch, events, previews, stopping."""

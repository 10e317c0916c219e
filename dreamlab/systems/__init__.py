"""Stages that wire representation, renderer, guidance and losses into one training step."""

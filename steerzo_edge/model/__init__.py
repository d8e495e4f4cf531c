"""The frozen base, the adapters on it, and what is trainable."""

from steerzo_edge.model import libraries as libraries  # before anything imports `transformers`

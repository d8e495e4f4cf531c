"""The frozen base, the adapters on it, and what is trainable."""

"""A run: its parts, its progress, what it decides between steps, and the loop."""

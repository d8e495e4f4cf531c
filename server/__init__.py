"""The HTTP server: one process that trains and serves with one base model."""

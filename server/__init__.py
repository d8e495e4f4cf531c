"""The HTTP side: one process that trains and serves from one base model."""

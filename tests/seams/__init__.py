"""Extending the package by one file and one line."""

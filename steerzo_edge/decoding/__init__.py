"""Decoding for many requests at once, each with an adapter, a sampling and a length of its own."""

"""Text generation for many requests at once, each with its own adapter, sampling settings and length."""

from steerzo_edge import model as model  # before anything imports `transformers`

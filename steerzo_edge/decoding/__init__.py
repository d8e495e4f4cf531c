"""Text generation for many requests at once, each with its own adapter, sampling settings and length."""

"""The container image, run for real: `make image-test`."""

"""The commands of `steerzo`."""

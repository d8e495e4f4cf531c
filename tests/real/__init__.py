"""Tests with a real pretrained model, which `make real-base` fetches."""

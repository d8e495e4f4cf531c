"""Measurements. Each module prints a table and writes JSON: `python -m benchmarks.step_time --json FILE`."""

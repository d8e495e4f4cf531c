"""Several runs that differ in their settings: what to run, each run's end, and one table of all."""

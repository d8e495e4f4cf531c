"""Jobs: running them, retrying them, clearing them away, and streaming their events."""

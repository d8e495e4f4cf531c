"""Jobs: how they are stored, run, watched and survived."""

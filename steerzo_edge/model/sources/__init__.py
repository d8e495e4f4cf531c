"""Where base models come from: one file for each kind of source, listed in `registry.py`.

`source.py` says what a source must be able to do. `checkpoint.py` reads a checkpoint in the format of
`transformers`, for every source that leads to one.
"""

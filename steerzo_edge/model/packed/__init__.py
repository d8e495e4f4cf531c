"""Bases that are packed once: every tensor in the form in which it stays, in one file, opened by mapping it.

`file.py` is the container, `contents.py` puts a loaded base into one, `restored.py` makes the model again, and
`cache.py` keeps such files for the next start. `sources/packed.py` opens one as a base.
"""

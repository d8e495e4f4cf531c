"""From a file of rows to batches of token ids.

    file  --rows-->  rows  --reading-->  Dataset  --kinds-->  Tokenized  --batches-->  Batch

To add a kind of rows, see `kinds`.
"""

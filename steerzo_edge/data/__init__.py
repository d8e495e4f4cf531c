"""From a file of rows to batches of token ids."""

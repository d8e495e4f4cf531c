"""Files that are complete or absent: atomic writes, and tensors with a checksum."""

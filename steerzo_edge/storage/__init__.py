"""Files that are whole or absent: atomic writes, and tensors with a checksum."""

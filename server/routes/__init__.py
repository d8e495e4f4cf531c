"""The server's own HTTP routes, one file for each kind of object."""

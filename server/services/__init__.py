"""What the routes call: each operation of the server, without HTTP."""

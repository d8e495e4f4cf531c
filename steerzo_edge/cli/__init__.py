"""The `steerzo` command line. `server.cli` adds the commands that need a server."""

"""The `steerzo` command line. `server.commands.app` adds the commands that need a server."""

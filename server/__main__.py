"""Runs the `steerzo` command as `python -m server`."""

from server.commands.app import main

main()

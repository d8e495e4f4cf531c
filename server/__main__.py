"""`python -m server` is `steerzo`."""

from server.commands.app import main

main()

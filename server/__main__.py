"""`python -m server` is `steerzo`."""

from server.cli import main

main()

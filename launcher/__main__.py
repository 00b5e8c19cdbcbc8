"""`python -m launcher` is the `virtbed` command."""

from launcher.cli import main

main()

"""`python -m wdsremux` is the command `wdsremux`."""

from wdsremux.cli import main

main()

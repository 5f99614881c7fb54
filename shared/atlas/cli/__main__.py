"""`python -m atlas.cli` is `atlas`."""

from atlas.cli import main

main()

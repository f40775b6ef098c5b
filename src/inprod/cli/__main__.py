"""`python -m inprod.cli`: the same as `inprod`."""

from inprod.cli.main import run

run()

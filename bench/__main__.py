"""``python -m bench``: the command line, for ``torchrun`` and where ``rbench`` is not on PATH."""

from bench.cli import main

main()

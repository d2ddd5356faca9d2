"""The command line: ``rbench``."""

from bench.cli.app import main

__all__ = ["main"]

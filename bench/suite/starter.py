"""A suite to start from."""

from __future__ import annotations

from importlib import resources

NAME = "mine"


def starter_suite() -> str:
    """Returns the text of a small suite of shipped checkpoints, each line explained."""
    template = resources.files("bench.suite").joinpath("starter.yaml").read_text("utf-8")
    return template.format(name=NAME)

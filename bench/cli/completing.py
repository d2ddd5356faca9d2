"""What a shell offers for a word that is begun; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable

from bench.core.builtin import checkpoint_roots
from bench.core.errors import UserError
from bench.run.paths import checkpoints_folder, suite_folders


def suites(incomplete: str) -> list[str]:
    """Returns the suites in the folders of suites."""
    from bench.suite import list_suites

    return _begun(list_suites(suite_folders()), incomplete)


def checkpoints(incomplete: str) -> list[str]:
    """Returns the checkpoints of the default folder."""
    roots = checkpoint_roots(checkpoints_folder())
    cards = (card for root in roots for card in root.glob("*/card.yaml"))
    return _begun({card.parent.name for card in cards}, incomplete)


def listings(incomplete: str) -> list[str]:
    """Returns what ``rbench list`` lists."""
    from bench.cli.listing import LISTINGS

    return _begun(LISTINGS, incomplete)


def kinds(incomplete: str) -> list[str]:
    """Returns the kinds of reports."""
    from bench.suite.kinds import REPORT_KINDS

    return _begun(REPORT_KINDS, incomplete)


def tables(incomplete: str) -> list[str]:
    """Returns the published tables."""
    from bench.published import table_ids

    try:
        return _begun(table_ids(), incomplete)
    except UserError:  # a user's file is wrong; the command itself says so
        return []


def trackers(incomplete: str) -> list[str]:
    """Returns the trackers."""
    return _begun(("mlflow", "wandb"), incomplete)


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))

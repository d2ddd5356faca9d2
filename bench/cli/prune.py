"""``rbench prune``."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import RunArgument, console, say, warn


def prune(
    run: RunArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be deleted.")
    ] = False,
) -> None:
    """Delete the cells and analyses of a run folder that its suite no longer names.

    The suite is the one that was run last, or that `rbench report --suite` read. Kept as well:
    convergence checks and sentinels of its cells, and all results of models that were skipped for
    lack of a checkpoint.
    """
    from bench.core.paths import folder_at
    from bench.run.prune import find_leftovers
    from bench.run.prune import prune as delete

    folder = folder_at(run)
    leftovers = find_leftovers(folder) if dry_run else delete(folder)
    for why in leftovers.unread:
        warn(console, f"damaged, and so left alone: {why}")
    if not leftovers.found:
        say(console, f"nothing to delete: the suite names all that {folder} holds")
        return
    for one in leftovers.found:
        say(console, f"{one.id}  {one.what}, {_size(one.n_bytes)}")
    count, total = len(leftovers.found), _size(sum(one.n_bytes for one in leftovers.found))
    done = "would be deleted" if dry_run else "deleted"
    noun = "entry" if count == 1 else "entries"
    say(console, f"{done}: {count} {noun} of {total}; {leftovers.kept} cells are kept")


def _size(n_bytes: int) -> str:
    """Returns for example ``12.3 MB`` or ``400 kB``."""
    if n_bytes >= 1_000_000:
        return f"{n_bytes / 1e6:,.1f} MB"
    return f"{n_bytes / 1e3:,.0f} kB" if n_bytes >= 1_000 else f"{n_bytes} bytes"

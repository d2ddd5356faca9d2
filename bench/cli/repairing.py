"""``rbench repair``."""

from __future__ import annotations

import re

from rich.console import Console

from bench.cli.options import EXIT_INCOMPLETE
from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.paths import Folder
from bench.store.lock import locked
from bench.store.run_store import RunStore
from bench.suite.rebuild import rebuild_manifest


def repair_command(console: Console, run_folder: Folder) -> int:
    """Reads all cells and chunks of a run, and its manifest, which is rebuilt where it is lost.

    Returns:
        0, or 3 where something is damaged that only running again can bring back.

    Raises:
        UserError: When there is no store, another process is at it, or no cell is left.
    """
    if not (run_folder / "store").is_dir():
        raise UserError(f"{run_folder}: expected the folder of a run, as `rbench run --out` makes")
    store = RunStore(run_folder)
    with locked(run_folder):
        specs: dict[str, CellSpec] = {}
        damaged: list[str] = []
        for cell_id in store.cell_ids():
            try:
                specs[cell_id] = store.read_cell(cell_id)[0].spec
            except UserError as error:
                damaged.append(str(error))
        for cell_id in store.chunks.cell_ids():
            try:
                for chunk in store.chunks.read(cell_id):
                    specs[cell_id] = chunk.info.spec
            except UserError as error:
                damaged.append(str(error))
        for line in damaged:
            console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
        console.print(f"{len(specs)} cells can be read, {len(damaged)} are damaged")
        try:
            store.read_manifest()
            console.print("the manifest is in order")
        except UserError as error:
            console.print(str(error), style="yellow", highlight=False, markup=False, soft_wrap=True)
            name = re.sub("[^a-z0-9_-]+", "_", run_folder.name.lower()) or "rebuilt"
            store.write_manifest(rebuild_manifest(list(specs.values()), name))
            console.print(
                "wrote it again from the cells, with default labels and a leaderboard; "
                "`rbench run SUITE` brings back the suite's own",
                soft_wrap=True,
            )
    return EXIT_INCOMPLETE if damaged else 0

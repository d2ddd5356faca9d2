"""Finds and deletes what a run folder holds and its suite no longer names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.alarms.convergence import convergence_sweep
from bench.alarms.pairs import effort_of
from bench.alarms.sentinel import sentinel_cell
from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.paths import Folder
from bench.store.analysis_store import AnalysisStore
from bench.store.files import folder_size, remove_folder
from bench.store.lock import locked
from bench.store.manifest import Manifest
from bench.store.run_store import RunStore


@dataclass(frozen=True)
class Leftover:
    """A cell or an analysis that the suite no longer names.

    Attributes:
        id: Its id.
        what: What it is, in a few words.
        n_bytes: Its size, with its chunks and adversarial examples.
        folders: Where it is stored.
    """

    id: str
    what: str
    n_bytes: int
    folders: tuple[Folder, ...]


@dataclass(frozen=True)
class Leftovers:
    """What a run folder holds beyond its suite.

    Attributes:
        found: May be deleted.
        unread: Why some cannot be judged, and so stay: they are damaged.
        kept: How many cells are kept.
    """

    found: tuple[Leftover, ...]
    unread: tuple[str, ...]
    kept: int


def find_leftovers(folder: Folder) -> Leftovers:
    """Finds the cells and analyses that the suite, as it was run last, does not name.

    Kept with the cells that it names are their convergence sweeps and sentinels, and every cell of
    a model that was left out for lack of its checkpoint.

    Raises:
        UserError: When the folder is none of a run, or its manifest is damaged.
    """
    store = RunStore(folder)
    manifest = store.read_manifest()
    named = {cell.cell_id for cell in manifest.cells if cell.cell_id is not None}
    specs, unread = _specs(store)
    bases = [spec for cell_id, spec in specs.items() if cell_id in named]
    absent = set(manifest.absent.values())
    kept = {
        cell_id
        for cell_id, spec in specs.items()
        if cell_id in named or _lacks_checkpoint(spec, absent) or _tests_one_of(bases, spec)
    }
    cells = [
        _leftover(cell_id, store.parts(cell_id), _cell_words(specs.get(cell_id)))
        for cell_id in store.all_ids()
        if cell_id not in kept | named and cell_id not in unread
    ]
    analyses = _analyses(AnalysisStore(folder), manifest, unread)
    return Leftovers((*cells, *analyses), tuple(unread.values()), len(kept))


def prune(folder: Folder) -> Leftovers:
    """Deletes what ``find_leftovers`` finds, unless another process writes into the folder.

    Raises:
        UserError: As ``find_leftovers`` does; when the folder is in use, or cannot be written.
    """
    RunStore(folder).read_manifest()  # locking makes the folder, so it must be one of a run
    with locked(folder):
        leftovers = find_leftovers(folder)
        for one in leftovers.found:
            for part in one.folders:
                remove_folder(part)
    return leftovers


def _specs(store: RunStore) -> tuple[dict[str, CellSpec], dict[str, str]]:
    """Returns the specs of stored and unfinished cells by id, and why others cannot be read."""
    specs: dict[str, CellSpec] = {}
    unread: dict[str, str] = {}
    for cell_id in store.all_ids():
        try:
            if store.stored(cell_id):
                specs[cell_id] = store.read_cell(cell_id)[0].spec
            for chunk in store.chunks.read(cell_id):
                specs[cell_id] = chunk.info.spec
        except UserError as error:
            unread[cell_id] = str(error)
    return specs, unread


def _lacks_checkpoint(spec: CellSpec, absent: set[str]) -> bool:
    """Returns whether a cell may be of a model that the last run left out."""
    used = {spec.checkpoint, spec.surrogate.checkpoint if spec.surrogate else spec.checkpoint}
    return bool(used & absent)


def _tests_one_of(bases: Iterable[CellSpec], spec: CellSpec) -> bool:
    """Returns whether a cell is of a convergence sweep, or the sentinel, of a named cell."""
    return any(
        spec.cell_id in {cell.cell_id for cell in _tests_of(base, spec)}
        for base in bases
        if base.sha256 == spec.sha256 and base.protocol == "white_box"
    )


def _tests_of(base: CellSpec, spec: CellSpec) -> Iterator[CellSpec]:
    """Yields the cells by which a run tests a named cell on the images of another."""
    n_images = spec.data.n_images
    if n_images is None or base.data.first(n_images) != spec.data:
        return
    if effort_of(base, "n_iter") is not None:
        stochastic = base.n_draws > 1
        sweep = convergence_sweep(base, spec.data, spec.data_hash, stochastic=stochastic)
        yield from sweep.cells
    if base.attack != "natural":
        try:
            yield sentinel_cell([base], spec.data, spec.data_hash)
        except UserError:  # no sentinel serves its norm
            return


def _analyses(
    store: AnalysisStore, manifest: Manifest, unread: dict[str, str]
) -> Iterator[Leftover]:
    """Yields the analyses that may be deleted; notes those that cannot be read."""
    named = {one.analysis_id for one in manifest.analyses}
    absent = set(manifest.absent.values())
    for analysis_id in store.ids():
        if analysis_id in named:
            continue
        try:
            spec = store.read(analysis_id)[0].spec
        except UserError as error:
            unread[analysis_id] = str(error)
            continue
        if absent.isdisjoint(subject.checkpoint for subject in spec.subjects):
            models = ", ".join(subject.checkpoint for subject in spec.subjects)
            what = f"analysis {spec.analysis} of {models}"
            yield _leftover(analysis_id, [store.folder(analysis_id)], what)


def _leftover(id: str, folders: Sequence[Folder], what: str) -> Leftover:
    return Leftover(id, what, sum(map(folder_size, folders)), tuple(folders))


def _cell_words(spec: CellSpec | None) -> str:
    """Returns a cell's model, attack and images; ``None`` is of examples without a cell."""
    if spec is None:
        return "adversarial examples of a cell that is not stored"
    params = ", ".join(f"{key} {value}" for key, value in _shown(spec.attack_params).items())
    n = spec.data.n_images
    images = f"{n:,} images of {spec.data.name}" if n else spec.data.name
    return f"{spec.checkpoint} / {spec.attack}{f' ({params})' * bool(params)}, {images}"


def _shown(params: Mapping[str, object]) -> dict[str, object]:
    """Returns the parameters that tell most cells apart."""
    return {key: params[key] for key in ("n_iter", "n_passes", "version") if key in params}

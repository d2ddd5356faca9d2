"""The results of ``evaluate()`` in a folder, in the form of a run's: written, read, shown.

Beside the store of a run lies ``store/evaluation.json``: which cells make up which result, and what
a result says beside its cells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from bench.core.attack import CORRUPTION
from bench.core.cell import CellSpec, DataSpec
from bench.core.errors import UserError
from bench.core.paths import Folder, folder_at
from bench.core.result import CellInfo, Row
from bench.core.spec import Spec
from bench.core.threat import ThreatModel
from bench.data.slice import Slice
from bench.evaluation.cells import kept_in
from bench.evaluation.in_memory import IN_MEMORY
from bench.store.entries import read_json, to_json
from bench.store.files import write_atomically
from bench.store.manifest import Manifest, ManifestCell
from bench.store.run_store import RunStore
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec

if TYPE_CHECKING:  # reports bring matplotlib and more, which an evaluation does without
    from bench.report.run_view import RunView

SUITE = "evaluation"
"""Name of the suite in the folders of evaluations."""

FILE = "evaluation.json"


class CellLike(Protocol):
    """The result of one attack, as ``AttackResult`` has it."""

    @property
    def info(self) -> CellInfo:
        """About the cell."""

    @property
    def rows(self) -> Sequence[Row]:
        """One for each image."""

    @property
    def x_adv(self) -> Tensor | None:
        """Adversarial examples (n, c, h, w)."""


class ResultLike(Protocol):
    """A model under several attacks, as ``EvaluationResult`` has it."""

    @property
    def cells(self) -> Mapping[str, CellLike]:
        """The result of each attack, by label."""

    @property
    def threat_model(self) -> ThreatModel:
        """The ball."""

    @property
    def union(self) -> tuple[ThreatModel, ...]:
        """Further balls of a union."""

    @property
    def apart(self) -> frozenset[str]:
        """Attacks that are no part of the worst case."""

    @property
    def sentinel(self) -> str:
        """What a second look found."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What else to know."""

    @property
    def model(self) -> str:
        """Label of the model."""


class SavedResult(Spec):
    """What a result says beside its cells.

    Attributes:
        model: Its label.
        threat_model: The ball.
        union: Further balls of a union.
        cells: Ids of its cells, by label of the attack.
        apart: Labels of the attacks that are no part of the worst case.
        sentinel: What a second look found.
        notes: What else to know.
    """

    model: str
    threat_model: ThreatModel
    union: tuple[ThreatModel, ...] = ()
    cells: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]] = Field(min_length=1)
    apart: tuple[str, ...] = ()
    sentinel: str = ""
    notes: tuple[str, ...] = ()


class Saved(Spec):
    """The content of ``evaluation.json``.

    Attributes:
        schema_version: Of its layout.
        several: Whether there are several models or balls, so that it is read as ``Evaluations``.
        results: The results, model by model.
    """

    schema_version: int = 1
    several: bool
    results: tuple[SavedResult, ...] = Field(min_length=1)


@dataclass
class Book:
    """Keeps the manifest of an evaluation that runs, and at last its results.

    Attributes:
        store: Of the folder; ``None`` writes nothing.
        unions: The balls of each result: one, or those of a union.
        entries: The attacks of each.
        manner: How models are attacked.
        data: The images.
        several: Whether the results are ``Evaluations``.
    """

    store: RunStore | None
    unions: Sequence[Sequence[ThreatModel]]
    entries: Sequence[Sequence[AttackEntry]]
    manner: Mapping[str, Any]
    data: Slice
    several: bool
    _ids: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def plan(
        self, models: Sequence[str], model: str, ball: ThreatModel, cells: Sequence[CellSpec]
    ) -> None:
        """Notes the cells of a model in a ball, and writes the manifest before they run.

        Args:
            models: Labels of all models.
            model: Label of this one.
            ball: The ball, or the first of the union.
            cells: In the order of the ball's attacks.
        """
        if self.store is None:
            return
        balls = [some[0] for some in self.unions]
        entries = self.entries[balls.index(ball)]
        for entry, spec in zip(entries, cells, strict=True):
            self._ids[model, ball.describe(), entry.label] = spec.cell_id
        columns = _columns(balls, self.entries)
        union = tuple(self.unions[0][1:])
        suite = _suite(models, balls, union, columns, len(self.data.y), self.manner)
        self.store.write_manifest(_manifest(suite, columns, self._ids))

    def write(self, results: Mapping[str, Sequence[ResultLike]]) -> None:
        """Writes what the results say beside their cells, those of the models that are done."""
        if self.store is not None:
            plain = [one for some in results.values() for one in some]
            _write_saved(self.store, plain, several=self.several)


def check_one_norm(balls: Sequence[ThreatModel]) -> None:
    """Raises ``UserError`` for balls that one table cannot hold: of several norms or spaces.

    Args:
        balls: The ball of each result, of a union the first.
    """
    if len({(ball.norm, ball.eps_space) for ball in balls}) > 1:
        found = ", ".join(ball.describe() for ball in balls)
        raise UserError(
            f"threat: a folder, and a table for a paper, holds balls of one norm, found {found}; "
            "evaluate each norm by itself"
        )


def save_results(
    results: Sequence[ResultLike], out: str | Path, *, several: bool, examples: bool = True
) -> None:
    """Writes results into a folder, in the form in which ``evaluate(out=...)`` keeps them.

    Args:
        results: At least one.
        out: The folder or its URL.
        several: Whether they are ``Evaluations``.
        examples: Whether to write adversarial examples.

    Raises:
        UserError: When the folder is in use, cannot be written or holds the run of a suite, or the
            results are of several norms and no union, or of several unions.
    """
    unions = list(dict.fromkeys((one.threat_model, *one.union) for one in results))
    if len(unions) > 1 and any(len(balls) > 1 for balls in unions):
        raise UserError(
            "threat: a folder, and a table for a paper, holds one union of balls; save each result "
            "by itself"
        )
    balls = [some[0] for some in unions]
    check_one_norm(balls)
    with kept_in(out, SUITE) as store:
        assert store is not None
        for one in results:
            for cell in one.cells.values():
                store.write_cell(cell.info, cell.rows)
                if examples and cell.x_adv is not None:
                    _write_examples(store, cell, cell.x_adv)
        store.write_manifest(_manifest_of(results, balls))
        _write_saved(store, results, several=several)


def read_saved(folder: str | Path) -> tuple[RunStore, Saved]:
    """Returns the store of a folder with results, and which cells make them up.

    Raises:
        UserError: When the folder holds no result, or the file is damaged.
    """
    store = RunStore(folder_at(str(folder)))
    path = _path(store.folder)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; expected {store.folder} to be the folder of a result, as "
            "evaluate(out=FOLDER), once it has ended, or result.save(FOLDER) makes it"
        )
    return store, read_json(Saved, path, "evaluate again, or save the result again")


def view_of(results: Sequence[ResultLike]) -> RunView:
    """Returns results as the reports of runs read them."""
    from bench.report.run_view import RunView

    with tempfile.TemporaryDirectory() as folder:
        save_results(results, folder, several=True, examples=False)
        return RunView(Path(folder))


def latex_of(results: Sequence[ResultLike], *, intervals: bool = False, floats: bool = True) -> str:
    """Returns the leaderboard of results as LaTeX for a paper.

    Args:
        results: At least one, their balls of one norm.
        intervals: Whether 95 % intervals stand below the numbers.
        floats: Whether to write the ``table`` with caption and label.
    """
    from bench.report.paper_latex import paper_tables
    from bench.report.paper_table import PaperStyle
    from bench.report.text import setting
    from bench.report.write import build_from

    view = view_of(results)
    ((_, report),) = build_from(view, ["leaderboard"])
    style = PaperStyle(intervals=intervals, floats=floats)
    return "\n".join(paper_tables(report, SUITE, style, setting(view)))


def _path(folder: Folder) -> Folder:
    return folder / "store" / FILE


def _write_saved(store: RunStore, results: Sequence[ResultLike], *, several: bool) -> None:
    parts = tuple(
        SavedResult(
            model=one.model,
            threat_model=one.threat_model,
            union=one.union,
            cells={label: cell.info.cell_id for label, cell in one.cells.items()},
            apart=tuple(sorted(one.apart)),
            sentinel=one.sentinel,
            notes=one.notes,
        )
        for one in results
    )
    saved = Saved(several=several, results=parts)
    write_atomically(_path(store.folder), to_json(saved))


def read_examples(store: RunStore, info: CellInfo) -> Tensor | None:
    """Returns the stored examples of a cell (n, c, h, w), NaN for batches that lack.

    Returns:
        ``None`` where none are stored.

    Raises:
        UserError: When a file is damaged.
    """
    batches = sorted(store.examples.batches(info.cell_id))
    if not batches:
        return None
    read = [store.examples.read(info.cell_id, batch) for batch in batches]
    n, shape = info.spec.data.limit or 0, read[0][1].shape[1:]
    x_adv = torch.full((n, *shape), torch.nan)
    for index, images in read:
        if images.shape[1:] != shape or not all(0 <= i < n for i in index):
            where = store.examples.folder(info.cell_id)
            raise UserError(f"{where}: expected examples of {n} images, found others; delete it")
        x_adv[index] = torch.from_numpy(images.copy())
    return x_adv


def _write_examples(store: RunStore, cell: CellLike, x_adv: Tensor) -> None:
    for number in dict.fromkeys(row.batch for row in cell.rows):
        index = [row.index for row in cell.rows if row.batch == number]
        store.examples.write(cell.info.cell_id, number, index, x_adv[index].numpy())


_Columns = Mapping[str, tuple[ThreatModel, AttackEntry]]
"""Attacks of the tables by label, with the ball that they are in."""


def _columns(
    balls: Sequence[ThreatModel], entries: Sequence[Sequence[AttackEntry]]
) -> dict[str, tuple[ThreatModel, AttackEntry]]:
    """Returns the columns of the tables: with several balls, each attack in each of them."""
    found: dict[str, tuple[ThreatModel, AttackEntry]] = {}
    for ball, some in zip(balls, entries, strict=True):
        for entry in some:
            own = entry.eps is not None or len(balls) == 1 or entry.attack == CORRUPTION
            label = entry.label if own else f"{entry.label}, eps {ball.eps_text}"
            found.setdefault(label, (ball, entry))
    return found


def _suite(
    models: Sequence[str],
    balls: Sequence[ThreatModel],
    union: tuple[ThreatModel, ...],
    columns: _Columns,
    n: int,
    manner: Mapping[str, Any],
) -> SuiteSpec:
    """Returns the suite that an evaluation would be, with the largest ball as its threat model."""
    largest = max(balls, key=lambda ball: ball.eps)
    attacks = []
    for label, (ball, entry) in columns.items():
        own = entry.eps is not None or ball == largest or entry.attack == CORRUPTION
        eps = entry.eps if own else ball.eps
        attacks.append(entry.model_copy(update={"label": label, "eps": eps}))
    keys = {key: manner[key] for key in ("batch_size", "n_draws", "eot_iter", "eot", "search")}
    how = {"protocol": manner["protocol"], "adversary": manner["adversary"]}
    return SuiteSpec(
        suite=SUITE,
        title="Evaluation",
        data=DataSpec(name=IN_MEMORY, limit=n),
        threat_model=largest,
        union=union,
        seed=manner["seed"],
        models=tuple(ModelEntry(checkpoint=IN_MEMORY, label=one, **how) for one in models),
        attacks=tuple(attacks),
        **keys,
    )


def _manifest(
    suite: SuiteSpec,
    columns: _Columns,
    ids: Mapping[tuple[str, str, str], str],
) -> Manifest:
    """Returns the manifest of an evaluation.

    Args:
        suite: As ``_suite`` returns it.
        columns: As ``_columns`` returns them.
        ids: Ids of cells, by labels of model, ball and attack; those that are known.
    """
    cells = []
    for i, model in enumerate(suite.models):
        for j, (label, (ball, entry)) in enumerate(columns.items()):
            cell_id = ids.get((model.label, ball.describe(), entry.label))
            if cell_id is not None:
                cells.append(
                    ManifestCell(
                        model_index=i,
                        attack_index=j,
                        model_label=model.label,
                        attack_label=label,
                        cell_id=cell_id,
                    )
                )
    return Manifest(suite=suite.model_dump(mode="json"), cells=tuple(cells))


def _manifest_of(results: Sequence[ResultLike], balls: Sequence[ThreatModel]) -> Manifest:
    """Returns the manifest of results in memory."""
    first = {one.threat_model: one for one in reversed(results)}
    entries = [[_entry(first[ball], label) for label in first[ball].cells] for ball in balls]
    columns = _columns(balls, entries)
    ids = {
        (one.model, one.threat_model.describe(), label): cell.info.cell_id
        for one in results
        for label, cell in one.cells.items()
    }
    models = list(dict.fromkeys(one.model for one in results))
    cells = [cell for one in results for cell in one.cells.values()]
    spec = cells[0].info.spec
    manner = {
        key: getattr(spec, key)
        for key in ("protocol", "adversary", "batch_size", "n_draws", "eot_iter", "eot", "seed")
    }
    n = max(len(cell.rows) for cell in cells)
    union = results[0].union
    suite = _suite(models, balls, union, columns, n, {**manner, "search": "fast"})
    return _manifest(suite, columns, ids)


def _entry(result: ResultLike, label: str) -> AttackEntry:
    """Returns a cell's attack as an entry of a suite."""
    spec = result.cells[label].info.spec
    ball, kind = spec.threat_model, result.cells[label].info.attack_kind
    own = ball != result.threat_model and kind != CORRUPTION
    other_norm = own and ball.norm != result.threat_model.norm
    whole = max(cell.info.spec.data.limit or 0 for cell in result.cells.values())
    return AttackEntry(
        attack=spec.attack,
        label=label,
        params=spec.attack_params,
        norm=ball.norm if other_norm else None,
        eps=ball.eps if own else None,
        y_target=spec.y_target,
        limit=spec.data.limit if (spec.data.limit or 0) < whole else None,
    )

"""The result of an evaluation: rows as suites store them, and the numbers derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tabulate import tabulate
from torch import Tensor

from bench.attacks.registry import unusual_params
from bench.core.attack import params_text
from bench.core.errors import UserError, did_you_mean
from bench.core.result import (
    MINIMUM_NORM,
    CellInfo,
    Row,
    adaptive_notes,
    alarms_of,
    cluster_of,
    minimum_norm_note,
    notes_of,
    standing_beyond,
)
from bench.core.threat import ThreatModel
from bench.evaluation.picture import draw_bars
from bench.evaluation.saved import SavedResult, latex_of, read_examples, read_saved, save_results
from bench.metrics import (
    Estimate,
    clean_accuracy,
    percent,
    robust_accuracy,
    worst_case_accuracy,
)
from bench.store.run_store import RunStore
from bench.untrusted.escape import markdown, one_line

if TYPE_CHECKING:
    import pandas as pd

CLEAN, WORST_CASE = "clean", "worst case"


@dataclass(frozen=True)
class AttackResult:
    """The result of one attack, as a suite would store it.

    Attributes:
        info: The cell's identity, whether it is complete, alarms, versions.
        rows: One for each image, in the order of the images.
        x_adv: What the attack proposed for each image it was asked about (n, c, h, w), on the CPU:
            also where the model is wrong on the clean image, where the attack found nothing, and
            where the verifier refuses it (``Row.status``). NaN for images of batches after one
            that failed. ``None`` where examples were not kept (``save_adv=False``).
    """

    info: CellInfo
    rows: tuple[Row, ...]
    x_adv: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, repr=False)
class EvaluationResult:
    """A model under several attacks.

    Attributes:
        cells: The result of each attack, by label.
        threat_model: The ball of the evaluation; an attack may have an eps of its own.
        apart: Labels of the attacks that are no part of the worst case: on some of the images, or
            at a larger eps.
        sentinel: What a second look at images that still stand found, in words; empty where it
            was needless.
        notes: What else to know of how the model was evaluated.
        model: Label of the model.
    """

    cells: Mapping[str, AttackResult]
    threat_model: ThreatModel
    apart: frozenset[str] = frozenset()
    sentinel: str = ""
    notes: tuple[str, ...] = ()
    model: str = "model"

    def __getitem__(self, label: str) -> AttackResult:
        """Returns an attack's result; raises ``UserError`` for an unknown label."""
        if label not in self.cells:
            raise UserError(f"no attack is labelled '{label}'{did_you_mean(label, self.cells)}")
        return self.cells[label]

    def __iter__(self) -> Iterator[str]:
        """Yields the labels, as a mapping does."""
        return iter(self.cells)

    def __len__(self) -> int:
        """Returns the number of attacks."""
        return len(self.cells)

    def clean_accuracy(self) -> Estimate:
        """Estimates the accuracy on the clean images.

        Raises:
            UserError: When no cell is complete.
        """
        done = [cell for cell in self.cells.values() if cell.info.complete]
        if not done:
            raise UserError(f"no attack is complete: {'; '.join(self._reasons().values())}")
        most = max(done, key=lambda cell: len(cell.rows))  # an attack may be on some images only
        return clean_accuracy(most.rows, most.info.cluster)

    def robust_accuracy(self, label: str) -> Estimate:
        """Estimates the accuracy under an attack.

        Args:
            label: Of the attack, by default its name.

        Raises:
            UserError: When there is no such attack, or its cell is incomplete.
        """
        cell = self[label]
        if not cell.info.complete:
            raise UserError(f"'{label}' is incomplete, so it has no accuracy: {cell.info.error}")
        return robust_accuracy(cell.rows, cell.info.cluster)

    def worst_case(self, attacks: Iterable[str] | None = None) -> Estimate:
        """Estimates the accuracy against the best complete attack but those ``apart``.

        It is the best on each image.

        Where images share statistics and the adversary has the whole batch, batch by batch.

        Where an attack is incomplete this is an upper bound, and ``method`` says so.

        Args:
            attacks: Labels of the attacks that count; ``None`` for all but those ``apart``.

        Raises:
            UserError: When no attack is complete, one is unknown, or they are not of the same
                images.
        """
        return self._worst_case(self._in_worst_case(attacks))

    def _worst_case(self, attacks: Mapping[str, AttackResult]) -> Estimate:
        done = [cell for cell in attacks.values() if cell.info.complete]
        if not done:
            raise UserError("no attack is complete, so there is no worst case")
        rows = [cell.rows for cell in done]
        whole = all(cell.info.whole_batches for cell in done)
        cluster = cluster_of(cell.info for cell in done)
        estimate = worst_case_accuracy(rows, cluster, whole_batches=whole)
        absent = [label for label, cell in attacks.items() if not cell.info.complete]
        if absent:
            bound = f"{estimate.method}; without {', '.join(absent)}: an upper bound"
            estimate = replace(estimate, method=bound)
        return estimate

    def _in_worst_case(self, attacks: Iterable[str] | None = None) -> dict[str, AttackResult]:
        """Returns the attacks of the worst case, by label: those that are named, or all."""
        if isinstance(attacks, str):
            raise UserError(f"attacks: expected a list of labels, found '{attacks}'")
        if attacks is not None:
            return {label: self[label] for label in attacks}
        return {
            label: cell
            for label, cell in self.cells.items()
            if cell.info.attack_kind != "none" and label not in self.apart
        }

    @property
    def x_adv(self) -> dict[str, Tensor]:
        """Adversarial examples (n, c, h, w) by attack, in the order of the images.

        What an attack proposed, also where the model is wrong on the clean image, where it found
        nothing, and where the verifier refuses it: ``rows()`` says which. An image that was not
        attacked is NaN: one beyond an attack's ``limit``, or after a batch that failed.

        Raises:
            UserError: When they were not kept.
        """
        n = max(len(cell.rows) for cell in self.cells.values())
        n = max([n, *(len(cell.x_adv) for cell in self.cells.values() if cell.x_adv is not None)])
        found = {}
        for label, cell in self.cells.items():
            if cell.x_adv is None:
                raise UserError(
                    f"'{label}' has no adversarial examples: they were not kept; evaluate with "
                    "save_adv=True"
                )
            rest = torch.full((n - len(cell.x_adv), *cell.x_adv.shape[1:]), torch.nan)
            found[label] = torch.cat([cell.x_adv, rest]) if len(rest) else cell.x_adv
        return found

    def rows(self) -> pd.DataFrame:
        """Returns one line for each image under each attack.

        Columns: the label ``attack``, then the fields of ``bench.core.result.Row``.
        """
        import pandas as pd

        names = [one.name for one in fields(Row)]
        lines = [
            {"attack": label, **asdict(row)}
            for label, cell in self.cells.items()
            for row in cell.rows
        ]
        return pd.DataFrame(lines, columns=["attack", *names])

    def save(self, folder: str | Path) -> None:
        """Writes the result into a folder, as ``evaluate(out=FOLDER)`` keeps it.

        ``rbench report FOLDER`` writes its tables.

        Raises:
            UserError: When the folder cannot be written, or holds the run of a suite.
        """
        save_results([self], folder, several=False)

    @classmethod
    def load(cls, folder: str | Path) -> EvaluationResult:
        """Reads the result that ``save`` or ``evaluate(out=FOLDER)`` has written.

        Raises:
            UserError: When the folder holds none, several, or files of it are damaged.
        """
        store, saved = read_saved(folder)
        if saved.several:
            raise UserError(
                f"{store.folder}: holds the results of several models or threat models; read them "
                "with rbench.load_result"
            )
        return cls.of_saved(store, saved.results[0])

    @classmethod
    def of_saved(cls, store: RunStore, saved: SavedResult) -> EvaluationResult:
        """Returns a result from what a folder holds of it."""
        cells = {}
        for label, cell_id in saved.cells.items():
            info, rows = store.read_cell(cell_id)
            cells[label] = AttackResult(info, tuple(rows), read_examples(store, info))
        apart = frozenset(saved.apart)
        return cls(cells, saved.threat_model, apart, saved.sentinel, saved.notes, saved.model)

    def to_markdown(self) -> str:
        """Returns the table and its notes as GitHub-flavoured Markdown."""
        return self._repr_markdown_()

    def to_latex(self, *, intervals: bool = False, floats: bool = True) -> str:
        """Returns the table for a paper, as ``rbench report --style paper`` writes it.

        It needs ``booktabs`` and ``graphicx``.

        Args:
            intervals: Whether 95 % intervals stand below the numbers.
            floats: Whether to write the ``table`` with caption and label, or only what is in it.
        """
        return latex_of([self], intervals=intervals, floats=floats)

    def plot(self, ax: Any = None) -> Any:
        """Draws the accuracies with their 95 % intervals.

        Args:
            ax: Axes of matplotlib to draw on; ``None`` for a figure of its own.

        Returns:
            The axes.
        """
        title = f"threat model {self.threat_model.describe()}"
        return draw_bars({self.model: self.numbers()}, title, ax)

    def numbers(self) -> list[tuple[str, Estimate]]:
        """Returns the accuracies that there are: clean, under each attack, and the worst case."""
        return [(label, one) for label, one in self._estimates() if one is not None]

    def shown(self) -> dict[str, str]:
        """Returns the text of each number, marked as in the table, with its interval."""
        return {name: " ".join(filter(None, rest[:2])) for name, *rest in list(self._grid())[1:]}

    def remarks(self) -> list[str]:
        """Returns what stands below the table: what is unusual, and the alarms."""
        return self._notes()

    def table(self) -> pd.DataFrame:
        """Returns one line for the clean images, each attack and the worst case.

        Columns: ``accuracy``, ``low``, ``high`` (floats in [0, 1], NaN where there is none), ``n``,
        ``method`` of the interval, ``kind`` of the attack (``none``, ``bounded``,
        ``minimum-norm``; empty for the worst case), ``threat_model``, ``alarms``, ``notes`` on the
        attack (an adaptive one, one that does not average over draws), and ``reason`` of an
        incomplete attack.
        """
        import pandas as pd

        lines = [
            {
                "attack": label,
                "accuracy": None if found is None else found.value,
                "low": None if found is None else found.low,
                "high": None if found is None else found.high,
                "n": 0 if found is None else found.n,
                "method": "" if found is None else found.method,
                "kind": "none" if label == CLEAN else self._kind(label),
                "threat_model": self._ball(label).describe(),
                "alarms": "; ".join(self._alarms(label)),
                "notes": "; ".join(self._notes_on(label)),
                "reason": self._reasons().get(label, ""),
            }
            for label, found in self._estimates()
        ]
        numbers = {"accuracy": "float64", "low": "float64", "high": "float64"}
        return pd.DataFrame(lines).set_index("attack").astype(numbers)

    def _kind(self, label: str) -> str:
        return self.cells[label].info.attack_kind if label in self.cells else ""

    def _ball(self, label: str) -> ThreatModel:
        return (
            self.cells[label].info.spec.threat_model if label in self.cells else self.threat_model
        )

    def __repr__(self) -> str:
        grid = [[one_line(text) for text in line] for line in self._grid()]
        text = tabulate(grid[1:], grid[0], "simple", disable_numparse=True)
        return "\n\n".join(filter(None, (self._head(), text, "\n".join(self._notes()))))

    def _repr_markdown_(self) -> str:
        """Returns the table as notebooks show it."""
        grid = [[markdown(text) for text in line] for line in self._grid()]
        align = ("left", "right", "right", "right")
        text = tabulate(grid[1:], grid[0], "pipe", disable_numparse=True, colalign=align)
        notes = "\n".join(f"- {markdown(note)}" for note in self._notes())
        return "\n\n".join(filter(None, (markdown(self._head()), text, notes)))

    def _estimates(self) -> Iterator[tuple[str, Estimate | None]]:
        complete = any(cell.info.complete for cell in self.cells.values())
        kinds = [cell.info.attack_kind for cell in self.cells.values()]
        if complete and "none" not in kinds:
            yield CLEAN, self.clean_accuracy()
        for label, cell in self.cells.items():
            yield label, self.robust_accuracy(label) if cell.info.complete else None
        if any(cell.info.complete for cell in self._in_worst_case().values()):
            yield WORST_CASE, self.worst_case()

    def _grid(self) -> Iterator[tuple[str, str, str, str]]:
        yield "attack", "accuracy in %", "95 % interval", "n"
        for label, found in self._estimates():
            name = label + f" {MINIMUM_NORM}" * (self._kind(label) == "minimum-norm")
            if found is None:
                yield name, "incomplete", "", ""
                continue
            mark = " adaptive" * bool(self._adaptive(label)) + " !" * bool(self._alarms(label))
            yield name, f"{percent(found.value)}{mark}", found.brackets(), str(found.n)

    def _alarms(self, label: str) -> tuple[str, ...]:
        """Returns the alarms of an attack; the worst case is under those of all attacks."""
        worst = list(self._in_worst_case().values())
        chosen = worst if label == WORST_CASE else [self.cells.get(label)]
        return alarms_of(cell.info for cell in chosen if cell is not None)

    def _adaptive(self, label: str) -> tuple[str, ...]:
        """Returns what adaptive attacks behind a number brought."""
        chosen = self.cells.values() if label == WORST_CASE else [self.cells.get(label)]
        return adaptive_notes(cell.info for cell in chosen if cell and cell.info.complete)

    def _notes_on(self, label: str) -> tuple[str, ...]:
        """Returns what is to be known of an attack beside its name."""
        if label == WORST_CASE:
            return self._adaptive(label)
        return notes_of(self.cells[label].info) if label in self.cells else ()

    def _reasons(self) -> dict[str, str]:
        return {k: cell.info.error for k, cell in self.cells.items() if not cell.info.complete}

    def _head(self) -> str:
        info = next(iter(self.cells.values())).info
        spec = info.spec
        facts = [f"threat model {self.threat_model.describe()}", f"seed {spec.seed}"]
        if spec.n_draws > 1:
            facts.append(f"stochastic: mean score over {spec.n_draws} fresh draws")
        if info.cluster == "batch":
            facts.append(f"in fixed batches of {spec.batch_size}, which intervals count as one")
        return ", ".join(facts)

    def _own(self, label: str) -> str:
        """Returns in what an attack is unusual: its parameters, its ball, its images."""
        spec = self.cells[label].info.spec
        parts = params_text(unusual_params(spec))
        if spec.threat_model != self.threat_model:
            parts.append(f"threat model {spec.threat_model.describe()}")
        if label in self.apart:
            if spec.threat_model.eps <= self.threat_model.eps:
                n = spec.data.limit or 0
                parts.append(f"on the first {n} image{'s' * (n != 1)}")
            parts.append(f"no part of the {WORST_CASE}")
        return ", ".join(parts)

    def _notes(self) -> list[str]:
        notes = list(self.notes)
        notes += [f"{label}: incomplete: {reason}" for label, reason in self._reasons().items()]
        notes += [f"{label}: {note}" for label in self.cells for note in self._notes_on(label)]
        notes += [f"{label}: {said}" for label in self.cells if (said := self._own(label))]
        notes += [
            f"{MINIMUM_NORM} {label}: {minimum_norm_note(*standing_beyond(cell.rows))}"
            for label, cell in self.cells.items()
            if cell.info.attack_kind == "minimum-norm"
        ]
        notes += [self.sentinel] if self.sentinel else []
        for label in self.cells:
            notes += [f"! {label}: {alarm}" for alarm in self._alarms(label)]
        return notes

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
from bench.core.attack import NO_ADVERSARY, params_text
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
from bench.core.threat import ThreatModel, joined
from bench.evaluation.picture import draw_bars
from bench.evaluation.saved import SavedResult, latex_of, read_examples, read_saved, save_results
from bench.metrics import (
    Estimate,
    clean_accuracy,
    mean_accuracy,
    percent,
    robust_accuracy,
    worst_case_accuracy,
)
from bench.store.run_store import RunStore
from bench.untrusted.escape import markdown, one_line

if TYPE_CHECKING:
    import pandas as pd

CLEAN, WORST_CASE, MEAN_CORRUPTION = "clean", "worst case", "mean corruption"


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
            in no ball of the evaluation.
        sentinel: What a second look at images that still stand found, in words; empty where it
            was needless.
        notes: What else to know of how the model was evaluated.
        model: Label of the model.
        union: Further balls; with ``threat_model`` they form a union, and the worst case is of all.
    """

    cells: Mapping[str, AttackResult]
    threat_model: ThreatModel
    apart: frozenset[str] = frozenset()
    sentinel: str = ""
    notes: tuple[str, ...] = ()
    model: str = "model"
    union: tuple[ThreatModel, ...] = ()

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

        Of a targeted attack it is the share of images that are not brought to their target.

        Raises:
            UserError: When there is no such attack, or its cell is incomplete.
        """
        cell = self[label]
        if not cell.info.complete:
            raise UserError(f"'{label}' is incomplete, so it has no accuracy: {cell.info.error}")
        return robust_accuracy(cell.rows, cell.info.cluster)

    def worst_case(
        self, attacks: Iterable[str] | None = None, *, threat: ThreatModel | None = None
    ) -> Estimate:
        """Estimates the accuracy against the best complete attack but those ``apart``.

        It is the best on each image. In a union of threat models that is the accuracy on images
        that are right in all of them.

        Where images share statistics and the adversary has the whole batch, batch by batch.

        Where an attack is incomplete this is an upper bound, and ``method`` says so.

        Args:
            attacks: Labels of the attacks that count; ``None`` for all but those ``apart``.
            threat: One ball of a union, such as ``threat_model``, and the attacks inside it alone;
                ``None`` for all of it.

        Raises:
            UserError: When no attack is complete, one is unknown or targeted, or they are not of
                the same images.
        """
        return self._worst_case(self._in_worst_case(attacks, threat))

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

    def mean_corruption_accuracy(self) -> Estimate:
        """Estimates the mean accuracy over the common corruptions, each counting alike.

        The interval takes each image with all of its corruptions as one.

        Raises:
            UserError: When there is none, or one is incomplete.
        """
        found = {k: c for k, c in self.cells.items() if c.info.attack_kind == "corruption"}
        if not found:
            raise UserError("no corruption was asked for: ('corruption', {'name': 'fog'})")
        for label, cell in found.items():
            if not cell.info.complete:
                raise UserError(f"'{label}' is incomplete, so there is no mean: {cell.info.error}")
        cluster = cluster_of(cell.info for cell in found.values())
        return mean_accuracy([cell.rows for cell in found.values()], cluster)

    def _in_worst_case(
        self, attacks: Iterable[str] | None = None, threat: ThreatModel | None = None
    ) -> dict[str, AttackResult]:
        """Returns the attacks of the worst case, by label: those that are named, or all."""
        if isinstance(attacks, str):
            raise UserError(f"attacks: expected a list of labels, found '{attacks}'")
        if isinstance(attacks, ThreatModel):
            raise UserError("attacks: expected a list of labels; a ball of a union is threat=BALL")
        if attacks is not None:
            named = {label: self[label] for label in attacks}
            for label in named:
                if self._targeted(label):
                    raise UserError(
                        f"attacks: '{label}' is targeted, and its number no accuracy: leave it out"
                    )
            inside = (lambda one: True) if threat is None else threat.holds
            return {k: c for k, c in named.items() if inside(c.info.spec.threat_model)}
        return {
            label: cell
            for label, cell in self.cells.items()
            if cell.info.attack_kind not in NO_ADVERSARY
            and label not in self.apart
            and (threat is None or threat.holds(cell.info.spec.threat_model))
        }

    @property
    def threat_models(self) -> tuple[ThreatModel, ...]:
        """The ball, or all balls of the union."""
        return (self.threat_model, *self.union)

    def describe_threat(self) -> str:
        """Returns for example ``"linf 8/255"``, of a union ``"linf 8/255 and l2 0.5"``."""
        return joined(self.threat_models)

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
        return cls(
            cells,
            saved.threat_model,
            frozenset(saved.apart),
            saved.sentinel,
            saved.notes,
            saved.model,
            saved.union,
        )

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
        title = f"threat model {self.describe_threat()}"
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
        ``minimum-norm``, ``corruption``; empty for worst cases and means), ``threat_model``,
        ``alarms``, ``notes`` on the attack (an adaptive one, one that does not average over
        draws), and ``reason`` of an incomplete attack.
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
                "threat_model": self._ball_text(label),
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

    def _ball_text(self, label: str = "") -> str:
        """Returns the threat model of a line of the table; of all, that of the evaluation."""
        if label in self.cells:
            info = self.cells[label].info
            return "none" if info.attack_kind == "corruption" else info.spec.threat_model.describe()
        if label == MEAN_CORRUPTION:
            return "none"
        own = [ball for ball in self.threat_models if label == self._worst_label(ball)]
        return joined(own or self.threat_models)

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
        corrupted = [c for c in self.cells.values() if c.info.attack_kind == "corruption"]
        if len(corrupted) > 1 and all(cell.info.complete for cell in corrupted):
            yield MEAN_CORRUPTION, self.mean_corruption_accuracy()
        for ball in self.threat_models if self.union else ():
            if any(cell.info.complete for cell in self._in_worst_case(threat=ball).values()):
                yield self._worst_label(ball), self.worst_case(threat=ball)
        if any(cell.info.complete for cell in self._in_worst_case().values()):
            yield WORST_CASE, self.worst_case()

    def _grid(self) -> Iterator[tuple[str, str, str, str]]:
        yield "attack", "accuracy in %", "95 % interval", "n"
        for label, found in self._estimates():
            name = label + f" {MINIMUM_NORM}" * (self._kind(label) == "minimum-norm")
            if found is None:
                yield name, "incomplete", "", ""
                continue
            mark = " targeted" * self._targeted(label) + " adaptive" * bool(self._adaptive(label))
            mark += " !" * bool(self._alarms(label))
            yield name, f"{percent(found.value)}{mark}", found.brackets(), str(found.n)

    def _alarms(self, label: str) -> tuple[str, ...]:
        """Returns the alarms of an attack; the worst case is under those of all attacks."""
        chosen = self._behind(label)
        return alarms_of(cell.info for cell in chosen)

    @staticmethod
    def _worst_label(ball: ThreatModel) -> str:
        return f"{WORST_CASE}, {ball.describe()}"

    def _behind(self, label: str) -> list[AttackResult]:
        """Returns the results that a line of the table rests on."""
        if label in self.cells:
            return [self.cells[label]]
        for ball in self.threat_models:
            if label == self._worst_label(ball):
                return list(self._in_worst_case(threat=ball).values())
        return list(self._in_worst_case().values()) if label == WORST_CASE else []

    def _adaptive(self, label: str) -> tuple[str, ...]:
        """Returns what adaptive attacks behind a number brought."""
        return adaptive_notes(c.info for c in self._behind(label) if c.info.complete)

    def _targeted(self, label: str) -> bool:
        """Says whether a number is that of a targeted attack."""
        return label in self.cells and self.cells[label].info.spec.y_target is not None

    def _notes_on(self, label: str) -> tuple[str, ...]:
        """Returns what is to be known of an attack beside its name."""
        return notes_of(self.cells[label].info) if label in self.cells else self._adaptive(label)

    def _reasons(self) -> dict[str, str]:
        return {k: cell.info.error for k, cell in self.cells.items() if not cell.info.complete}

    def _head(self) -> str:
        info = next(iter(self.cells.values())).info
        spec = info.spec
        facts = [f"threat model {self._ball_text()}", f"seed {spec.seed}"]
        if spec.n_draws > 1:
            facts.append(f"stochastic: mean score over {spec.n_draws} fresh draws")
        if info.cluster == "batch":
            facts.append(f"in fixed batches of {spec.batch_size}, which intervals count as one")
        return ", ".join(facts)

    def _own(self, label: str) -> str:
        """Returns in what an attack is unusual: its parameters, its ball, its images."""
        spec = self.cells[label].info.spec
        parts = params_text(unusual_params(spec))
        if self.cells[label].info.attack_kind == "corruption":
            return ", ".join(
                [*parts, f"a corruption, of no adversary: no part of the {WORST_CASE}"]
            )
        if spec.threat_model not in self.threat_models:
            parts.append(f"threat model {spec.threat_model.describe()}")
        if label in self.apart:
            if any(b.holds(spec.threat_model) for b in self.threat_models):
                n = spec.data.limit or 0
                if spec.y_target is None or n < max(len(c.rows) for c in self.cells.values()):
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

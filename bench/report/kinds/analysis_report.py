"""Labels, cells and texts that the reports of analyses share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.core.analysis import AnalysisSpec, Subject
from bench.core.attack import params_text
from bench.core.errors import UserError
from bench.core.norm_spec import uses_batch
from bench.core.result import alarms_of
from bench.metrics import Estimate
from bench.report.figure import Figure
from bench.report.run_view import AnalysisOutcome, RunView
from bench.report.table import Cell, Column, Footnotes, Raw, Report, Section, Table, TableRow
from bench.report.text import EOT_TEXT, STATS_TEXT, data_text, hashes, provenance, title

SHARED = (
    "images of a batch share statistics, and the interval takes them as independent: it may be too "
    "narrow"
)


class AnalysisReport:
    """Collects the report of a run's analyses of one name.

    Args:
        view: The run.
        analysis: The name of the analyses, which is that of the report.

    Raises:
        UserError: When the suite has no such analysis.
    """

    def __init__(self, view: RunView, analysis: str) -> None:
        self.view, self.analysis = view, analysis
        self.outcomes = view.analyses(analysis)
        self.footnotes = Footnotes()
        if not self.outcomes:
            raise UserError(
                f"report '{analysis}': expected an analysis of that name in the run's suite, found "
                f"none; add under analyses: - {{analysis: {analysis}}}, and run it"
            )

    @property
    def done(self) -> list[tuple[AnalysisOutcome, AnalysisSpec]]:
        """The complete analyses, each with its spec."""
        return [(o, o.info.spec) for o in self.outcomes if o.status == "ok" and o.info is not None]

    def names(self, *names: str) -> tuple[str, ...]:
        """Returns the headings of label columns; several analyses get a column of their own."""
        return (("analysis",) if len(self.outcomes) > 1 else ()) + names

    def labels(self, outcome: AnalysisOutcome, *labels: str) -> tuple[str, ...]:
        """Returns the labels of a row under the headings of ``names``."""
        return ((outcome.entry.label,) if len(self.outcomes) > 1 else ()) + labels

    def figure_name(self, outcome: AnalysisOutcome) -> str:
        """Returns the suffix of a figure's file name; empty for a single analysis."""
        return outcome.entry.label if len(self.outcomes) > 1 else ""

    def table(
        self,
        caption: str,
        names: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[TableRow],
        *,
        in_text: bool = True,
    ) -> Table:
        """Returns a table; if shown, analyses without values have a row that says why."""
        rows = list(rows)
        for outcome in self.outcomes if in_text else ():
            if outcome.status != "ok":
                text = "incomplete" if outcome.status == "incomplete" else "—"
                mark = self.footnotes.mark(outcome.reason)
                cell = Cell((text,), (mark,), status=outcome.status, reason=outcome.reason)
                labels = self.labels(outcome, ", ".join(outcome.models), *[""] * (len(names) - 1))
                rows.append(TableRow(labels, (cell,) * len(columns), starts_group=True))
        heads = tuple(Column(name) for name in columns)
        sizes = {cell.n for row in rows for cell in row.cells if cell.n is not None}
        if len(sizes) == 1 and (n := sizes.pop()) > 1:
            caption = f"{caption}; n = {n} images"
        return Table(caption, self.names(*names), heads, tuple(rows), in_text=in_text)

    def full_table(
        self, caption: str, names: Sequence[str], what: str, rows: Sequence[TableRow]
    ) -> Table:
        """Returns a table for the CSV file alone, with numbered columns; rows may be ragged."""
        heads = [f"{what} {i + 1}" for i in range(max(len(row.cells) for row in rows))]
        empty = Cell(("",))
        full = [
            TableRow(row.labels, row.cells + (empty,) * (len(heads) - len(row.cells)))
            for row in rows
        ]
        return self.table(caption, names, heads, full, in_text=False)

    def number(
        self,
        estimate: Estimate,
        *,
        n: int | None = None,
        shared: bool = False,
        extra: Mapping[str, Raw] | None = None,
    ) -> Cell:
        """Returns the cell of a real number with its interval.

        Args:
            estimate: The number.
            n: Number of images; by default the number of values.
            shared: Whether images of a batch share statistics, which the interval ignores.
            extra: Further columns of the CSV file.
        """
        note = SHARED * shared if estimate.interval else estimate.method
        marks = (self.footnotes.mark(note),) if note else ()
        cell = Cell.of(estimate, estimate.shown(short), marks, extra=extra or {})
        return cell if n is None else replace(cell, n=n)

    def report(
        self,
        name: str,
        what: str,
        figures: Sequence[Figure],
        tables: Sequence[Table],
        reading: Sequence[tuple[str, str]],
    ) -> Report:
        """Returns the finished report.

        Args:
            name: Appended to the title.
            what: A paragraph that defines the numbers and their unit.
            figures: The figures.
            tables: The tables.
            reading: Pairs of a term and its explanation.
        """
        sections = [Section("Analyses", tuple((o.entry.label, _facts(o)) for o in self.outcomes))]
        sections.append(Section("Models", tuple(self._subjects().items())))
        if alarms := self._alarms():
            sections.append(Section("Alarms", tuple(alarms.items())))
        sections.append(Section("How to read this", tuple(reading)))
        description = " ".join(self.view.suite.description.split())
        infos = [outcome.info for outcome in self.outcomes if outcome.info is not None]
        return Report(
            title=f"{title(self.view)}: {name}",
            head=tuple(filter(None, (description, what, provenance(infos)))),
            tables=tuple(tables),
            footnotes=self.footnotes.listed(),
            sections=tuple(sections),
            figures=tuple(figures),
            quantity="quantity",
        )

    def _subjects(self) -> dict[str, str]:
        """Returns a description of each model, by label."""
        found: dict[str, str] = {}
        for outcome in self.outcomes:
            subjects = outcome.info.spec.subjects if outcome.info else ()
            for label, subject in zip(outcome.models, subjects, strict=False):
                found.setdefault(label, _subject_text(subject))
        return found

    def _alarms(self) -> dict[str, str]:
        """Returns the alarms of the models' cells under the analyses' attacks, by label."""
        attacks = {outcome.entry.attack for outcome in self.outcomes}
        named = {label for outcome in self.outcomes for label in outcome.models}
        found: dict[str, str] = {}
        for i, model in enumerate(self.view.models):
            infos = [
                self.view.outcome(i, j).info
                for j, attack in enumerate(self.view.attacks)
                if attack.label in attacks
            ]
            texts = alarms_of(info for info in infos if info is not None)
            if model.label in named and texts:
                found[model.label] = "; ".join(texts)
        return found


def short(value: float) -> str:
    """Formats a number with three significant digits and at most four decimals."""
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if "e" in text:
        text = f"{value:.4f}"
    return "0" if float(text) == 0 else text


def shares_statistics(subject: Subject) -> bool:
    """Returns whether the images of a batch depend on each other."""
    return uses_batch(subject.stats)


def attack_text(spec: AnalysisSpec) -> str:
    """Returns an attack with its threat model and parameters; empty without an attack."""
    if spec.attack is None:
        return ""
    shown = ", ".join(params_text(spec.attack.params))
    ball = spec.threat_model.describe()
    return f"{spec.attack.attack} (version {spec.attack.version}), {ball}" + f": {shown}" * bool(
        shown
    )


def _facts(outcome: AnalysisOutcome) -> str:
    if outcome.info is None:
        return outcome.reason
    spec = outcome.info.spec
    facts = [f"{spec.analysis} (version {spec.version})"]
    facts += params_text(spec.params)
    facts.append(f"models {', '.join(outcome.models)}")
    if spec.attack is not None:
        facts.append(f"attack {outcome.entry.attack}: {attack_text(spec)}")
    facts.append(f"data {data_text(spec.data)}; seed {spec.seed}")
    return "; ".join(facts)


def _subject_text(subject: Subject) -> str:
    facts = [f"checkpoint {subject.checkpoint}", subject.protocol]
    if subject.stats is not None:
        facts.append(STATS_TEXT.get(subject.stats, subject.stats))
    if shares_statistics(subject):
        facts.append(f"in fixed batches of {subject.batch_size}")
    if subject.adversary == "single":
        facts.append("single adversary: one image perturbed in an otherwise clean batch")
    if subject.n_draws > 1:
        facts.append(f"stochastic: scored on {subject.n_draws} fresh draws")
        facts.append(EOT_TEXT.get(subject.eot, "") or f"gradients over {subject.eot_iter} draw(s)")
    return "; ".join([*facts, *hashes(subject.sha256)])

"""What the reports of analyses have in common: labels, cells, and the sentences around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core.analysis import AnalysisSpec, Subject
from bench.core.errors import UserError
from bench.core.norm_spec import uses_batch
from bench.core.result import alarms_of
from bench.metrics import Estimate
from bench.report.figure import Figure
from bench.report.prose import EOT_TEXT, STATS_TEXT, data_text, provenance, title, value_text
from bench.report.run_view import Look, RunView
from bench.report.table import Cell, Column, Footnotes, Raw, Report, Section, Table, TableRow

SHARED = (
    "images of a batch share statistics, and the interval takes them as independent: it may be too "
    "narrow"
)


class LookPage:
    """The report of a run's analyses of one name, as it is being written.

    Args:
        view: The run.
        analysis: The name.

    Raises:
        UserError: When the suite has no such analysis.
    """

    def __init__(self, view: RunView, analysis: str) -> None:
        self.view, self.analysis = view, analysis
        self.looks = view.looks(analysis)
        self.footnotes = Footnotes()
        if not self.looks:
            raise UserError(
                f"report '{analysis}': expected an analysis of that name in the run's suite, found "
                f"none; add under analyses: - {{analysis: {analysis}}}, and run it"
            )

    @property
    def done(self) -> list[tuple[Look, AnalysisSpec]]:
        """The complete analyses, each with what it is."""
        return [(o, o.info.spec) for o in self.looks if o.status == "ok" and o.info is not None]

    def names(self, *names: str) -> tuple[str, ...]:
        """Returns the headings of label columns; analyses are named where there are several."""
        return (("analysis",) if len(self.looks) > 1 else ()) + names

    def labels(self, look: Look, *labels: str) -> tuple[str, ...]:
        """Returns a row's labels for ``names``."""
        return ((look.entry.label,) if len(self.looks) > 1 else ()) + labels

    def figure_name(self, look: Look) -> str:
        """Returns what tells the figure of an analysis from others of this report."""
        return look.entry.label if len(self.looks) > 1 else ""

    def table(
        self,
        caption: str,
        names: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[TableRow],
        *,
        in_text: bool = True,
    ) -> Table:
        """Returns a table; a shown one says of each analysis without values why it has none."""
        rows = list(rows)
        for look in self.looks if in_text else ():
            if look.status != "ok":
                text = "incomplete" if look.status == "incomplete" else "—"
                mark = self.footnotes.mark(look.reason)
                cell = Cell((text,), (mark,), status=look.status, reason=look.reason)
                labels = self.labels(look, ", ".join(look.models), *[""] * (len(names) - 1))
                rows.append(TableRow(labels, (cell,) * len(columns), starts_group=True))
        heads = tuple(Column(name) for name in columns)
        sizes = {cell.n for row in rows for cell in row.cells if cell.n is not None}
        if len(sizes) == 1 and (n := sizes.pop()) > 1:
            caption = f"{caption}; n = {n} images"
        return Table(caption, self.names(*names), heads, tuple(rows), in_text=in_text)

    def full_table(
        self, caption: str, names: Sequence[str], what: str, rows: Sequence[TableRow]
    ) -> Table:
        """Returns a table for the CSV file alone: rows of numbered cells, not all of a length."""
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
            n: Images behind it; by default the values that it is an estimate of.
            shared: Whether images of a batch share statistics, which the interval does not know.
            extra: Further columns of the CSV file.
        """
        lines = [short(estimate.value)]
        marks: tuple[str, ...] = ()
        if estimate.low is not None and estimate.high is not None:
            lines.append(f"[{short(estimate.low)}, {short(estimate.high)}]")
            marks = (self.footnotes.mark(SHARED),) if shared else ()
        else:
            marks = (self.footnotes.mark(estimate.method),)
        return Cell(
            lines=tuple(lines),
            marks=marks,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n=estimate.n if n is None else n,
            extra={"method": estimate.method, **(extra or {})},
        )

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
            name: What the report shows, for its heading.
            what: One paragraph: what the numbers are, and their unit.
            figures: Its figures.
            tables: Its tables.
            reading: How to read it: pairs of a name and what is said of it.
        """
        sections = [Section("Analyses", tuple((o.entry.label, _facts(o)) for o in self.looks))]
        sections.append(Section("Models", tuple(self._subjects().items())))
        if alarms := self._alarms():
            sections.append(Section("Alarms", tuple(alarms.items())))
        sections.append(Section("How to read this", tuple(reading)))
        description = " ".join(self.view.suite.description.split())
        infos = [look.info for look in self.looks if look.info is not None]
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
        """Returns what each model is, by label."""
        found: dict[str, str] = {}
        for look in self.looks:
            subjects = look.info.spec.subjects if look.info else ()
            for label, subject in zip(look.models, subjects, strict=False):
                found.setdefault(label, _subject_text(subject))
        return found

    def _alarms(self) -> dict[str, str]:
        """Returns the alarms of the models' cells under the analyses' attacks, by label."""
        attacks = {look.entry.attack for look in self.looks}
        named = {label for look in self.looks for label in look.models}
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
    """Returns a number in three significant digits, and no more than four decimals."""
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if "e" in text:
        text = f"{value:.4f}"
    return "0" if float(text) == 0 else text


def shares_statistics(subject: Subject) -> bool:
    """Says whether the images of a batch depend on each other."""
    return uses_batch(subject.stats)


def attack_text(spec: AnalysisSpec) -> str:
    """Returns an attack with its ball and parameters."""
    if spec.attack is None:
        return ""
    params = sorted(spec.attack.params.items())
    shown = ", ".join(f"{name} {value_text(value)}" for name, value in params)
    ball = spec.threat_model.describe()
    return f"{spec.attack.attack} (version {spec.attack.version}), {ball}" + f": {shown}" * bool(
        shown
    )


def _facts(look: Look) -> str:
    if look.info is None:
        return look.reason
    spec = look.info.spec
    params = sorted(spec.params.items())
    facts = [f"{spec.analysis} (version {spec.version})"]
    facts += [f"{name} {value_text(value)}" for name, value in params]
    facts.append(f"models {', '.join(look.models)}")
    if spec.attack is not None:
        facts.append(f"attack {look.entry.attack}: {attack_text(spec)}")
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
    facts.append(f"sha256 {subject.sha256[:12]}")
    return "; ".join(facts)

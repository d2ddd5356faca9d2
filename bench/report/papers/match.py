"""Matches published numbers with measured ones, and says how the experiments differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.core.errors import UserError, did_you_mean
from bench.core.paths import suite_called
from bench.published import PublishedTable, Setting, load_table, match_row
from bench.published.rows import Keys, all_keys, choices, has_all, in_yaml, shortest, why_none
from bench.report.papers.mismatches import OF_ATTACKS, Mismatch, asides, mismatches
from bench.report.run_view import Outcome, RunView
from bench.suite.entry import ReportEntry
from bench.suite.spec import ModelEntry

ACCURACY = "percent accuracy"


@dataclass(frozen=True)
class Match:
    """A published number and the cell of the run that corresponds to it.

    Attributes:
        model: Position of the model in the suite.
        attack: Position of the attack in the suite.
        attack_label: Label of the attack.
        row: Keys of the published row.
        column: The published column.
        published: Percent; ``None`` where the paper gives no number.
        setting: How the published number was measured.
        outcome: The outcome of the cell.
        mismatches: Differences between the experiments; empty where the cell has no number.
    """

    model: int
    attack: int
    attack_label: str
    row: Mapping[str, object]
    column: str
    published: float | None
    setting: Setting
    outcome: Outcome
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True)
class Paper:
    """The published table beside a report, if any.

    Attributes:
        table: The table; ``None`` without one, or where its numbers are not accuracies.
        where: Keys that all of its rows of interest share.
    """

    table: PublishedTable | None
    where: Mapping[str, object]

    @classmethod
    def of(cls, entry: ReportEntry) -> Paper:
        """Returns the table that a report asks for; raises ``UserError`` for an unknown one."""
        table = load_table(entry.published) if entry.published else None
        if table is not None and table.unit != ACCURACY:
            table = None
        return cls(table, entry.where)

    def value(self, row: Mapping[str, object], column: str) -> float | None:
        """Returns the percentage published for a model and an attack.

        Keys and columns of other tables are ignored, as a suite may refer to several tables.
        """
        if self.table is None or column not in self.table.columns:
            return None
        found = self._match(row)
        return None if found is None else found[1][column]

    def _match(self, row: Mapping[str, object]) -> tuple[Keys, Mapping[str, float | None]] | None:
        if self.table is None or not row:
            return None
        known = set(all_keys(self.table.keys))
        return match_row(self.table, self.where, row) if known.issuperset(row) else None

    def _match_of(self, model: ModelEntry) -> tuple[Keys, Mapping[str, float | None]] | None:
        try:
            return self._match(model.published)
        except UserError as error:
            raise UserError(f"published of '{model.label}': {error}") from None

    def matches(self, view: RunView) -> Iterator[Match]:
        """Yields every published number that a planned cell of a run corresponds to."""
        for i, model in enumerate(view.models):
            found = self._match_of(model)
            for j, attack in enumerate(view.attacks) if found and self.table else ():
                column, outcome = attack.published, view.outcome(i, j)
                if found is None or self.table is None or column not in self.table.columns:
                    continue
                if outcome.status == "left_out":
                    continue
                setting = self.table.setting(found[0], column)
                differ: tuple[Mismatch, ...] = ()
                if outcome.status == "ok" and outcome.info is not None:
                    facts = view.facts(i)
                    differ = mismatches(outcome.info, len(outcome.rows), facts, setting)
                number = found[1][column]
                label = attack.label
                yield Match(i, j, label, found[0], column, number, setting, outcome, differ)

    def note(self, view: RunView) -> str:
        """Returns the caveats of the comparison; empty without a published number."""
        found = list(self.matches(view))
        if self.table is None or not found:
            return ""
        return " ".join(
            (
                f"(paper ...) is the number of {self.table.id}, “{self.table.title}”, in percent.",
                verdict(found),
                *remarks(view, found),
                f"How the authors measured: {self.table.measured}",
            )
        )


def not_linked(view: RunView, table: PublishedTable, where: Mapping[str, object]) -> UserError:
    """Returns the error for a run of which no cell stands beside a number of a table.

    It says why the suite's links fail, what there is to choose from, and that a changed link needs
    no new run.

    Args:
        view: The run.
        table: The table.
        where: Keys that all of its rows of interest share.
    """
    rows = [keys for keys in table.keys if has_all(keys, where)] or table.keys
    lines = [
        f"{view.folder}: expected a model and an attack that are linked to a number of {table.id} "
        f"by 'published' in the suite, found none; rbench published show {table.id} explains both",
    ]
    wanted = {model.label: {**where, **model.published} for model in view.models if model.published}
    unfit = {k: row for k, row in wanted.items() if not any(has_all(one, row) for one in rows)}
    lines += [
        f"{label}: {why_none(rows, row, f'of {table.id}')[1]}" for label, row in unfit.items()
    ]
    if len(unfit) == len(wanted):
        link = in_yaml(shortest(rows[0], rows))
        lines.append(f"link models to rows: - {{checkpoint: NAME, published: {link}}}")
        lines.append(f"rows: {choices(rows)}")
    named = {attack.label: attack.published for attack in view.attacks if attack.published}
    if not set(named.values()) & set(table.columns):
        known = table.columns
        lines += [f"{k}: no column '{one}'{did_you_mean(one, known)}" for k, one in named.items()]
        lines.append(f"link attacks to columns: - {{attack: NAME, published: {known[0]}}}")
        lines.append(f"columns: {', '.join(known)}")
    file = suite_called(view.suite.suite) or "FILE"
    lines.append(
        f"then, without a new run: rbench report {view.folder} --suite {file} --compare {table.id}"
    )
    return UserError("\n".join(lines))


def verdict(found: Iterable[Match]) -> str:
    """Returns whether published and measured numbers are comparable, in one or two sentences."""
    found = [match for match in found if match.outcome.status == "ok"]
    differing = [match for match in found if match.mismatches]
    if not found:
        return "Nothing is measured here yet."
    if not differing:
        return "Comparable: the same experiment, as far as the paper says."
    places: dict[str, list[tuple[str, Mismatch]]] = {}
    for match in differing:
        for one in match.mismatches:
            places.setdefault(one.what, []).append((match.attack_label, one))
    parts = [_part(what, ones, len(found)) for what, ones in places.items()]
    count = "" if len(differing) == len(found) else f" in {len(differing)} of {len(found)} numbers"
    return f"Not comparable{count}, as these differ: {'; '.join(parts)}."


def _part(what: str, ones: list[tuple[str, Mismatch]], n_numbers: int) -> str:
    """Describes one difference: its value on either side, or the attacks it concerns."""
    if what in OF_ATTACKS:
        return f"{what} ({', '.join(dict.fromkeys(label for label, _ in ones))})"
    here = _few([one.here for _, one in ones])
    there = _few([one.there for _, one in ones])
    sometimes = "" if len(ones) == n_numbers else ", not for every number"
    return f"{what} ({here} here, {there} there{sometimes})"


def remarks(view: RunView, found: Iterable[Match]) -> list[str]:
    """Returns sentences about minor differences, and about facts that the store lacks."""
    found = list(found)
    infos = (match.outcome.info for match in found)
    stochastic = any(info is not None and info.spec.n_draws > 1 for info in infos)
    noted = all(view.facts(match.model) is not None for match in found)
    texts = asides((match.setting for match in found), stochastic, noted)
    return [f"{text[0].upper()}{text[1:]}." for text in texts]


def _few(texts: Iterable[str]) -> str:
    """Joins the distinct texts, at most three of them."""
    once = list(dict.fromkeys(texts))
    return ", ".join(once) if len(once) <= 3 else f"{', '.join(once[:3])} and others"

"""What one result is better by than another, image by image: ``compare``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.core.errors import UserError, did_you_mean
from bench.core.result import CellInfo, Row, cluster_of
from bench.evaluation.result import CLEAN, WORST_CASE, AttackResult, EvaluationResult
from bench.metrics import Difference, paired_difference, points, worst_case_rows
from bench.metrics.accuracy import aligned_rows, clusters
from bench.metrics.paired import score_difference
from bench.untrusted.escape import markdown, one_line

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Comparison:
    """Paired differences of two results on the same images.

    Attributes:
        differences: How much higher the first is, by what is compared: ``clean``, the attacks that
            both have, and ``worst case``.
        names: What the two are called.
        notes: In what else they differ, and what could not be compared.
    """

    differences: Mapping[str, Difference]
    names: tuple[str, str]
    notes: tuple[str, ...] = ()

    def __getitem__(self, label: str) -> Difference:
        """Returns a difference; raises ``UserError`` for an unknown label."""
        if label not in self.differences:
            raise UserError(f"'{label}' is not compared{did_you_mean(label, self.differences)}")
        return self.differences[label]

    def __iter__(self) -> Iterator[str]:
        """Yields the labels, as a mapping does."""
        return iter(self.differences)

    def __len__(self) -> int:
        """Returns the number of differences."""
        return len(self.differences)

    def table(self) -> pd.DataFrame:
        """Returns one line for each difference.

        Columns: ``difference``, ``low``, ``high`` (in [-1, 1]; NaN where there is no interval),
        ``n`` pairs, ``p_value``, ``verdict`` (``higher``, ``lower``, ``no difference shown``) and
        ``method`` of the interval.
        """
        import pandas as pd

        lines = [
            {
                "attack": label,
                "difference": one.value,
                "low": one.low,
                "high": one.high,
                "n": one.n,
                "p_value": one.p_value,
                "verdict": one.verdict,
                "method": one.method,
            }
            for label, one in self.differences.items()
        ]
        numbers = dict.fromkeys(("difference", "low", "high", "p_value"), "float64")
        return pd.DataFrame(lines).set_index("attack").astype(numbers)

    def __repr__(self) -> str:
        grid = [[one_line(text) for text in line] for line in self._grid()]
        text = tabulate(grid[1:], grid[0], "simple", disable_numparse=True)
        notes = "\n".join(map(one_line, self.notes))
        return "\n\n".join(filter(None, (one_line(self._head()), text, notes)))

    def _repr_markdown_(self) -> str:
        """Returns the table as notebooks show it."""
        grid = [[markdown(text) for text in line] for line in self._grid()]
        align = ("left", "right", "right", "right", "right", "left")
        text = tabulate(grid[1:], grid[0], "pipe", disable_numparse=True, colalign=align)
        notes = "\n".join(f"- {markdown(note)}" for note in self.notes)
        return "\n\n".join(filter(None, (markdown(self._head()), text, notes)))

    def to_markdown(self) -> str:
        """Returns the table and its notes as GitHub-flavoured Markdown."""
        return self._repr_markdown_()

    def _head(self) -> str:
        return f"{self.names[0]} minus {self.names[1]}, paired on the same images"

    def _grid(self) -> Iterator[tuple[str, ...]]:
        yield "attack", "points", "95 % interval", "n", "p", self.names[0]
        for label, one in self.differences.items():
            p = "" if one.p_value is None else f"{one.p_value:.2g}"
            yield label, points(one.value), one.brackets(points), str(one.n), p, one.verdict


def compare(
    a: EvaluationResult | AttackResult,
    b: EvaluationResult | AttackResult,
    *,
    names: tuple[str, str] | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Returns how much more robust one result is than another, with intervals.

    The differences are paired: of the scores of the same images. Two models are compared under each
    attack that both have, on the clean images, and in the worst case over these attacks; two
    attacks on a model, ``compare(result["pgd"], result["apgd"])``, by what they leave.

    Args:
        a: The first.
        b: What is subtracted.
        names: What the two are called; by default their models or attacks.
        confidence: Coverage of the intervals; ``1 - confidence`` is the level of the test.

    Raises:
        UserError: When they are not of the same images, have no attack in common, or nothing
            complete.
    """
    if isinstance(a, AttackResult) and isinstance(b, AttackResult):
        return _of_attacks(a, b, names, confidence)
    for name, one in (("a", a), ("b", b)):
        if not isinstance(one, EvaluationResult):
            raise UserError(
                f"{name}: expected two results of evaluate(), or two attacks of results, "
                f"result['pgd'], found {type(one).__name__}"
            )
    assert isinstance(a, EvaluationResult) and isinstance(b, EvaluationResult)
    shared = [label for label in a.cells if label in b.cells]
    if not shared:
        raise UserError(
            f"the two have no attack in common: {', '.join(a)} and {', '.join(b)}; give attacks "
            "the same label"
        )
    found: dict[str, Difference] = {}
    notes = _differing(a, b, shared)
    done = [label for label in shared if a[label].info.complete and b[label].info.complete]
    for label in shared:
        _same_images(a[label], b[label], label)
        if label not in done:
            notes.append(f"{label}: not compared, as it is incomplete")
    kinds = {label: a[label].info.attack_kind for label in done}
    if done and "none" not in kinds.values():
        most = max(done, key=lambda label: len(a[label].rows))
        found[CLEAN] = _clean(a[most], b[most], confidence)
    for label in done:
        found[label] = _difference(a[label], b[label], confidence)
    counted = [one for one in done if kinds[one] != "none" and one not in a.apart | b.apart]
    if counted:
        found[WORST_CASE] = _worst(a, b, counted, confidence)
        left_out = sorted({*a.cells, *b.cells} - {*shared})
        notes += [f"worst case: without {', '.join(left_out)}, which one lacks"] * bool(left_out)
    if not found:
        raise UserError("nothing that both have is complete, so there is nothing to compare")
    if names is None:
        names = (a.model, b.model) if a.model != b.model else ("a", "b")
    return Comparison(found, names, tuple(notes))


def _of_attacks(
    a: AttackResult, b: AttackResult, names: tuple[str, str] | None, confidence: float
) -> Comparison:
    for one in (a, b):
        if not one.info.complete:
            raise UserError(f"'{one.info.spec.attack}' is incomplete: {one.info.error}")
    _same_images(a, b, "the attacks")
    names = names or (a.info.spec.attack, b.info.spec.attack)
    balls = [one.info.spec.threat_model.describe() for one in (a, b)]
    notes = (f"threat models differ: {balls[0]} and {balls[1]}",) * (balls[0] != balls[1])
    return Comparison({"robust accuracy": _difference(a, b, confidence)}, names, notes)


def _differing(a: EvaluationResult, b: EvaluationResult, shared: Sequence[str]) -> list[str]:
    """Returns in what two results differ beside their models."""
    balls = [one.describe_threat() for one in (a, b)]
    notes = [f"threat models differ: {balls[0]} and {balls[1]}"] * (balls[0] != balls[1])
    for label in shared:
        first, second = a[label].info.spec, b[label].info.spec
        keys = ("attack", "attack_params", "protocol", "adversary", "eot_iter", "eot", "seed")
        aimed = (*keys, "y_target")
        other = [key for key in aimed if getattr(first, key) != getattr(second, key)]
        notes += [f"{label}: {' and '.join(other)} differ"] * bool(other)
        alarmed = [one.model for one in (a, b) if one[label].info.alarms]
        notes += [f"! {label}: under alarm: {', '.join(alarmed)}"] * bool(alarmed)
    return notes


def _same_images(a: AttackResult, b: AttackResult, what: str) -> None:
    if a.info.spec.data_hash != b.info.spec.data_hash:
        raise UserError(
            f"{what}: the two are of different images or labels, so that nothing is paired; "
            "evaluate both on the same x and y"
        )


def _infos(*cells: AttackResult) -> list[CellInfo]:
    return [cell.info for cell in cells]


def _coarser(a: Sequence[Row], b: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row], float]:
    """Returns two results with the one in larger batches first, and the sign of the difference."""
    swap = len({row.batch for row in b}) < len({row.batch for row in a})
    return (b, a, -1.0) if swap else (a, b, 1.0)


def _difference(a: AttackResult, b: AttackResult, confidence: float) -> Difference:
    return _paired(a.rows, b.rows, _infos(a, b), confidence)


def _paired(
    a: Sequence[Row], b: Sequence[Row], infos: Sequence[CellInfo], confidence: float
) -> Difference:
    """Returns a paired difference; the clusters are the larger batches of the two."""
    first, second, sign = _coarser(a, b)
    found = paired_difference(first, second, cluster_of(infos), confidence)
    return found if sign > 0 else _negated(found)


def _negated(one: Difference) -> Difference:
    low = None if one.high is None else -one.high
    high = None if one.low is None else -one.low
    return Difference(-one.value, low, high, one.n, one.method, one.p_value, one.confidence)


def _clean(a: AttackResult, b: AttackResult, confidence: float) -> Difference:
    first, second, sign = _coarser(a.rows, b.rows)
    groups = clusters(first, cluster_of(_infos(a, b)))
    ordered = aligned_rows(first, second, "sample")
    scores = [row.clean_correct for row in first], [row.clean_correct for row in ordered]
    found = score_difference(*scores, groups, confidence)
    return found if sign > 0 else _negated(found)


def _worst(
    a: EvaluationResult, b: EvaluationResult, labels: Sequence[str], confidence: float
) -> Difference:
    rows = []
    for one in (a, b):
        cells = [one[label] for label in labels]
        whole = all(cell.info.whole_batches for cell in cells)
        cluster = cluster_of(_infos(*cells))
        some = [cell.rows for cell in cells]
        rows.append(worst_case_rows(some, cluster, whole_batches=whole))
    infos = _infos(*(one[label] for one in (a, b) for label in labels))
    return _paired(rows[0], rows[1], infos, confidence)

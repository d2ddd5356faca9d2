"""The leaderboard: models by attacks, with the worst case over the attacks and ranks by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.core.threat import ThreatModel, joined
from bench.metrics import Contender, Estimate, leaders, robust_accuracy
from bench.metrics import ranks as find_ranks
from bench.report.cells import (
    CellMaker,
    attack_columns,
    distance_table,
    draws_table,
    mean_corruption,
    targeted_table,
)
from bench.report.papers.match import Paper
from bench.report.run_view import RunView
from bench.report.table import (
    RANK,
    WORST_CASE,
    Cell,
    Column,
    Footnotes,
    Ranked,
    Report,
    Section,
    Table,
    TableRow,
)
from bench.report.text import attack_section, head, model_section, title
from bench.report.worst_case import in_worst_case, worst_case
from bench.suite.entry import ReportEntry

CORRUPTED = "corruptions"

MAX_RANKED = 100
"""Largest leaderboard with ranks, which take a comparison of every two rows."""


@dataclass(frozen=True)
class _WorstCase:
    """A model's worst case.

    Attributes:
        cell: Its cell.
        accuracy: The number; ``None`` where no attack is complete.
        contender: The rows to rank; ``None`` likewise.
        protocol: Name of the protocol of the first attack.
        best: Whether it is among the best.
    """

    cell: Cell
    accuracy: Estimate | None = None
    contender: Contender | None = None
    protocol: str = ""
    best: bool = False


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds the leaderboard of a run.

    Raises:
        UserError: When the published table cannot be used, or cells cannot be compared.
    """
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    paper = Paper.of(entry)
    columns = attack_columns(view, footnotes)
    attacked = [
        tuple(
            maker.accuracy(view.outcome(i, j), paper.value(model.published, attack.published))
            for j, attack in ((j, view.attacks[j]) for j in view.adversaries())
        )
        for i, model in enumerate(view.models)
    ]
    if corrupted := view.corruptions():
        columns += (Column(CORRUPTED),)
        attacked = [
            (*cells, mean_corruption(view, i, corrupted, maker)) for i, cells in enumerate(attacked)
        ]
    of_balls, in_balls = _each_ball(view, maker)
    more_columns, more, ranking = _ranking(view, maker)
    more_columns = of_balls + more_columns
    more = [(*one, *rest) for one, rest in zip(in_balls, more, strict=True)]
    rows = [TableRow((model.label,), attacked[i] + more[i]) for i, model in enumerate(view.models)]
    tables = [Table("", ("model",), columns + more_columns, tuple(rows), higher_is_better=True)]
    if (aimed := targeted_table(view, maker)) is not None:
        tables.append(aimed)
    if (draws := draws_table(view, maker)) is not None:
        tables.append(draws)
    if (distances := distance_table(view, maker)) is not None:
        tables.append(distances)
    return Report(
        title=title(view),
        head=head(view),
        tables=tuple(tables),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading(view, paper)),
        ranking=ranking,
    )


def standings(view: RunView) -> tuple[Ranked, ...]:
    """Returns the ranking of a run's leaderboard without its tables.

    Raises:
        UserError: When cells cannot be compared.
    """
    return _ranking(view, CellMaker(Footnotes(), view.common_n()))[2]


def _ranking(
    view: RunView, maker: CellMaker
) -> tuple[tuple[Column, ...], list[tuple[Cell, ...]], tuple[Ranked, ...]]:
    """Returns the columns after the attacks, their cells for each model, and the ranking."""
    if not in_worst_case(view):
        return (), [()] * len(view.models), ()
    worst = _with_best([_worst_case(view, i, maker) for i in range(len(view.models))])
    columns = (Column(WORST_CASE, leading=True), Column(RANK, in_csv=False, leading=True))
    ranks = _ranks(worst) if len(worst) <= MAX_RANKED else [None] * len(worst)
    ranking = tuple(
        Ranked(
            label=model.label,
            rank=ranks[i],
            accuracy=one.accuracy,
            clean=_clean(view, i),
            protocol=one.protocol,
            alarms=one.cell.alarms,
            partial=one.cell.status != "ok",
            best=one.best,
        )
        for i, (model, one) in enumerate(zip(view.models, worst, strict=True))
        if one.accuracy is not None
    )
    if len(worst) > MAX_RANKED:
        return columns[:1], [(one.cell,) for one in worst], ranking
    cells = [_rank_cells(one, rank, maker) for one, rank in zip(worst, ranks, strict=True)]
    return columns, cells, ranking


def _each_ball(
    view: RunView, maker: CellMaker
) -> tuple[tuple[Column, ...], list[tuple[Cell, ...]]]:
    """Returns a column for the worst case in each threat model of a union, and their cells."""
    balls = view.suite.threat_models if view.suite.union else ()
    balls = tuple(ball for ball in balls if in_worst_case(view, ball))
    columns = tuple(Column(f"{WORST_CASE}, {ball.describe()}") for ball in balls)
    cells = [
        tuple(_worst_case(view, i, maker, ball).cell for ball in balls)
        for i in range(len(view.models))
    ]
    return columns, cells


def _worst_case(
    view: RunView, model: int, maker: CellMaker, ball: ThreatModel | None = None
) -> _WorstCase:
    """Returns the cell of a model's worst case, in one threat model of a union or in all."""
    found = worst_case(view, model, ball)
    if found is None:
        outcomes = [view.outcome(model, j) for j in in_worst_case(view, ball)]
        if all(outcome.status == "absent" for outcome in outcomes):
            return _WorstCase(maker.absent(outcomes[0], None))
        reason = "no attack on this model is complete"
        mark = maker.footnotes.mark(reason)
        return _WorstCase(Cell(("incomplete",), (mark,), status="incomplete", reason=reason))
    estimate = found.accuracy
    marks = maker.marks(estimate, found.alarms) + maker.adaptive_marks(*found.infos)
    if found.bound:
        marks += (maker.footnotes.mark(found.bound),)
    contender = Contender(found.rows, found.cluster, upper_bound=bool(found.absent))
    cell = Cell.of(
        estimate,
        maker.lines(estimate),
        marks,
        status="partial" if found.absent else "ok",
        protocol=found.protocol,
        alarms=found.alarms,
        reason=found.bound,
        contender=None if found.absent or found.alarms else contender,
    )
    return _WorstCase(cell, estimate, contender, found.infos[0].spec.protocol)


def _ranks(worst: list[_WorstCase]) -> list[int | None]:
    """Returns the rank of each worst case; ``None`` where there is no number."""
    found = iter(find_ranks([one.contender for one in worst if one.contender is not None]))
    return [None if one.contender is None else next(found) for one in worst]


def _with_best(worst: list[_WorstCase]) -> list[_WorstCase]:
    """Marks the best of the worst cases that can be compared, of which there must be two.

    These are complete, under no alarm, and of one protocol: white boxes, or else that of the first
    model. Those not significantly lower than the best share the mark.
    """
    sound = [
        i
        for i, one in enumerate(worst)
        if one.cell.status == "ok" and one.cell.low is not None and not one.cell.alarms
    ]
    protocols = [worst[i].protocol for i in sound]
    protocol = "white_box" if "white_box" in protocols else next(iter(protocols), "")
    alike = {i: c for i in sound if worst[i].protocol == protocol and (c := worst[i].contender)}
    if len(alike) < 2:
        return worst
    flags = dict(zip(alike, leaders(list(alike.values())), strict=True))
    return [
        replace(one, best=True, cell=replace(one.cell, best=True)) if flags.get(i) else one
        for i, one in enumerate(worst)
    ]


def _clean(view: RunView, model: int) -> Estimate | None:
    """Returns a model's accuracy without an attack; ``None`` where it was not measured."""
    for outcome in view.outcomes_of(model):
        info = outcome.info
        if outcome.status == "ok" and info is not None and info.attack_kind == "none":
            return robust_accuracy(outcome.rows, info.cluster)
    return None


def _rank_cells(worst: _WorstCase, rank: int | None, maker: CellMaker) -> tuple[Cell, ...]:
    """Returns the cells of a worst case and of its rank, which share a line of the CSV file."""
    cell = worst.cell
    if rank is None:
        return cell, Cell(("—",), status="incomplete", reason=cell.reason)
    shown = Cell(
        (str(rank),), maker.alarm_marks(cell.alarms), status=cell.status, alarms=cell.alarms
    )
    return replace(cell, extra={**cell.extra, "rank": rank}), shown


def _reading(view: RunView, paper: Paper) -> Section:
    """Returns how to read the table."""
    suite, balls = view.suite.threat_model, view.suite.threat_models
    attacks = [view.attacks[j] for j in view.adversaries()]
    outside = [a for a in attacks if not any(b.holds(a.threat_model(suite)) for b in balls)]
    norms = {ball.norm for ball in balls}
    beyond = [a.label for a in outside if a.threat_model(suite).norm in norms]
    elsewhere = [a.label for a in outside if a.threat_model(suite).norm not in norms]
    of_all = f", in the union of {joined(balls)}" if len(balls) > 1 else ""
    items = [
        (
            WORST_CASE,
            f"the share of images that are right under every complete attack of the row{of_all}, "
            "decided image by image; of a stochastic model, the score under the attack that was "
            "the strongest on the image on other draws",
        ),
        (
            RANK,
            "1 and the number of models whose worst case is shown to be higher, by the paired "
            "difference on the same images: its 95 % interval excludes 0 (adjusted Wald; Student's "
            "for fractions of draws and between batches, the coarser of the two models', where "
            "images share them) and the exact p of the signs, McNemar's, is below 0.05; not "
            "corrected for the number of pairs. Models that are not told apart tie. A worst case "
            "over some of the attacks is an upper bound, so it puts no other model lower",
        ),
        (
            "intervals",
            "Wilson's for independent images; for fractions of draws with the number of images "
            "that follows from their variance; where the images of a batch share statistics or a "
            "path, with the effective number of images, from the variance between batches",
        ),
    ]
    for attack in view.attacks:
        if attack.limit is not None:
            said = (
                f"on the first {attack.limit} images, so no part of the worst case, which is of all"
            )
            items.append((attack.label, said))
    if aimed := [attack.label for attack in view.attacks if attack.y_target is not None]:
        said = (
            "targeted: success is a prediction of the target class, so the number is the share of "
            "images that were not brought to it; an image of another wrong class counts as not "
            "brought, so that this is no accuracy and no part of the worst case"
        )
        items.append((", ".join(aimed), said))
    if n := len(view.corruptions()):
        said = (
            f"mean accuracy over {n} common corruption{'s' * (n > 1)}, which no adversary chose "
            "and no ball bounds, so no part of the worst case; its interval takes each image with "
            "all of its corruptions as one. Report kind corruptions shows each"
        )
        items.append((CORRUPTED, said))
    if beyond:
        said = "of a larger eps than the suite's, so not among the attacks of the worst case"
        items.append((", ".join(beyond), said))
    if elsewhere:
        said = "in a ball of another norm than the suite's, so not among the attacks of the worst "
        items.append((", ".join(elsewhere), f"{said}case; a list under threat_model makes a union"))
    if note := paper.note(view):
        items.append(("paper", note))
    return Section("How to read this", tuple(items))

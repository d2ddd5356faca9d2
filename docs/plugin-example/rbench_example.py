"""An attack and a kind of report for rbench, as another package brings them."""

from bench.attacks import Attack, NoParams, Traits
from bench.report.table import Cell, Column, Report, Table, TableRow


def run(oracle, x, y, budget, params, seed):
    """Steps against the gradient, half as far as the ball allows; the caller verifies."""
    from bench.oracle import cross_entropy  # torch, which a listing need not import

    slope = oracle.query(x, y, cross_entropy).grad.sign()
    return (x + 0.5 * budget.radius("halfway") * slope).clamp(0, 1)


HALFWAY = Attack(
    name="halfway",
    version=1,  # raise it whenever the attack changes: results of the old one are not reused
    kind="bounded",
    norms=("linf",),
    params=NoParams,
    run=run,
    summary="half a step of FGSM",
    url="https://arxiv.org/abs/1412.6572",
    traits=Traits(steps="one"),  # alarms and convergence sweeps go by it
)


def passes(view, entry):
    """Builds a table of what each attack spent on each model: passes an image."""
    rows = []
    for i, model in enumerate(view.models):
        cells = []
        for j in range(len(view.attacks)):
            spent = [row.forwards + row.backwards for row in view.outcome(i, j).rows]
            mean = sum(spent) / len(spent) if spent else None
            cells.append(Cell(lines=(f"{mean:.1f}" if spent else "-",), n=len(spent)))
        rows.append(TableRow((model.label,), tuple(cells)))
    columns = tuple(Column(attack.label) for attack in view.attacks)
    table = Table("Passes an image.", ("model",), columns, tuple(rows))
    return Report("Passes", (), (table,), (), ())

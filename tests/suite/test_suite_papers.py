"""Each table and figure of both papers is a suite, at hand and at the papers' own scale.

Checkpoints need not be trained for this: recipes say what they will be.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from recipe_lookup import recipe_lookup

from bench.core.checkpoint import CheckpointFacts
from bench.core.result import CellInfo
from bench.published import load_table, match_row, table_ids
from bench.report import build_reports
from bench.report.papers.mismatches import Mismatch, mismatches
from bench.store.run_store import RunStore
from bench.suite.find import find_suite
from bench.suite.load import load_suite
from bench.suite.plan import Plan, PlannedCell, make_plan
from bench.suite.resolve import Lookup

ROOT = Path(__file__).parents[2]
FOLDERS = ("robustnorm", "rna", "papers/robustnorm", "papers/rna")
NAMES = sorted(
    path.relative_to(ROOT / "suites").with_suffix("").as_posix()
    for folder in FOLDERS
    for path in (ROOT / "suites" / folder).glob("*.yaml")
)
TABLES_AND_FIGURES = {
    "robustnorm": [f"table{i}" for i in range(1, 7)] + [f"fig{i}" for i in range(2, 8)],
    "rna": [f"table{i}" for i in range(1, 6)] + ["fig1", "fig2", "fig3", "fig5a", "fig5b", "fig5c"],
}


@pytest.fixture(scope="module")
def recipes() -> Lookup:
    return recipe_lookup(ROOT / "checkpoints" / "recipes")


def plan_of(name: str, lookup: Lookup) -> Plan:
    return make_plan(load_suite(ROOT / "suites" / f"{name}.yaml", lookup))


@pytest.mark.parametrize("name", NAMES)
def test_suite_is_valid_and_named_like_its_file(name: str, recipes: Lookup) -> None:
    plan = plan_of(name, recipes)
    assert plan.suite.suite == name.replace("/", "_")
    assert plan.suite.title and plan.suite.reports
    assert plan.to_run and not [cell for cell in plan.cells if cell.refused]
    assert plan.suite.title.lower().startswith(name.split("/")[-2])


@pytest.mark.parametrize("paper", TABLES_AND_FIGURES)
@pytest.mark.parametrize("scale", ["", "papers/"])
def test_each_table_and_figure_is_found_by_name(paper: str, scale: str) -> None:
    for item in TABLES_AND_FIGURES[paper]:
        path = find_suite(f"{scale}{paper}/{item}", [ROOT / "suites"])
        assert path == ROOT / "suites" / f"{scale}{paper}" / f"{item}.yaml"


def test_papers_own_scale_has_all_of_its_data_sets() -> None:
    for name in ("mnist", "cifar10", "cifar100", "imagenet"):
        assert f"papers/robustnorm/table1_{name}" in NAMES
    assert {"papers/robustnorm/table4_cifar100", "papers/rna/table3_imagenet"} <= set(NAMES)


def matched(plan: Plan) -> Iterator[tuple[str, str, PlannedCell, tuple[Mismatch, ...]]]:
    """Yields table, column and cell of each planned published number, with what would differ."""
    manifest = plan.manifest()
    for entry in plan.suite.reports:
        if not entry.published:
            continue
        table = load_table(entry.published)
        for cell in plan.cells:
            model = plan.suite.models[cell.model_index]
            column = plan.suite.attacks[cell.attack_index].published
            if not model.published or column not in table.columns:
                continue
            row = match_row(table, entry.where, model.published)
            assert row is not None, (entry.published, model.published)
            facts = manifest.checkpoints[model.checkpoint]
            found = _differences(cell, facts, table.setting(row[0], column))
            yield table.id, column, cell, found


def _differences(
    cell: PlannedCell, facts: CheckpointFacts, setting: object
) -> tuple[Mismatch, ...]:
    info = CellInfo(
        cell_id=cell.cell_id,
        spec=cell.spec,
        complete=True,
        attack_kind=cell.attack_kind,
        cluster="batch" if cell.batch_dependent else "sample",
        seconds=0,
        machine="",
        versions={},
        date="",
    )
    return mismatches(info, cell.n_images, facts, setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("papers/")])
def test_papers_suites_repeat_the_papers_experiments(name: str, recipes: Lookup) -> None:
    """Decided by the data: nothing may differ, but that success counts within eps only here."""
    for _, column, cell, differ in matched(plan_of(name, recipes)):
        left = [one for one in differ if one.what != "success"]
        assert not left, (cell.model_label, column, [str(one) for one in left])


def test_papers_suites_hold_every_published_number(recipes: Lookup) -> None:
    """But for other people's defences, what is no accuracy, and what only an analysis shows."""
    there = {
        (table_id, name, cell.model_label, column)
        for name in NAMES
        if name.startswith("papers/")
        for table_id, column, cell, _ in matched(plan_of(name, recipes))
    }
    counts = {table_id: sum(one[0] == table_id for one in there) for table_id in table_ids()}
    for table_id in table_ids():
        table = load_table(table_id)
        n = sum(value is not None for _, values in table.rows for value in values.values())
        expected = {
            "rna/table3": 3,
            "rna/fig1_about": 0,
            "rna/fig5b_drop": 0,
            "rna/fig5c": 0,
            "rna/table5": n + 6,  # the row that failed to train has only its clean accuracy
            "robustnorm/table4": 2 * n,  # a gain is of two cells
        }.get(table_id, n)
        assert counts[table_id] == expected, table_id


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("papers/")])
def test_suites_at_hand_take_the_papers_attacks(name: str, recipes: Lookup) -> None:
    """Other data, networks and eps, but steps in the same shares of eps; AutoAttack is cut."""
    plan = plan_of(name, recipes)
    for _, column, cell, differ in matched(plan):
        allowed = {"images", "data", "architecture", "threat model", "success", "training"}
        if "autoattack" in column or (column == "cw" and plan.suite.data.name != "cifar10"):
            allowed.add("attack's parameters")  # CW's c and rate are those of the data at hand
        left = [one for one in differ if one.what not in allowed]
        assert not left, (cell.model_label, column, [str(one) for one in left])
    assert 100 <= plan.n_images <= 1024
    if name.startswith("robustnorm"):
        assert plan.suite.threat_model.eps_space == "normalized"


@pytest.mark.parametrize("name", [name for name in NAMES if "rna/table" in name])
def test_rna_stands_under_the_papers_protocol_and_under_eot(name: str, recipes: Lookup) -> None:
    plan = plan_of(name, recipes)
    stochastic = [cell.spec for cell in plan.cells if cell.spec.n_draws > 1]
    protocols = {spec.protocol for spec in stochastic}
    table5 = name.endswith("table5")  # an ablation of eight spaces
    assert protocols == ({"fixed_path"} if table5 else {"fixed_path", "white_box"})
    assert table5 or max(spec.eot_iter for spec in stochastic) in (4, 20)


@pytest.mark.parametrize("name", NAMES)
def test_reports_can_be_built_before_anything_is_run(
    name: str, recipes: Lookup, tmp_path: Path
) -> None:
    """So that no suite runs for an hour and then ends in a report that does not fit it."""
    plan = plan_of(name, recipes)
    RunStore(tmp_path).write_manifest(plan.manifest())
    kinds = [kind for kind, _ in build_reports(tmp_path)]
    assert len(kinds) == len(plan.suite.reports)

"""``each`` writes one entry for many: how many, in which order, under which names."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core.errors import UserError
from bench.store.manifest import Manifest
from bench.suite.grid import MAX_ENTRIES, write_out
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.resolve import Lookup, ResolvedSuite
from bench.suite.spec import SuiteSpec

BN, IN, RNA = "fmnist-resnet20-bn", "fmnist-resnet20-in", "fmnist-resnet20-rna-at"
PGD = "torchattacks:PGD"
BASE: dict[str, Any] = {
    "suite": "demo",
    "data": {"name": "fashion-mnist", "limit": 64},
    "threat_model": {"eps": 0.1},
    "models": [BN],
    "attacks": [PGD],
}


def resolved(folder: Path, lookup: Lookup, **changes: Any) -> ResolvedSuite:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}, sort_keys=False), encoding="utf-8")
    return load_suite(path, lookup)


def load(folder: Path, lookup: Lookup, **changes: Any) -> SuiteSpec:
    return resolved(folder, lookup, **changes).spec


def plan(folder: Path, lookup: Lookup, **changes: Any) -> Plan:
    return make_plan(resolved(folder, lookup, **changes))


def test_models_are_the_product_in_the_order_of_the_file(tmp_path: Path, lookup: Lookup) -> None:
    entry = {"each": {"checkpoint": {"bn": BN, "in": IN}, "batch_size": [8, 16]}}
    suite = load(tmp_path, lookup, models=[RNA, entry])
    assert [(m.checkpoint, m.batch_size) for m in suite.models] == [
        (RNA, None),
        (BN, 8),
        (BN, 16),
        (IN, 8),
        (IN, 16),
    ]
    assert [m.label for m in suite.models][1:3] == ["bn, batch size 8", "bn, batch size 16"]
    assert {m.line(without={"batch_size"}) for m in suite.models[1:]} == {"bn", "in"}


def test_labels_say_what_varies_after_what_does_not(tmp_path: Path, lookup: Lookup) -> None:
    models = [
        {"checkpoint": BN, "stats": "batch", "each": {"batch_size": [2, 4]}},
        {"label": "mine", "each": {"checkpoint": [BN, IN]}},
        {"stats": "batch", "each": {"checkpoint": {"bn": BN}, "adversary": ["joint", "single"]}},
        {"checkpoint": RNA, "each": {"eot_iter": [1, 5]}},
        {"checkpoint": IN, "protocol": "transfer", "each": {"surrogate": {"rna": RNA, "bn": BN}}},
    ]
    suite = load(tmp_path, lookup, models=models)
    assert [m.label for m in suite.models] == [
        f"{BN} (batch), batch size 2",
        f"{BN} (batch), batch size 4",
        f"mine, {BN}",
        f"mine, {IN}",
        "bn, batch, joint",
        "bn, batch, single",
        f"{RNA}, EOT 1",
        f"{RNA}, EOT 5",
        f"{IN} (transfer), from rna",
        f"{IN} (transfer), from bn",
    ]


def test_attacks_vary_in_eps_and_in_any_parameter(tmp_path: Path, lookup: Lookup) -> None:
    each = {"eps": ["8/255", 0.2], "params.n_iter": [5, 10]}
    attacks = ["natural", {"attack": PGD, "params": {"alpha": 0.01}, "each": each}]
    suite = load(tmp_path, lookup, attacks=attacks)
    found = [(a.eps, a.params["n_iter"], a.params["alpha"]) for a in suite.attacks[1:]]
    assert found == [(8 / 255, 5, 0.01), (8 / 255, 10, 0.01), (0.2, 5, 0.01), (0.2, 10, 0.01)]
    assert [a.label for a in suite.attacks[1:]] == [
        "PGD, eps 8/255, n_iter 5",
        "PGD, eps 8/255, n_iter 10",
        "PGD, eps 0.2, n_iter 5",
        "PGD, eps 0.2, n_iter 10",
    ]
    assert [a.line(without={"eps"}) for a in suite.attacks] == [
        "natural",
        *("PGD, n_iter 5", "PGD, n_iter 10") * 2,
    ]


def test_an_attacks_own_eps_is_the_cells(tmp_path: Path, lookup: Lookup) -> None:
    threat = {"norm": "linf", "eps": 0.06, "eps_space": "normalized"}
    attacks = [{"attack": PGD, "eps": 0.02}, PGD]
    cells = plan(tmp_path, lookup, threat_model=threat, attacks=attacks).cells
    assert [c.spec.threat_model.eps for c in cells] == [0.02, 0.06]
    assert {c.spec.threat_model.eps_space for c in cells} == {"normalized"}
    assert [c.attack_label for c in cells] == ["PGD eps 0.02", "PGD"]
    same = plan(tmp_path, lookup, threat_model={**threat, "eps": 0.02}, attacks=[PGD])
    assert same.cells[0].cell_id == cells[0].cell_id


def test_written_out_by_hand_the_cells_are_the_same(tmp_path: Path, lookup: Lookup) -> None:
    each = plan(
        tmp_path,
        lookup,
        models=[{"stats": "batch", "each": {"checkpoint": [BN], "batch_size": [8, 16]}}],
        attacks=[{"attack": PGD, "each": {"params.n_iter": [5, 10]}}],
    )
    by_hand = plan(
        tmp_path,
        lookup,
        models=[
            {"checkpoint": BN, "stats": "batch", "batch_size": size, "label": str(size)}
            for size in (8, 16)
        ],
        attacks=[{"attack": PGD, "params": {"n_iter": n}, "label": str(n)} for n in (5, 10)],
    )
    assert [c.cell_id for c in each.cells] == [c.cell_id for c in by_hand.cells]


def test_the_diagonal_of_a_transfer_is_the_white_box_cell(tmp_path: Path, lookup: Lookup) -> None:
    names = {"bn": BN, "in": IN, "rna": RNA}
    grid = {
        "protocol": "transfer",
        "eot_iter": 5,
        "each": {"checkpoint": names, "surrogate": names},
    }
    alone = [BN, IN, {"checkpoint": RNA, "eot_iter": 5}]
    transfer = plan(tmp_path, lookup, models=[grid]).cells
    white = {c.spec.checkpoint: c for c in plan(tmp_path, lookup, models=alone).cells}
    for cell in transfer:
        entry_label = cell.model_label.split(", ")
        if f"from {entry_label[0]}" == entry_label[-1]:
            assert cell.cell_id == white[cell.spec.checkpoint].cell_id
            assert (cell.spec.protocol, cell.spec.surrogate) == ("white_box", None)
        else:
            assert cell.spec.protocol == "transfer"
            assert cell.cell_id not in {c.cell_id for c in white.values()}
    # Draws count where the surrogate has any.
    assert [c.spec.eot_iter for c in transfer] == [1, 1, 5] * 3


def test_own_weights_under_other_statistics_are_a_stats_transfer(
    tmp_path: Path, lookup: Lookup
) -> None:
    target = {"checkpoint": BN, "stats": "batch"}
    models = [
        {**target, "protocol": "transfer", "surrogate": BN},
        {**target, "protocol": "stats_transfer", "surrogate": {"stats": "population"}},
    ]
    first, second = plan(tmp_path, lookup, models=models).cells
    assert first.cell_id == second.cell_id


def test_a_name_may_stand_for_every_entry_of_an_each(tmp_path: Path, lookup: Lookup) -> None:
    attacks = ["natural", {"attack": PGD, "label": "P", "each": {"params.n_iter": [5, 10]}}]
    models = [
        {"checkpoint": BN, "attacks": ["P"]},
        {"checkpoint": IN, "attacks": ["natural", "n_iter 10"]},
    ]
    cells = plan(tmp_path, lookup, models=models, attacks=attacks).cells
    assert [(c.model_label, c.attack_label) for c in cells] == [
        (BN, "P, n_iter 5"),
        (BN, "P, n_iter 10"),
        (IN, "natural"),
        (IN, "P, n_iter 10"),
    ]


def test_the_manifest_says_what_checkpoints_are_so_that_reports_need_no_card(
    tmp_path: Path, lookup: Lookup
) -> None:
    rn = "fmnist-resnet20-rn"
    transfer = {"checkpoint": RNA, "protocol": "transfer", "surrogate": BN}
    manifest = plan(tmp_path, lookup, models=[rn, transfer]).manifest()
    assert manifest.checkpoints[rn].norm_spec["power"] == 0.2
    assert [n["name"] for n in manifest.checkpoints[RNA].norm_spec["pool"]] == ["bn", "in"]
    assert set(manifest.checkpoints) == {rn, RNA, BN}
    old = manifest.model_dump(mode="json", exclude={"checkpoints", "analyses"})
    assert Manifest.model_validate(old).checkpoints == {}
    for facts in (full := manifest.model_dump(mode="json"))["checkpoints"].values():
        del facts["norm_spec"]
    assert Manifest.model_validate(full).checkpoints[rn].norm_spec == {}


VALUES = {
    "checkpoint": [BN, IN, RNA],
    "batch_size": [1, 2, 3, 4],
    "protocol": ["white_box", "transfer"],
    "eot_iter": [1, 2],
}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_each_stands_for_its_product_and_every_label_differs(data: st.DataObject) -> None:
    fields = data.draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, unique=True))
    each = {
        name: data.draw(st.lists(st.sampled_from(VALUES[name]), min_size=1, unique=True))
        for name in fields
    }
    label = data.draw(st.sampled_from([{}, {"label": "one"}]))
    own = {} if "checkpoint" in each else {"checkpoint": BN}
    grid = write_out({"models": [{**own, **label, "each": each}]})
    entries = grid.value["models"]
    assert not grid.problems and isinstance(entries, list)
    expected = list(itertools.product(*each.values()))
    assert [tuple(entry[name] for name in each) for entry in entries] == expected
    assert len({entry["label"] for entry in entries}) == len(expected)
    for position, chosen in enumerate(expected):
        for name, value in zip(each, chosen, strict=True):
            at = ("models", 0, "each", name, each[name].index(value))
            assert grid.place(("models", position, name)) == at


GOOD = """\
suite: demo
data: {name: fashion-mnist, limit: 64}
threat_model: {eps: 0.1}
models:
  - fmnist-resnet20-bn
  - each:
      checkpoint: [fmnist-resnet20-in]
      batch_size: [8, 16]
attacks:
  - natural
  - attack: torchattacks:PGD
    label: PGD
    each:
      eps: [8/255, 0.2]
      params.n_iter: [5, 10]
reports:
  - {kind: eps_curve, panels: [{title: PGD, attacks: [PGD]}]}
"""
BAD: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown value": (
        "[fmnist-resnet20-in]",
        "[fmnist-resnet20-in, fmnist-resnet20-im]",
        ("s.yaml:7: models[1].each.checkpoint[1]: unknown checkpoint", "'fmnist-resnet20-in'?"),
    ),
    "value of a wrong kind": (
        "[8, 16]",
        "[8, many]",
        ("s.yaml:8: models[1].each.batch_size[1]: expected a whole number, found 'many'",),
    ),
    "value under a short name": (
        "[8, 16]",
        "{few: 8, many: 0}",
        ("s.yaml:8: models[1].each.batch_size.many:", "greater than or equal to 1, found 0"),
    ),
    "unknown field": (
        "batch_size: [8",
        "batchsize: [8",
        ("s.yaml:8: models[1].each.batchsize: cannot be varied", "did you mean 'batch_size'?"),
    ),
    "field that cannot vary": (
        "batch_size: [8",
        "attacks: [8",
        ("models[1].each.attacks: cannot be varied by each; expected one of checkpoint, ",),
    ),
    "parameter without a name": (
        "params.n_iter",
        "params.",
        ("attacks[1].each.params.: cannot be varied by each",),
    ),
    "unknown parameter": (
        "params.n_iter",
        "params.n_iters",
        ("s.yaml:15: attacks[1].each.params.n_iters[0]: unknown", "did you mean 'n_iter'?"),
    ),
    "bad parameter": (
        "[5, 10]",
        "[5, -1]",
        ("s.yaml:15: attacks[1].each.params.n_iter[1]: expected a whole number, found -1",),
    ),
    "eps beyond the box": (
        "[8/255, 0.2]",
        "[8/255, 8]",
        ("s.yaml:14: attacks[1].each.eps[1]: linf eps", "found 8; write 8/255"),
    ),
    "eps below zero": (
        "[8/255, 0.2]",
        "[-0.1, 0.2]",
        ("attacks[1].each.eps[0]: eps must be greater",),
    ),
    "no values": ("[8, 16]", "[]", ("models[1].each.batch_size: expected a list of values",)),
    "one value": ("[8, 16]", "8", ("models[1].each.batch_size: expected a list of", "found 8")),
    "no each": (
        "    each:\n      eps: [8/255, 0.2]\n      params.n_iter: [5, 10]\n",
        "    each: {}\n",
        ("fields to lists; fields: eps, eot_iter, y_target, params.NAME",),
    ),
    "a value twice": ("[8, 16]", "[8, 8]", ("models[1].each.batch_size[1]: '8' is a second",)),
    "given beside": (
        "  - each:\n",
        "  - batch_size: 4\n    each:\n",
        ("models[1].each.batch_size: given beside each too; remove one of them",),
    ),
    "parameter given beside": (
        "    label: PGD\n",
        "    label: PGD\n    params: {n_iter: 3}\n",
        ("attacks[1].each.params.n_iter: given beside each too",),
    ),
    "unknown key beside": (
        "    label: PGD\n",
        "    label: PGD\n    lable: x\n",
        ("s.yaml:13: attacks[1].lable: unknown key; did you mean 'label'?",),
    ),
    "misspelt each": ("  - each:\n", "  - eahc:\n", ("models[1].eahc:", "mean 'each'?")),
    "what only each may write": (
        "  - natural\n",
        "  - {attack: natural, varied: {}}\n",
        ("attacks[0].varied: unknown key",),
    ),
    "label of another": (
        "  - natural\n",
        '  - {attack: natural, label: "PGD, eps 0.2, n_iter 5"}\n',
        ("attacks[1].label: 'PGD, eps 0.2, n_iter 5' is the label of attacks[0] too",),
    ),
    "too many": (
        "[8, 16]",
        str(list(range(1, 1001))),
        ("models[1].each: 1 x 1000 values make 1001 entries of models, found more than 1000",),
    ),
    "panel with an unknown label": (
        "attacks: [PGD]",
        "attacks: [PDG]",
        ("reports[0].panels[0].attacks[0]: no attack of this suite has the label", "'PGD'?"),
    ),
    "unknown key of a panel": (
        "{title: PGD,",
        "{titel: PGD,",
        ("reports[0].panels[0].titel: unknown key; did you mean 'title'?",),
    ),
    "panels of a table": (
        "kind: eps_curve",
        "kind: leaderboard",
        ("reports[0]: only batch_size_curve, eps_curve,", "take panels"),
    ),
    "two panels of a title": (
        "[{title: PGD, attacks: [PGD]}]",
        "[{title: A}, {title: A}]",
        ("reports[0]: two panels have the same title",),
    ),
}


def test_the_suite_that_the_bad_ones_are_made_from_is_good(tmp_path: Path, lookup: Lookup) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD, encoding="utf-8")
    suite = load_suite(path, lookup).spec
    assert (len(suite.models), len(suite.attacks)) == (3, 5)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_each_is_refused_where_it_stands(case: str, tmp_path: Path, lookup: Lookup) -> None:
    old, new, fragments = BAD[case]
    assert GOOD.count(old) == 1
    path = tmp_path / "s.yaml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_suite(path, lookup)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message
    assert all(line.startswith(f"{path}:") for line in message.splitlines())


def test_a_fault_beside_each_is_said_once(tmp_path: Path, lookup: Lookup) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD.replace("label: PGD\n", "label: PGD\n    eot_iter: 0\n"), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_suite(path, lookup)
    assert str(caught.value).count("attacks[1].eot_iter") == 1


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        ("transfer_heatmap", "models under protocol transfer, found none"),
        ("gain_table", "a checkpoint under stats population and under stats batch, found none"),
        ("eps_curve", "attacks of two values of eps at least, found 1; add for example each: {eps"),
        ("iteration_curve", "attacks of two values of n_iter at least, found 1; add for example"),
        ("batch_size_curve", "models of two values of batch_size at least, found 1; add"),
        ("power_curve", "RobustNorm checkpoints of two values of power at least, found 0; add"),
    ],
)
def test_a_report_that_would_be_empty_is_refused(
    kind: str, lacking: str, tmp_path: Path, lookup: Lookup
) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, lookup, reports=[kind])
    assert f"reports[0].kind: {kind} needs {lacking}" in str(caught.value)


def test_reports_that_have_something_to_show_are_not_refused(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [
        {"each": {"stats": ["population", "batch"], "checkpoint": [BN], "batch_size": [4, 8]}},
        {"checkpoint": IN, "protocol": "transfer", "surrogate": BN},
    ]
    attacks = [{"attack": PGD, "each": {"eps": [0.1, 0.2], "params.n_iter": [1, 2]}}]
    kinds = ["transfer_heatmap", "gain_table", "eps_curve", "iteration_curve", "batch_size_curve"]
    suite = load(tmp_path, lookup, models=models, attacks=attacks, reports=kinds)
    assert len(suite.reports) == 5


def test_a_thousand_entries_are_not_too_many() -> None:
    each = {"batch_size": list(range(1, MAX_ENTRIES + 1))}
    grid = write_out({"models": [{"checkpoint": BN, "each": each}]})
    assert not grid.problems

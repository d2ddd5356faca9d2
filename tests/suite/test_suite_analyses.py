"""Analyses of a suite: refused with line and key path, or planned with an id that says it all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.suite.analyses import PlannedAnalysis
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.resolve import Lookup

GOOD = """\
suite: looks
data: {name: fashion-mnist, limit: 64, seed: 0}
threat_model: {norm: linf, eps: 0.1}
batch_size: 32
n_draws: 5
models:
  - {checkpoint: fmnist-resnet20-bn, label: bn}
  - {checkpoint: fmnist-resnet20-bn, label: bn B, stats: batch, batch_size: 16}
  - {checkpoint: fmnist-resnet20-rna-at, label: rna, eot_iter: 4}
  - {checkpoint: fmnist-resnet20-in, label: in, protocol: transfer, surrogate: fmnist-resnet20-ln}
attacks:
  - {attack: pgd, label: PGD, params: {n_iter: 7}, eps: 0.05}
  - {attack: "torchattacks:DeepFool", label: DF}
analyses:
  - {analysis: statistics_shift, models: [bn, bn B], attack: PGD, limit: 32}
  - {analysis: gradient_similarity, models: [bn, rna]}
  - {analysis: path_difference, models: [rna], attack: PGD, params: {pairs: 3}}
reports: [statistics_shift]
"""

# What is replaced in GOOD, by what, and what the message must hold.
MALFORMED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown analysis": (
        "analysis: gradient_similarity",
        "analysis: gradient_similarty",
        ("suite.yaml:16: analyses[1].analysis:", "did you mean 'gradient_similarity'?"),
    ),
    "unknown key": (
        "limit: 32}",
        "limt: 32}",
        ("suite.yaml:15: analyses[0].limt: unknown key; did you mean 'limit'?",),
    ),
    "unknown parameter": (
        "{pairs: 3}",
        "{pair: 3}",
        ("suite.yaml:17: analyses[2].params.pair: unknown parameter; did you mean 'pairs'?",),
    ),
    "unknown model": (
        "models: [bn, rna]",
        "models: [bn, rmn]",
        ("analyses[1].models[1]: no model of this suite has the label 'rmn'", "'rna'"),
    ),
    "model twice": (
        "models: [bn, rna]",
        "models: [bn, rna, bn]",
        ("analyses[1].models[2]: 'bn' is listed twice",),
    ),
    "too few models": (
        "models: [bn, rna]",
        "models: [bn]",
        ("analyses[1].models: gradient_similarity takes at least 2 models, found 1",),
    ),
    "no attack": (
        "models: [bn, bn B], attack: PGD",
        "models: [bn, bn B]",
        ("suite.yaml:15: analyses[0]: statistics_shift looks at attacked", "labels: PGD, DF"),
    ),
    "unknown attack": (
        "models: [bn, bn B], attack: PGD",
        "models: [bn, bn B], attack: PDG",
        ("analyses[0].attack: no attack", "did you mean 'PGD'?"),
    ),
    "attack where there is none": (
        "models: [bn, rna]}",
        "models: [bn, rna], attack: PGD}",
        ("analyses[1].attack: gradient_similarity attacks nothing; remove attack",),
    ),
    "attack that drops samples": (
        "models: [bn, bn B], attack: PGD",
        "models: [bn, bn B], attack: DF",
        ("analyses[0].models[1]: 'bn B': attack 'DF' drops samples from the batch",),
    ),
    "too many images": (
        "limit: 32}",
        "limit: 65}",
        ("analyses[0].limit: expected at most 64",),
    ),
    "model without tracked statistics": (
        "models: [bn, bn B], attack",
        "models: [bn, rna], attack",
        ("analyses[0].models[1]: statistics_shift looks at layers that track", "'rna'"),
    ),
    "model without paths": (
        "models: [rna], attack",
        "models: [bn], attack",
        ("analyses[2].models[0]: path_difference looks at paths", "'bn' has norm bn"),
    ),
    "model through a surrogate": (
        "models: [bn, rna]}",
        "models: [bn, in]}",
        ("analyses[1].models[1]: 'in' is attacked through a surrogate (transfer)",),
    ),
    "single adversary": (
        "stats: batch, batch_size: 16",
        "stats: batch, adversary: single",
        ("analyses[0].models[1]: statistics_shift looks at batches that are attacked whole",),
    ),
    "label twice": (
        "analysis: gradient_similarity,",
        "analysis: gradient_similarity, label: statistics_shift,",
        ("suite.yaml:16: analyses[1].label: 'statistics_shift' is the label of analyses[0] too",),
    ),
    "report of no analysis": (
        "reports: [statistics_shift]",
        "reports: [loss_surface]",
        ("suite.yaml:18: reports[0].kind: the suite has no analysis 'loss_surface'",),
    ),
}


def load(folder: Path, lookup: Lookup, old: str = "", new: str = "") -> Plan:
    assert old in GOOD
    path = folder / "suite.yaml"
    path.write_text(GOOD.replace(old, new) if old else GOOD, encoding="utf-8")
    return make_plan(load_suite(path, lookup))


@pytest.mark.parametrize("case", list(MALFORMED))
def test_what_is_wrong_is_said_where_it_stands(case: str, tmp_path: Path, lookup: Lookup) -> None:
    old, new, expected = MALFORMED[case]
    with pytest.raises(UserError) as caught:
        load(tmp_path, lookup, old, new)
    for words in expected:
        assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_defaults_and_models_are_resolved(tmp_path: Path, lookup: Lookup) -> None:
    shift, similarity, paths = load(tmp_path, lookup).analyses
    assert (shift.label, shift.models, shift.n_images) == ("statistics_shift", ("bn", "bn B"), 32)
    population, batch = shift.spec.subjects
    assert (population.stats, population.batch_size) == ("population", 32)
    assert (batch.stats, batch.batch_size, batch.n_draws) == ("batch", 16, 1)
    assert shift.spec.attack is not None and shift.spec.attack.params["n_iter"] == 7
    assert shift.spec.threat_model.eps == 0.05  # the attack's own
    assert similarity.spec.attack is None and similarity.spec.threat_model.eps == 0.1
    assert [s.eot_iter for s in similarity.spec.subjects] == [1, 4]
    assert paths.spec.params == {"pairs": 3, "step": 1}
    cell = shift.spec.cell(1)
    assert (cell.stats, cell.batch_size, cell.attack, cell.search) == ("batch", 16, "pgd", "exact")
    with pytest.raises(ValueError, match="has no attack"):
        similarity.spec.cell(0)


def test_passes_are_those_of_attacks_draws_and_models(tmp_path: Path, lookup: Lookup) -> None:
    shift, similarity, paths = load(tmp_path, lookup).analyses
    pgd = 2 * 7
    assert shift.passes == 32 * (2 * (pgd + 2) + 2 * 3)
    assert similarity.passes == 64 * ((2 + 3) + (4 * 2 + 5 * 3))
    assert paths.passes == 64 * (4 * (pgd * 10 + 2) + 5 * 3)


def test_without_models_it_looks_at_all(tmp_path: Path, lookup: Lookup) -> None:
    with pytest.raises(UserError, match=r"'in' is attacked through a surrogate"):
        load(tmp_path, lookup, "models: [bn, rna]}", "label: all}")
    text = "  - {checkpoint: fmnist-resnet20-in, label: in, protocol: transfer"
    path = tmp_path / "suite.yaml"
    lines = [line for line in GOOD.splitlines() if not line.startswith(text)]
    path.write_text("\n".join(lines).replace(", models: [bn, rna]}", "}"))
    plan = make_plan(load_suite(path, lookup))
    assert plan.analyses[1].models == ("bn", "bn B", "rna")


def one(folder: Path, lookup: Lookup, *change: str) -> PlannedAnalysis:
    return load(folder, lookup, *change).analyses[0]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("limit: 32}", "limit: 32, label: other}", True),
        ("limit: 32}", "limit: 16}", False),
        ("{n_iter: 7}", "{n_iter: 8}", False),
        ("eps: 0.05", "eps: 0.06", False),
        ("batch_size: 16", "batch_size: 8", False),
        ("n_draws: 5", "n_draws: 5\nseed: 3", False),
        ("models: [bn, bn B]", "models: [bn B, bn]", False),
    ],
)
def test_the_id_holds_what_decides_the_values_and_no_label(
    old: str, new: str, same: bool, tmp_path: Path, lookup: Lookup
) -> None:
    before = one(tmp_path, lookup).analysis_id
    assert (one(tmp_path, lookup, old, new).analysis_id == before) is same


def test_changed_weights_data_or_code_change_the_id(
    tmp_path: Path, lookup: Lookup, changed_lookup: Lookup
) -> None:
    assert one(tmp_path, lookup).analysis_id != one(tmp_path, changed_lookup).analysis_id


def test_the_manifest_lists_them(tmp_path: Path, lookup: Lookup) -> None:
    plan = load(tmp_path, lookup)
    listed = plan.manifest().analyses
    assert [(a.index, a.label, a.models) for a in listed] == [
        (0, "statistics_shift", ("bn", "bn B")),
        (1, "gradient_similarity", ("bn", "rna")),
        (2, "path_difference", ("rna",)),
    ]
    assert [a.analysis_id for a in listed] == [a.analysis_id for a in plan.analyses]

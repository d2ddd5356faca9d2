"""An edited suite's words count without a new run; anything that is measured does not change."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.errors import UserError
from bench.store.manifest import Manifest, ManifestAnalysis, ManifestCell
from bench.suite.load import read_suite
from bench.suite.rebuild import edited_manifest
from bench.suite.spec import SuiteSpec

SUITE: dict[str, Any] = {
    "suite": "mine",
    "title": "Before",
    "data": {"name": "fashion-mnist", "limit": 16},
    "threat_model": {"norm": "linf", "eps": "8/255"},
    "models": [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn"},
        {"checkpoint": "fmnist-resnet20-in", "label": "in"},
        {"checkpoint": "fmnist-resnet20-gn", "label": "gn"},
    ],
    "attacks": [
        "natural",
        {"attack": "pgd", "label": "PGD", "params": {"n_iter": 20}},
        {"attack": "pgd", "label": "PGD far", "eps": 0.1},
    ],
    "analyses": [
        {"analysis": "gradient_similarity", "models": ["bn", "in"]},
        {"analysis": "examples", "attack": "PGD"},
    ],
    "reports": ["leaderboard"],
}


def read(folder: Path, suite: dict[str, Any]) -> SuiteSpec:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(suite))
    return read_suite(path)


def manifest_of(suite: SuiteSpec, absent: tuple[str, ...] = ()) -> Manifest:
    """The manifest of a run, with ids that tell model and attack."""
    cells = tuple(
        ManifestCell(
            model_index=i,
            attack_index=j,
            model_label=model.label,
            attack_label=attack.label,
            cell_id=cell_id(model.checkpoint, attack.label),
        )
        for i, model in enumerate(suite.models)
        for j, attack in enumerate(suite.attacks)
        if model.label not in absent
    )
    analyses = tuple(
        ManifestAnalysis(
            index=i,
            label=one.label,
            models=one.models or tuple(model.label for model in suite.models),
            analysis_id=f"{i:016x}",
        )
        for i, one in enumerate(suite.analyses)
    )
    lacking = {m.label: m.checkpoint for m in suite.models if m.label in absent}
    return Manifest(
        suite=suite.model_dump(mode="json"), cells=cells, analyses=analyses, absent=lacking
    )


def cell_id(checkpoint: str, attack: str) -> str:
    return f"{checkpoint}{attack}".encode().hex()[-16:]


def test_words_order_and_entries_left_out_count_without_a_new_run(tmp_path: Path) -> None:
    run = manifest_of(read(tmp_path, SUITE), absent=("gn",))
    suite = deepcopy(SUITE)
    bn, normed, group = suite["models"]
    bn.update(label="BatchNorm", published={"model": "resnet18", "norm": "bn"})
    group["label"] = "groups"
    suite["models"] = [group, normed, bn]
    natural, pgd, _ = suite["attacks"]
    pgd.update(label="PGD-20", published="pgd20")
    suite["attacks"] = [pgd, natural]
    suite["title"] = "After"
    suite["analyses"] = [
        {
            "analysis": "examples",
            "attack": "PGD-20",
            "label": "pictures",
            "models": ["groups", "in", "BatchNorm"],
        },
        {"analysis": "gradient_similarity", "models": ["BatchNorm", "in"]},
    ]
    suite["reports"] = [{"kind": "leaderboard", "published": "rna/table1"}]
    # In the run, pictures are of bn, in and gn, in this order: so they must stay.
    suite["analyses"][0]["models"].reverse()
    found = edited_manifest(run, read(tmp_path, suite))
    assert [
        (c.model_index, c.attack_index, c.model_label, c.attack_label) for c in found.cells
    ] == [
        (1, 0, "in", "PGD-20"),
        (1, 1, "in", "natural"),
        (2, 0, "BatchNorm", "PGD-20"),
        (2, 1, "BatchNorm", "natural"),
    ]
    assert [c.cell_id for c in found.cells] == [
        cell_id("fmnist-resnet20-in", "PGD"),
        cell_id("fmnist-resnet20-in", "natural"),
        cell_id("fmnist-resnet20-bn", "PGD"),
        cell_id("fmnist-resnet20-bn", "natural"),
    ]
    assert found.absent == {"groups": "fmnist-resnet20-gn"}
    assert [(a.index, a.label, a.analysis_id) for a in found.analyses] == [
        (0, "pictures", f"{1:016x}"),
        (1, "gradient_similarity", f"{0:016x}"),
    ]
    assert found.analyses[1].models == ("BatchNorm", "in")
    again = SuiteSpec.model_validate(found.suite)
    assert again.title == "After" and again.models[2].published["norm"] == "bn"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"name": "fashion-mnist", "limit": 8}}, "data.limit 8 in place of 16"),
        ({"threat_model": {"norm": "linf", "eps": 0.1}}, "threat_model.eps 0.1 in place of 0.03"),
        ({"seed": 1}, "seed 1 in place of 0"),
        ({"models": ["fmnist-resnet20-ln"]}, "'fmnist-resnet20-ln' of its models"),
        (
            {"attacks": [{"attack": "pgd", "label": "PGD", "params": {"n_iter": 21}}]},
            "'PGD' of its",
        ),
        (
            {"analyses": [{"analysis": "examples", "attack": "PGD far"}]},
            "'examples' of its analyses",
        ),
        ({"suite": "other"}, "suite 'mine', found suite 'other'"),
    ],
)
def test_what_would_have_to_be_measured_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run = manifest_of(read(tmp_path, SUITE))
    suite = {**deepcopy(SUITE), **change}
    if "models" in change or "attacks" in change:
        suite["analyses"] = []
    with pytest.raises(UserError, match=message):
        edited_manifest(run, read(tmp_path, suite))


def test_a_cell_that_the_run_did_not_plan_is_refused(tmp_path: Path) -> None:
    before = deepcopy(SUITE)
    before["models"][0]["attacks"] = ["natural"]
    spec = read(tmp_path, before)
    full = manifest_of(spec)
    planned = tuple(c for c in full.cells if c.model_index or c.attack_label == "natural")
    run = full.model_copy(update={"cells": planned})
    with pytest.raises(UserError, match="'bn' under 'PGD', which this run has not measured"):
        edited_manifest(run, read(tmp_path, SUITE))


def test_a_run_with_exact_stays_one(tmp_path: Path) -> None:
    suite = read(tmp_path, SUITE)
    run = manifest_of(suite.model_copy(update={"search": "exact"}))
    assert edited_manifest(run, suite).suite["search"] == "exact"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, "titel: unknown key; did you mean 'title'"),
        ({"reports": [{"kind": "leaderboard", "published": "rna/tabel1"}]}, "mean 'rna/table1'"),
        (
            {
                "reports": [{"kind": "leaderboard", "published": "rna/table1"}],
                "models": [{"checkpoint": "gone", "published": {"norm": "bm"}}],
            },
            r"models\[0\].published.norm: .* choose one of {model: resnet18, norm: bn}",
        ),
    ],
)
def test_a_suite_is_read_without_its_models_and_data(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    unknown = {**SUITE, "data": {"name": "npz:gone.npz"}, "analyses": []}
    assert read(tmp_path, unknown).data.name == "npz:gone.npz"
    with pytest.raises(UserError, match=message):
        read(tmp_path, {**unknown, **change})

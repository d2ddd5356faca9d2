"""A store says what its checkpoints are, so that published numbers can be compared by data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.checkpoint import Epoch
from bench.suite.load import load_suite
from bench.suite.plan import make_plan
from bench.suite.resolve import Lookup

SUITE = """
suite: facts
data: {name: fashion-mnist, limit: 8}
threat_model: {norm: linf, eps: 0.1}
models: [fmnist-resnet20-bgn]
attacks: [natural]
reports: [KIND]
"""
EPOCH = Epoch(epoch=1, loss=1.0, accuracy=0.5)


@pytest.mark.parametrize("kind", ["leaderboard", "training_curve"])
def test_manifest_says_what_each_checkpoint_is(kind: str, tmp_path: Path, lookup: Lookup) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(SUITE.replace("KIND", kind))
    facts = lookup.checkpoint("fmnist-resnet20-bgn")
    said = {"arch": "resnet20", "training": "natural", "history": (EPOCH,)}
    known = replace(lookup, checkpoint=lambda name: facts.model_copy(update=said))
    manifest = make_plan(load_suite(path, known)).manifest()
    (facts,) = manifest.checkpoints.values()
    assert (facts.arch, facts.norm, facts.training) == ("resnet20", "bgn8", "natural")
    assert (facts.dataset, facts.std) == ("fashion-mnist", (0.3081,))
    # Epochs are many lines, and only one kind of report reads them.
    assert facts.history == ((EPOCH,) if kind == "training_curve" else ())

"""A suite whose columns average in different ways, from its file to rows and tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from made_checkpoints import save

from bench.core.paths import Where
from bench.report import write_reports
from bench.run.local import Workers
from bench.run.prepare import local_lookup
from bench.run.schedule import cells_to_run, make_jobs, run_cells
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import make_plan
from bench.suite.watcher import Watcher

pytestmark = pytest.mark.process

SUITE = """
suite: ways
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.03}}
batch_size: 4
n_draws: 3
convergence_images: 0
sentinel: false
search: exact
models:
  - {{checkpoint: drawn, label: drawn}}
attacks:
  - {{attack: pgd, eot_iter: 4, params: {{keep: last, n_iter: 2}}}}
  - {{attack: pgd, eot: stratified, eot_iter: 4, params: {{keep: last, n_iter: 2}}}}
  - {{attack: pgd, eot: mean_field, params: {{keep: last, n_iter: 2}}}}
reports:
  - leaderboard
  - {{kind: agreement, pairs: [[pgd EOT-4, pgd EOT-4 stratified], [pgd EOT-4, pgd mean_field]]}}
"""


def test_a_suite_spends_what_it_says_and_says_how(tmp_path: Path) -> None:
    norm = {"name": "rna", "pool": ["bn", "in"]}
    save(tmp_path / "checkpoints" / "drawn", norm, seed=1, track=False)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(tmp_path / "made.npz", x=x, y=np.array([0, 1, 2, 0, 1, 2, 0, 1]))
    file = tmp_path / "ways.yaml"
    file.write_text(SUITE.format(data=tmp_path / "made.npz"))
    plan = make_plan(load_suite(file, local_lookup(Where(tmp_path / "checkpoints"))))
    store = RunStore(tmp_path / "run")
    store.write_manifest(plan.manifest())
    jobs = make_jobs(cells_to_run(plan, store), Where(tmp_path / "checkpoints"))
    with Workers(1) as workers:
        summary = run_cells(plan, store, jobs, workers, Watcher())
    assert not summary.incomplete
    spent = []
    for cell in plan.cells:
        info, rows = store.read_cell(cell.cell_id)
        assert info.spec.n_draws == 3
        spent.append({(row.forwards, row.backwards) for row in rows})
        # n_iter 2, there and back, over the draws; then 3 draws score clean and attacked images.
        assert cell.passes == 8 * (sum(next(iter(spent[-1]))) + 2 * 3)
    assert spent == [{(8.0, 8.0)}, {(8.0, 8.0)}, {(2.0, 2.0)}]
    written = write_reports(store.folder)
    with next(p for p in written if p.name == "leaderboard.csv").open(newline="") as handle:
        protocols = {line["attack"]: line["protocol"] for line in csv.DictReader(handle)}
    assert protocols["pgd EOT-4"] == "white_box, eot 4"
    assert protocols["pgd EOT-4 stratified"] == "white_box, eot 4, stratified"
    assert protocols["pgd mean_field"] == "white_box, mean_field"
    text = next(p for p in written if p.name == "leaderboard.md").read_text()
    assert "gradients averaged over 4 draw(s)" in text
    assert "each layer's branches occur equally often" in text
    assert "scored on the model itself" in text

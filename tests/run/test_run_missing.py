"""A suite of which some checkpoints are not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_checkpoints import save
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError

pytestmark = pytest.mark.process

SUITE = """
suite: some
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.03}}
batch_size: 4
models:
  - here
  - gone
  - {{checkpoint: here, protocol: transfer, surrogate: gone}}
attacks: [natural, fgsm]
analyses:
  - {{analysis: gradient_similarity, models: [here, gone]}}
reports: [leaderboard, transfer_heatmap, gradient_similarity]
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A suite and one of its two checkpoints."""
    save(tmp_path / "checkpoints" / "here", "bn", 1)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(tmp_path / "made.npz", x=x, y=np.array([0, 1, 2, 0, 1, 2, 0, 1]))
    (tmp_path / "some.yaml").write_text(SUITE.format(data=tmp_path / "made.npz"))
    return tmp_path


def run(world: Path, *options: str) -> tuple[int, str]:
    arguments = ["run", str(world / "some.yaml"), "--checkpoints", str(world / "checkpoints")]
    arguments += ["--out", str(world / "run"), "--device", "cpu", "--workers", "1", "--no-probe"]
    result = CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": "200"})
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_models_without_a_checkpoint_may_be_left_out_and_be_run_later(world: Path) -> None:
    code, said = run(world)
    assert code == 2 and "no such checkpoint" in said and "--skip-missing" in said
    code, said = run(world, "--skip-missing")
    assert code == 0 and "2 cells done" in said, said
    assert "left out, as checkpoint gone is not here: gone, here (transfer from gone)" in said
    reason = "not run: checkpoint gone was missing"
    for kind in ("leaderboard", "transfer_heatmap"):
        text = (world / "run" / f"{kind}.md").read_text()
        assert reason in text and "incomplete" not in text
    page = (world / "run" / "report.html").read_text()
    assert "Not run, for lack of a checkpoint" in page
    save(world / "checkpoints" / "gone", "in", 2)
    code, said = run(world, "--skip-missing")
    assert code == 0 and "left out" not in said and "4 cells done" in said
    assert "2 already stored" in said and "analysis gradient_similarity: complete" in said
    assert reason not in (world / "run" / "leaderboard.md").read_text()


def test_a_suite_without_any_checkpoint_is_refused(world: Path) -> None:
    (world / "checkpoints" / "here").rename(world / "checkpoints" / "elsewhere")
    code, said = run(world, "--skip-missing")
    assert code == 2 and "none of its checkpoints is here" in said and "rbench train" in said
    assert not (world / "run").exists()

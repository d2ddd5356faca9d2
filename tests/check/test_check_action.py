"""The steps of action.yml, as a job's shell would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SUITE = """
suite: tiny
data: {name: fashion-mnist, limit: 20, seed: 0}
threat_model: {norm: linf, eps: 0.1}
batch_size: 20
search: exact
convergence_images: 0
sentinel: false
models: [fmnist-resnet20-bn-at]
attacks: [natural, fgsm]
"""


def test_inputs_never_become_code() -> None:
    """An input in the text of a script could hold commands; in the environment it cannot."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"], step["name"]
        assert step["shell"] == "bash"


def test_every_input_is_used_and_known() -> None:
    text = json.dumps(ACTION["runs"]) + json.dumps(ACTION["outputs"])
    for name in ACTION["inputs"]:
        assert f"inputs.{name} " in text, name
    used = {part.split()[0] for part in text.split("inputs.")[1:]}
    assert used == set(ACTION["inputs"])


@pytest.mark.slow
def test_a_job_passes_then_fails_on_a_broken_baseline(tmp_path: Path) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(SUITE)
    (script,) = [step["run"] for step in ACTION["runs"]["steps"] if step.get("id") == "check"]

    def job(baseline: str) -> tuple[int, str]:
        output, summary = tmp_path / "output", tmp_path / "summary"
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RBENCH_CHECKPOINTS": str(ROOT / "checkpoints"),
            "SUITE": str(suite),
            "BASELINE": baseline,
            "MIN_DROP": "0",
            "BUDGET": "",
            "RUN_ARGUMENTS": "--no-probe --workers 1",
            "CHECK_ARGUMENTS": "",
            "OUT": "out",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
        }
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert f"exit-code={done.returncode}" in output.read_text(), done.stderr
        assert "rbench check" in summary.read_text()
        return done.returncode, done.stdout

    before = tmp_path / "before"
    run = [sys.executable, "-m", "bench", "run", str(suite), "--out", str(before), "--no-probe"]
    subprocess.run(
        [*run, "--workers", "1"], check=True, cwd=tmp_path, capture_output=True, env=_project()
    )
    code, said = job(str(before))
    assert code == 0 and "::notice title=rbench check tiny" in said
    # Another slice: nothing can be compared, and the job must not pass.
    suite.write_text(SUITE.replace("seed: 0", "seed: 1"))
    code, said = job(str(before))
    assert code == 3 and "::warning" in said
    assert (tmp_path / "out" / "check.xml").read_text().startswith("<?xml")


def _project() -> dict[str, str]:
    return {
        **os.environ,
        "RBENCH_CHECKPOINTS": str(ROOT / "checkpoints"),
        "PYTHONPATH": str(ROOT),
    }

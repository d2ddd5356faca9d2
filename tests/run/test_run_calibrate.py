"""Predictions of time: from passes and their cost, with the machine left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.cell import CellSpec, DataSpec
from bench.core.paths import Where, builtin
from bench.core.threat import ThreatModel
from bench.run import calibrate
from bench.run.calibrate import Calibration, PassCost, makespan, passes_file, predict
from bench.run.job import Job

BN = builtin("checkpoints") / "fmnist-resnet20-bn"

needs_checkpoint = pytest.mark.skipif(not BN.is_dir(), reason="needs the checkpoint")


def job(attack: str, cost: float, checkpoint: str = "fmnist-resnet20-bn", **fields: object) -> Job:
    values = {
        "checkpoint": checkpoint,
        "sha256": "0" * 64,
        "stats": "population",
        "data": DataSpec(name="fashion-mnist", limit=8, seed=0),
        "data_hash": "",
        "threat_model": ThreatModel(eps=0.1),
        "attack": attack,
        "attack_version": 1,
        "attack_params": {},
        "protocol": "white_box",
        "batch_size": 8,
        "n_draws": 1,
        "seed": 0,
    }
    spec = CellSpec.model_validate({**values, **fields})
    return Job(spec, "bounded", Where(BN.parent), cost, 16)


@pytest.mark.parametrize(
    ("seconds", "workers", "expected"),
    [([5, 3, 3], 2, 6), ([5, 3, 3], 1, 11), ([5, 3, 3], 9, 5), ([4, 3, 3, 2, 2], 2, 8), ([], 2, 0)],
)
def test_the_last_of_the_workers_ends_the_run(
    seconds: list[float], workers: int, expected: float
) -> None:
    assert makespan(seconds, workers) == expected


def test_a_pass_without_gradient_costs_a_forward_pass() -> None:
    cost = PassCost(forward=0.002, both=0.006)
    assert cost.seconds("square", 1000) == pytest.approx(2.0)
    assert cost.seconds("pgd", 1000) == pytest.approx(3.0)  # half of them backward
    # Where a backward pass is the cheaper one, an attack may still make forward passes only.
    assert PassCost(forward=0.002, both=0.003).seconds("autoattack", 1000) == pytest.approx(2.0)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the timing of models; returns the names of those that are timed."""
    timed: list[str] = []

    def measure(source: object, asked: Job, seconds: float) -> PassCost:
        timed.append(asked.spec.checkpoint)
        return PassCost(0.001, 0.002, "2026-01-31")

    monkeypatch.setattr(calibrate, "_measure", measure)
    return timed


@needs_checkpoint
def test_models_of_one_architecture_and_norm_are_timed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = counted(monkeypatch)
    jobs = [
        job("pgd", 5000),
        job("square", 3000),
        job("pgd", 2000, "fmnist-resnet20-bn-at"),
        job("pgd", 1000, "fmnist-resnet20-in", stats=None),
        job("pgd", 1000, search="fast"),
        job("pgd", 1000, stats="batch"),
    ]
    seconds, since = predict(jobs, 2)
    assert timed == ["fmnist-resnet20-bn", "fmnist-resnet20-in", "fmnist-resnet20-bn"]
    assert [seconds[one.spec.cell_id] for one in jobs] == pytest.approx([5, 3, 2, 1, 1, 1])
    assert since == "2026-01-31"


@needs_checkpoint
def test_what_was_timed_is_kept_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = counted(monkeypatch)
    first, other = job("pgd", 1000), job("pgd", 1000, "fmnist-resnet20-in", stats=None)
    before = predict([first], 1)
    assert predict([first], 1) == before and len(timed) == 1
    predict([first, other], 1)
    assert timed == ["fmnist-resnet20-bn", "fmnist-resnet20-in"]
    monkeypatch.setattr(calibrate, "processor", lambda: "another")
    predict([first], 1)
    assert len(timed) == 3


@needs_checkpoint
@pytest.mark.parametrize("damage", ["", "[]", "null", '{"KIND": 3}', '{"KIND": {"forward": -1}}'])
def test_a_damaged_file_of_passes_is_timed_anew(
    damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = counted(monkeypatch)
    predict([job("pgd", 1000)], 1)
    (kind,) = json.loads(passes_file().read_text())
    passes_file().write_text(damage.replace("KIND", kind))
    predict([job("pgd", 1000)], 1)
    predict([job("pgd", 1000)], 1)
    assert len(timed) == 2


@needs_checkpoint
def test_where_nothing_can_be_kept_models_are_timed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = counted(monkeypatch)
    cache = passes_file().parent
    cache.rmdir()
    cache.write_text("in the way")
    assert predict([job("pgd", 1000)], 1) == predict([job("pgd", 1000)], 1)
    assert len(timed) == 2


@needs_checkpoint
@pytest.mark.parametrize("share", [0.01, 1e-9])
def test_a_model_is_timed_for_real(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of which two images take longer than its share of the time."""
    monkeypatch.setattr(calibrate, "SPENT", share)
    few, many = job("pgd", 10.0), job("pgd", 1000.0)
    calibration = Calibration([few, many], workers=len(os.sched_getaffinity(0)))
    assert 0 < calibration.seconds(few) < calibration.seconds(many) < float("inf")


@needs_checkpoint
@needs_checkpoint
def test_what_a_process_does_once_is_not_taken_for_the_cost_of_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bool] = []

    def timed(ask: object, grad: bool) -> float:
        calls.append(grad)
        return 1.5 if len(calls) == 1 else 0.002

    monkeypatch.setattr(calibrate, "_timed", timed)
    one = job("pgd", 1.0)
    assert predict([one], 1)[0][one.spec.cell_id] < 0.01


def test_no_engine_is_chosen_for_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.oracle.runner.choose_engine", lambda *_: pytest.fail("chosen"))
    assert predict([job("pgd", 1000, search="fast")], 1)


@needs_checkpoint
def test_a_plan_says_how_long_at_most(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibrate, "_measure", lambda *_: PassCost(1.0, 2.0, "2026-01-31"))
    suite = tmp_path / "two.yaml"
    suite.write_text(
        "suite: two\ndata: {name: fashion-mnist, limit: 30}\n"
        "threat_model: {norm: linf, eps: 0.1}\nmodels: [fmnist-resnet20-bn]\n"
        "attacks: [natural, fgsm]\nconvergence_images: 0\nsentinel: false\n"
    )
    command = ["plan", str(suite), "--out", str(tmp_path / "run"), "--device", "cpu"]
    one = CliRunner().invoke(app, [*command, "--workers", "1"])
    assert one.exit_code == 0, one.output
    # 30 images: one pass each; two for FGSM, and two to score; a second each.
    assert "30 s" in one.output and "2 min 0 s" in one.output and "Upper bound" in one.output
    assert "at most about 2 min 30 s with 1 worker on cpu" in one.output
    assert "timed here on 2026-01-31" in one.output and str(passes_file()) in one.output
    found = json.loads(CliRunner().invoke(app, [*command, "--workers", "1", "--json"]).output)
    assert (found["seconds"], found["timed"]) == (150.0, "2026-01-31")
    plain = CliRunner().invoke(app, [*command, "--no-time"])
    assert "time at most" not in plain.output and "Upper bound" not in plain.output

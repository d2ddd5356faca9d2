"""``evaluate(out=FOLDER)``: what is done is kept as runs keep it, and is not done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_scenes import QUICK, Brightness, images, sign_step
from torch import Tensor, nn

import bench.evaluation.cells as cells
from bench import EvaluationResult, Evaluations, evaluate, load_result
from bench.core.errors import UserError
from bench.report.write import build_reports
from bench.store.run_store import RunStore

THREATS = ["linf:0.05", "linf:0.11"]


def counted(name: str = "v1") -> tuple[list[int], dict[str, Any]]:
    """Returns an attack that notes the size of every batch that it is given."""
    seen: list[int] = []

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        seen.append(len(x))
        return sign_step(model, x, y, eps)

    return seen, {"attack": attack, "identity": name, "label": "mine"}


def same(a: EvaluationResult, b: EvaluationResult) -> None:
    assert a.rows().equals(b.rows()) and repr(a) == repr(b)
    assert a.x_adv.keys() == b.x_adv.keys()
    for label in a.x_adv:
        torch.testing.assert_close(a.x_adv[label], b.x_adv[label], rtol=0, atol=0, equal_nan=True)


def test_a_second_call_runs_nothing_and_gives_the_same(tmp_path: Path) -> None:
    x, y = images()
    seen, attack = counted()
    options = {"batch_size": 5, "out": tmp_path / "run", **QUICK}
    first = evaluate(Brightness(), x, y, "linf:0.11", [attack, "fgsm"], **options)
    assert seen == [5, 5, 2]
    again = evaluate(Brightness(), x, y, "linf:0.11", [attack, "fgsm"], **options)
    assert seen == [5, 5, 2]
    same(first, again)
    plain = evaluate(Brightness(), x, y, "linf:0.11", [attack, "fgsm"], batch_size=5, **QUICK)
    assert plain.rows().equals(first.rows()), "as without a folder"


@pytest.mark.parametrize("passes", [1, 20_000])
def test_a_killed_call_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    """Parts that are stored are not run again: batches, or cells where these are short."""
    monkeypatch.setattr(cells, "PASSES", passes)
    x, y = images()
    seen, attack = counted()
    whole = attack["attack"]

    def dies(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        if len(seen) == 2:
            raise KeyboardInterrupt
        return torch.as_tensor(whole(model, x, y, eps))

    dies.__name__ = "attack"
    options = {"batch_size": 4, "out": tmp_path, **QUICK}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Brightness(), x, y, "linf:0.11", ["fgsm", {**attack, "attack": dies}], **options)
    assert RunStore(tmp_path).read_manifest().cells, "a report of what there is can be written"
    done = 2 if passes == 1 else 0
    seen.clear()
    result = evaluate(Brightness(), x, y, "linf:0.11", ["fgsm", attack], **options)
    assert len(seen) == 3 - done
    plain = evaluate(Brightness(), x, y, "linf:0.11", ["fgsm", attack], batch_size=4, **QUICK)
    assert result.rows().equals(plain.rows())
    assert torch.equal(result.x_adv["mine"], plain.x_adv["mine"])


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from evaluation_scenes import Brightness, images, sign_step, QUICK
from rbench import evaluate
def attack(model, x, y, eps):
    with open({log!r}, "a") as file:
        file.write(f"{{len(x)}}\\n")
    if {die} and sum(1 for _ in open({log!r})) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return sign_step(model, x, y, eps)
import bench.evaluation.cells as cells
cells.PASSES = 1
x, y = images()
entry = {{"attack": attack, "identity": "one"}}
result = evaluate(Brightness(), x, y, "linf:0.11", [entry], batch_size=4, out={out!r}, **QUICK)
print(result.robust_accuracy("attack").value)
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_was_killed_lost_only_the_batch_at_work(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "run"
    names = {"tests": str(Path(__file__).parent), "log": str(log), "out": str(out)}

    def run(*, die: bool) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED.format(die=die, **names)]
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "PYTHONPATH": root}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert run(die=True).returncode == -signal.SIGKILL
    assert log.read_text().split() == ["4", "4", "4"]
    ended = run(die=False)
    assert float(ended.stdout) == pytest.approx(7 / 12), ended.stderr
    assert log.read_text().split() == ["4"] * 4, "the third batch, and no other"


def test_other_weights_code_attributes_or_functions_are_run_anew(tmp_path: Path) -> None:
    class Warm(Brightness):
        temperature = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / self.temperature

    x, y = images()
    seen, attack = counted()
    model = Warm()

    def run(one: Any = attack) -> int:
        seen.clear()
        evaluate(model, x, y, "linf:0.11", [one], out=tmp_path, **QUICK)
        return len(seen)

    assert [run(), run()] == [1, 0]
    model.slope.data.mul_(2)
    assert [run(), run()] == [1, 0]
    model.temperature = 2.0
    assert [run(), run()] == [1, 0]
    assert run({**attack, "identity": "v2"}) == 1
    model.forward = lambda x: Warm.forward(model, x) * 1.0  # type: ignore[method-assign]
    assert run() == 1


def test_a_failed_attack_is_kept_as_incomplete_and_tried_again(tmp_path: Path) -> None:
    fails = [True]

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        if fails:
            raise RuntimeError("no luck")
        return x

    x, y = images()
    entry = {"attack": attack, "identity": "one"}
    first = evaluate(Brightness(), x, y, "linf:0.1", [entry], out=tmp_path, **QUICK)
    assert "no luck" in first["attack"].info.error and first.x_adv["attack"].isnan().all()
    fails.clear()
    assert evaluate(Brightness(), x, y, "linf:0.1", [entry], out=tmp_path, **QUICK)[
        "attack"
    ].info.complete


def test_several_models_and_balls_are_one_table(tmp_path: Path) -> None:
    """The margin does not depend on the slope, and 0.05 breaks 2 of 12, 0.11 breaks 5."""
    x, y = images()
    models = {"steep": Brightness(40.0), "flat": Brightness(2.0)}
    found = evaluate(models, x, y, THREATS, ["natural", sign_step], out=tmp_path, **QUICK)
    for label in models:
        for threat, left in zip(THREATS, (10 / 12, 7 / 12), strict=True):
            assert found[label, threat].worst_case().value == pytest.approx(left)
    assert len(found) == 4 and found.models == ("steep", "flat")
    table = found.table()
    assert table.loc[("flat", "linf 0.11", "worst case"), "accuracy"] == pytest.approx(7 / 12)
    assert set(found.rows()["model"]) == {"steep", "flat"} and len(found.rows()) == 4 * 2 * 12
    (report,) = [report for name, report in build_reports(tmp_path) if name == "leaderboard"]
    columns = [column.label for column in report.tables[0].columns]
    assert columns[1::2][:2] == ["sign_step, eps 0.05", "sign_step, eps 0.11"]
    values = [row.cells[3].value for row in report.tables[0].rows]
    assert values == [pytest.approx(7 / 12)] * 2
    same_grid(found, load_result(tmp_path))


def same_grid(found: Evaluations, loaded: EvaluationResult | Evaluations) -> None:
    assert isinstance(loaded, Evaluations)
    assert repr(found) == repr(loaded) and found.to_markdown() == loaded.to_markdown()
    for one, other in zip(found, loaded, strict=True):
        same(one, other)


def test_a_result_that_is_saved_is_that_of_a_folder(tmp_path: Path) -> None:
    x, y = images()
    attacks = [sign_step, {"attack": "fgsm", "label": "few", "limit": 5}]
    kept = evaluate(Brightness(), x, y, "linf:0.11", attacks, out=tmp_path / "a", **QUICK)
    plain = evaluate(Brightness(), x, y, "linf:0.11", attacks, **QUICK)
    plain.save(tmp_path / "b")
    same(plain, EvaluationResult.load(tmp_path / "b"))
    same(kept, load_result(tmp_path / "a"))  # type: ignore[arg-type]
    reports = [build_reports(tmp_path / folder)[0][1].tables for folder in "ab"]
    assert [row.labels for row in reports[0][0].rows] == [("Brightness",)]
    first, second = ([c.lines for c in tables[0].rows[0].cells] for tables in reports)
    assert first == second
    grid = evaluate({"one": Brightness()}, x, y, THREATS, attacks, **QUICK)
    grid.save(tmp_path / "c")
    same_grid(grid, load_result(tmp_path / "c"))


@pytest.mark.process
def test_the_commands_of_runs_read_the_folder(tmp_path: Path) -> None:
    x, y = images()
    run = tmp_path / "run"
    evaluate(Brightness(), x, y, "linf:0.11", ["natural", sign_step], out=run, **QUICK)
    for words in (["report"], ["query", "select 1"], ["export", "--to", "parquet"]):
        command = [sys.executable, "-m", "bench", words[0], str(run), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "58.3" in (run / "leaderboard.md").read_text()
    assert "sign_step" in (run / "report.html").read_text()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    x, y = images()
    with pytest.raises(UserError, match="to be the folder of a result"):
        load_result(tmp_path)
    evaluate(Brightness(), x, y, "linf:0.11", ["fgsm"], out=tmp_path, **QUICK)
    path = tmp_path / "store" / "run.json"
    manifest = json.loads(path.read_text())
    manifest["suite"]["suite"] = "table1"
    path.write_text(json.dumps(manifest))
    before = path.read_bytes()
    with pytest.raises(UserError, match="holds a run of suite 'table1'"):
        evaluate(Brightness(), x, y, "linf:0.11", ["fgsm"], out=tmp_path, **QUICK)
    assert path.read_bytes() == before


def test_what_a_folder_cannot_hold_is_refused(tmp_path: Path) -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2]

    x, y = images()
    with pytest.raises(UserError, match="out: the model holds no tensors"):
        evaluate(Nothing(), x, y, "linf:0.1", ["fgsm"], out=tmp_path, **QUICK)
    one, other = (evaluate(Brightness(), x, y, t, ["fgsm"], **QUICK) for t in ("linf:0.1", "l2:1"))
    with pytest.raises(UserError, match=r"threat: a folder, .* holds balls of one norm"):
        Evaluations.of({"a": [one, other]}).save(tmp_path)
    union = evaluate(Brightness(), x, y, ["linf:0.1", "l2:1"], ["fgsm"], **QUICK)
    with pytest.raises(UserError, match="holds one union of balls"):
        Evaluations.of({"a": [one, union]}).save(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.replace('"several": false', '"several": 3'), "several: .*evaluate again"),
        (lambda s: s[:-20], "damaged JSON"),
        (lambda s: s.replace('"fgsm": "', '"fgsm": "../'), "cells.fgsm"),
        (lambda s: s.replace('"schema_version": 1', '"schema_version": 9'), "schema version 1"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    x, y = images()
    evaluate(Brightness(), x, y, "linf:0.1", ["fgsm"], out=tmp_path, **QUICK)
    path = tmp_path / "store" / "evaluation.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=message):
        load_result(tmp_path)

"""Races of attacks: equal settings, exact counts, resumption (not how fast anything is)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.core.paths import builtin
from bench.oracle.runner import Runner
from tools.speed.__main__ import speed_app
from tools.speed.arena import Arena
from tools.speed.clock import Stopwatch
from tools.speed.contenders import CONTENDERS, ContenderError, Library, Outcome
from tools.speed.counting import CountedModel
from tools.speed.race import Race, race_id, run_race
from tools.speed.records import Records
from tools.speed.settings import Setting, settings
from tools.speed.standings import collect, standings

CPU = torch.device("cpu")
SETTINGS = {setting.name: setting for setting in settings(0.05, 10)}


def test_a_counted_model_counts_every_pass_and_changes_no_number(arena: Arena) -> None:
    model, (x, _) = arena.target.model, arena.batches()[0]
    counted = CountedModel(model, Stopwatch(CPU))
    x = x.requires_grad_()
    z = counted(x)
    for k in range(3):
        (grad,) = torch.autograd.grad(z[:, k].sum(), x, retain_graph=True)
        (expected,) = torch.autograd.grad(model(x)[:, k].sum(), x)
        assert torch.equal(grad, expected)
    assert torch.equal(z, model(x))
    with torch.no_grad():
        written = counted(x[:4])
        written[0, 0] = -1.0  # as Square does
    assert (counted.forwards, counted.backwards) == (14, 30)


@pytest.mark.parametrize("name", ["torchattacks", "foolbox", "adv_lib"])
def test_passes_of_pgd_are_those_of_its_steps(arena: Arena, name: str) -> None:
    contender = CONTENDERS[name]
    if contender.missing():
        pytest.skip(contender.missing())
    outcome = contender.run(arena, SETTINGS["pgd"])
    check = 1 if name == "foolbox" else 0  # it asks at last whether it succeeded
    assert (outcome.forwards, outcome.backwards) == (20 + check, 20)
    assert 0 < outcome.model_seconds <= outcome.search_seconds <= outcome.seconds


@pytest.mark.process
def test_fgsm_comes_to_the_same_verdicts_everywhere(arena: Arena) -> None:
    found = {
        name: contender.run(arena, SETTINGS["fgsm"]).robust
        for name, contender in CONTENDERS.items()
        if contender.offers(SETTINGS["fgsm"]) and not contender.missing()
    }
    assert {"rbench", "rbench exact", "torchattacks"} <= set(found)
    assert 0 < sum(found["rbench"]) < 24  # an attack that fails, or always succeeds, shows nothing
    assert len(set(found.values())) == 1, found


def test_rbench_is_watched_without_a_trace(arena: Arena) -> None:
    before = (Runner.run, torch.autograd.grad)
    outcome = CONTENDERS["rbench exact"].run(arena, replace(SETTINGS["pgd"], ours={}))
    assert (Runner.run, torch.autograd.grad) == before
    assert (outcome.forwards, outcome.backwards) == (21, 20)  # and the last iterate is looked at
    assert 0 < outcome.model_seconds < outcome.search_seconds < outcome.seconds


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_no_library_is_kept_from_a_parameter(setting: Setting) -> None:
    for contender in CONTENDERS.values():
        if isinstance(contender, Library) and contender.offers(setting):
            draws = {"eot_iter": setting.eot_iter} if setting.stochastic else {}
            told = contender.calls(10)[setting.name].translate({**setting.params, **draws})
            numbers = [v for v in setting.params.values() if isinstance(v, int | float)]
            implied = contender.calls(10)[setting.name].implied.values()
            assert set(numbers) <= {*told.values(), *implied}


def test_a_parameter_that_a_library_lacks_is_refused() -> None:
    two_weights = {**SETTINGS["cw-l2"].params, "binary_search_steps": 2}
    call = CONTENDERS["torchattacks"].calls(10)["cw-l2"]
    with pytest.raises(ContenderError, match=r"binary_search_steps = 2; it does 1"):
        call.translate(two_weights)


@dataclass
class Scripted:
    """A contender that does as it is told; ``None`` is a run that is killed."""

    name: str
    script: list[float | str | None]
    distribution: str = "rbench"
    reason: str = ""

    def missing(self) -> str:
        return self.reason

    def offers(self, setting: Setting) -> bool:
        return True

    def note(self, setting: Setting) -> str:
        return ""

    def run(self, arena: Arena, setting: Setting) -> Outcome:
        step = self.script.pop(0)
        if step is None:
            raise KeyboardInterrupt
        if isinstance(step, str):
            raise ContenderError(step)
        return Outcome(step, step / 2, step / 4, 3.0, 2.0, (1.0, 0.0))


def test_a_killed_race_goes_on_where_it_was(arena: Arena, tmp_path: Path) -> None:
    log, said = tmp_path / "attacks.jsonl", list[str]()
    ours, theirs = Scripted("rbench", [9.0, 1.0, 3.0]), Scripted("other", [9.0, 2.0, None])
    race = Race(arena, [SETTINGS["pgd"]], [ours, theirs], rounds=2)
    with pytest.raises(KeyboardInterrupt):  # turns: ours, theirs, theirs, ours
        run_race(race, Records(log), said.append)
    log.write_text(log.read_text() + '{"race": "cut sho')
    ours.script, theirs.script = [9.0, 3.0], [9.0, 4.5]
    run_race(race, Records(log), said.append)
    assert not ours.script and not theirs.script
    run_race(race, Records(log), said.append)  # all is measured: nobody runs
    table = standings(collect(race, Records(log)), "rbench").set_index("contender")
    assert table.loc["rbench", "seconds"] == 2.0  # without the warm-up
    other = table.loc["other"]
    assert (other["ratio_low"], other["ratio_high"], other["rounds"]) == (1.5, 2.0, 2)


def test_what_changes_is_raced_anew(arena: Arena) -> None:
    first = race_id(arena, SETTINGS["pgd"], CONTENDERS["rbench"])
    assert first == race_id(arena, SETTINGS["pgd"], CONTENDERS["rbench"])
    others = {
        race_id(arena, SETTINGS["mim"], CONTENDERS["rbench"]),
        race_id(arena, SETTINGS["pgd"], CONTENDERS["rbench exact"]),
        race_id(replace(arena, eps=0.06), SETTINGS["pgd"], CONTENDERS["rbench"]),
        race_id(arena, SETTINGS["pgd"].shortened(), CONTENDERS["rbench"]),
    }
    assert len(others) == 4 and first not in others


def test_who_is_missing_or_fails_is_shown_with_the_reason(arena: Arena, tmp_path: Path) -> None:
    ours = Scripted("rbench", [9.0, 1.0])
    absent = Scripted("absent", [], reason="absent is not installed")
    broken = Scripted("broken", [9.0, "RuntimeError: no"])
    race = Race(arena, [SETTINGS["pgd"]], [ours, absent, broken], rounds=1)
    records = Records(tmp_path / "attacks.jsonl")
    run_race(race, records, lambda _: None)
    table = standings(collect(race, records), "rbench").set_index("contender")
    assert table.loc["absent", "note"] == "absent is not installed"
    assert table.loc["broken", "note"] == "failed: RuntimeError: no"
    assert table["seconds"].isna().tolist() == [False, True, True]


def test_a_library_that_is_not_installed_says_how_to_get_it() -> None:
    library = replace(CONTENDERS["foolbox"], distribution="no-such-library")
    assert "pip install 'rbench[bench]'" in library.missing()


def test_images_outside_the_ball_are_a_failure(arena: Arena) -> None:
    far = replace(CONTENDERS["torchattacks"], attack=lambda *a: (a[2] + 0.2).clamp(0, 1))
    with pytest.raises(ContenderError, match="24 of 24 images fail verification: out of ball"):
        far.run(arena, SETTINGS["pgd"])


@pytest.mark.slow
@pytest.mark.skipif(
    not (builtin("checkpoints") / "fmnist-resnet20-bn-at").is_dir(), reason="needs the checkpoint"
)
def test_a_quick_race_writes_table_and_picture(tmp_path: Path) -> None:
    command = ["attacks", "--quick", "--checkpoint", "fmnist-resnet20-bn-at"]
    done = CliRunner().invoke(speed_app, [*command, "--out", str(tmp_path), "--limit", "2"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "attacks-quick.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| AutoAttack standard")]
    assert [row.split("|")[2].strip(" †") for row in rows] == [
        "rbench",
        "rbench exact",
        "pyautoattack",
        "torchattacks",
    ]
    assert (tmp_path / "attacks-quick.png").read_bytes().startswith(b"\x89PNG")

"""Entry points of other packages: listed by name, imported on use, and never in the way."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from bench.attacks import ATTACKS, get_attack
from bench.cli.listing import list_command
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.norm_spec import NormSpec
from bench.core.registry import plugins
from bench.data.named import DATASETS, get_dataset
from bench.evaluation.model import Target
from bench.models import build_model
from bench.report.kinds import BUILDERS
from bench.suite.entry import ReportEntry

Install = Callable[..., None]

ATTACK = """
from bench.attacks.base import Attack
from bench.attacks.params import NoParams
def run(oracle, x, y, budget, params, seed):
    return x
ATTACK = Attack("NAME", 1, "bounded", ("linf",), NoParams, run, "does nothing", "")
"""


def listing(what: str) -> str:
    out = StringIO()
    list_command(Console(file=out, width=250), what, None, False)
    return out.getvalue()


def test_an_entry_is_listed_by_name_and_imported_on_use(install_plugin: Install) -> None:
    code = ATTACK.replace("NAME", "idle")
    install_plugin("their-attacks", {"rbench.attacks": {"idle": "their_attacks:ATTACK"}}, code)
    assert "idle" in ATTACKS and "idle" in list(ATTACKS) and "their_attacks" not in sys.modules
    attack = get_attack("idle")
    assert attack.distribution == "their-attacks" and not attack.may_be_fast
    assert "their_attacks" in sys.modules and get_attack("idle") is attack


def test_a_listing_says_where_an_entry_comes_from(install_plugin: Install) -> None:
    code = "def build(view, entry): ...\n"
    install_plugin("their-reports", {"rbench.reports": {"theirs": "their_reports:build"}}, code)
    lines = listing("reports").splitlines()
    assert any("theirs" in line and "their-reports 1.0" in line for line in lines)
    assert any("leaderboard" in line and "│ rbench " in line for line in lines)


@pytest.mark.parametrize(
    ("group", "name", "kind", "look_up"),
    [
        ("rbench.attacks", "pgd", "attack", get_attack),
        ("rbench.datasets", "mnist", "data set", get_dataset),
        ("rbench.reports", "leaderboard", "report", BUILDERS.get),
    ],
)
def test_a_name_of_rbench_that_a_package_takes_is_refused(
    group: str, name: str, kind: str, look_up: Callable[[str], object], install_plugin: Install
) -> None:
    install_plugin("greedy", {group: {name: "greedy:x"}}, "x = 1")
    with pytest.raises(UserError) as caught:
        look_up(name)
    assert str(caught.value).startswith(f"{kind} '{name}' is rbench's own, and also comes from")
    assert "greedy 1.0" in str(caught.value) and "greedy" not in sys.modules
    assert get_attack("fgsm").distribution == ""  # nothing else is in the way


def test_a_name_that_two_packages_take_is_refused_with_both(install_plugin: Install) -> None:
    install_plugin("one", {"rbench.attacks": {"idle": "one:x"}}, "x = 1")
    install_plugin("two", {"rbench.attacks": {"idle": "two:x"}}, "x = 1", version="2.0")
    with pytest.raises(UserError) as caught:
        get_attack("idle")
    assert "one 1.0" in str(caught.value) and "two 2.0" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        ("", "AttributeError"),
        ("ATTACK = 3", "expected a bench.attacks.Attack, found int"),
        (ATTACK.replace("NAME", "other"), "is named 'other', expected 'bad'"),
    ],
)
def test_a_broken_plugin_is_one_line_and_breaks_nothing(
    code: str, why: str, install_plugin: Install
) -> None:
    install_plugin("faulty", {"rbench.attacks": {"bad": "faulty:ATTACK"}}, code)
    with pytest.raises(UserError) as caught:
        get_attack("bad")
    message = str(caught.value)
    assert message.startswith("attack 'bad' of faulty 1.0 cannot be used: ") and why in message
    assert "\n" not in message
    assert get_attack("fgsm").name == "fgsm" and "bad" in ATTACKS


def test_a_broken_plugin_is_a_line_below_the_listing(install_plugin: Install) -> None:
    install_plugin("faulty", {"rbench.datasets": {"bad": "faulty:x"}}, "1 / 0")
    shown = listing("datasets")
    assert "cifar10" in shown and "data set 'bad' of faulty 1.0 cannot be used" in shown


def test_metadata_and_names_that_cannot_be_used_are_passed_over(install_plugin: Install) -> None:
    names = {"foolbox:mine": "odd:x", "fine": "odd:x", "two words": "odd:x"}
    install_plugin("odd", {"rbench.attacks": names}, "x = 1")
    assert list(plugins("rbench.attacks")) == ["fine"]


def test_a_report_kind_of_a_plugin_may_stand_in_a_suite(install_plugin: Install) -> None:
    with pytest.raises(ValueError, match="leaderboard"):
        ReportEntry.model_validate("ours")
    install_plugin("number", {"rbench.reports": {"ours": "number:build"}}, "build = 3")
    assert ReportEntry.model_validate("ours").kind == "ours"
    with pytest.raises(UserError, match=r"report 'ours' of number 1\.0 .* expected a function"):
        BUILDERS.get("ours")


def test_a_data_set_of_a_plugin_is_found_by_name(install_plugin: Install) -> None:
    code = """
from bench.data.images import Dataset
MADE = Dataset("made", 3, 1, 8, (0.0,), (1.0,), (), ("test",), "none", "", lambda *_: None)
"""
    install_plugin("their-data", {"rbench.datasets": {"made": "their_data:MADE"}}, code)
    assert get_dataset("made").classes == 3 and "made" in DATASETS


def test_a_norm_and_an_architecture_of_plugins_make_a_model(install_plugin: Install) -> None:
    code = """
from bench.core.norm_spec import PluginNorm
NORM = PluginNorm("their_layers:make", batch_dependent=True, summary="half of it")
def make(channels):
    import torch
    class Half(torch.nn.Module):
        def forward(self, x):
            return x / 2
    return Half()
def net(spec, norm):
    from torch import nn
    return nn.Sequential(norm(1), nn.Flatten(), nn.Linear(64, spec.classes))
"""
    groups = {
        "rbench.norms": {"half": "their_layers:NORM"},
        "rbench.models": {"flat": "their_layers:net"},
    }
    shape = {"channels": 1, "size": 8, "classes": 3, "mean": (0.0,), "std": (1.0,)}
    with pytest.raises(ValueError, match="unknown arch 'flat'"):
        ModelSpec(arch="flat", norm=NormSpec(name="bn"), **shape)
    with pytest.raises(ValueError, match="'bn'"):
        NormSpec(name="half")
    install_plugin("their-layers", groups, code)
    spec = ModelSpec(arch="flat", norm=NormSpec(name="half"), **shape)
    assert spec.norm.batch_dependent and not spec.norm.stochastic and spec.norm.label() == "half"
    model = build_model(spec)
    assert type(model.net[0]).__name__ == "Half"
    assert Target.of(model.eval()).batch_dependent
    assert "half of it" in listing("norms") and "flat" in listing("models")
    with pytest.raises(ValueError, match="cannot hold a plugin's norm"):
        NormSpec(name="rna", pool=(NormSpec(name="bn"), NormSpec(name="half")))


def test_metadata_is_not_read_where_no_package_has_a_plugin(
    monkeypatch: pytest.MonkeyPatch, install_plugin: Install
) -> None:
    """To read the names of some hundred packages takes a good part of a short evaluation."""

    def refused(self: importlib.metadata.Distribution) -> str:
        raise AssertionError("read the metadata of a package")

    install_plugin("elsewhere", {"rbench.other": {"idle": "elsewhere:x"}}, "x = 1")
    monkeypatch.setattr(importlib.metadata.Distribution, "metadata", property(refused))
    assert plugins("rbench.nobody") == {}

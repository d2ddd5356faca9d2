"""Suites of other people's models, from the command line to stored rows."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from external_scenes import (
    ROBUST,
    forget,
    make_data,
    need_robustbench,
    rbench,
    sha256,
    write_suite,
)
from safetensors.torch import save_file

from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.paths import Where
from bench.models import build_model
from bench.run.job import Job, execute, load_model
from bench.run.remote_files import code_hash, inputs_of
from bench.store.run_store import RunStore
from bench.zoo import open_model

pytestmark = pytest.mark.process

TORCHVISION = "torchvision:resnet18?size=32&classes=3"
MODULE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, noise=0.0):
        super().__init__()
        self.fc, self.noise = nn.Linear(3, 3), noise

    def forward(self, x):
        z = self.fc(x.mean((2, 3)))
        return z + self.noise * torch.randn_like(z) if self.noise else z


class Mixed(Net):
    declares = {"size": 32, "channels": 3, "classes": 3, "batch_dependent": True}

    def forward(self, x):
        return super().forward(x - x.mean(0, keepdim=True))


def plain():
    return Net()


def noisy():
    return Net(0.5)


class Dropping(Net):
    def __init__(self):
        super().__init__()
        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm2d(3)

    def forward(self, x):
        return super().forward(self.drop(self.norm(x)))


def monte_carlo():
    net = Dropping().eval()
    net.drop.train()
    return net


def on_batch():
    net = Dropping().eval()
    net.norm.train()
    return net


class Wrong(Net):
    declares = {"size": "32", "channels": 3, "classes": 3}


def fails():
    raise FileNotFoundError("no weights")


def number():
    return 3
"""
SHAPE = "size=32&channels=3&classes=3"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module of its own name."""
    forget()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"mine_{re.sub(r'[^a-z0-9]', '_', tmp_path.name.lower())}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.setenv("RBENCH_CHECKPOINTS", str(tmp_path / "checkpoints"))
    yield tmp_path
    sys.modules.pop(name, None)
    forget()


def module(here: Path) -> str:
    (path,) = here.glob("mine_*.py")
    return path.stem


def specs(out: Path) -> list[CellSpec]:
    store = RunStore(out)
    infos = [store.read_cell(cell_id)[0] for cell_id in store.cell_ids()]
    assert all(info.complete for info in infos), [info.error for info in infos]
    return [info.spec for info in infos]


def run_and_verify(here: Path, models: list[Any], *options: str, data: Path | None = None) -> Path:
    """Runs a suite, checks its stored examples, and runs it again, which does nothing."""
    suite, out = write_suite(here, data or make_data(here), models), here / "out"
    arguments = ("run", str(suite), "--out", str(out), "--save-adv", "--device", "cpu", *options)
    code, text = rbench(*arguments, "--workers", "1")
    assert code == 0, text
    forget()
    code, text = rbench("verify", str(out), "--device", "cpu", *options)
    assert code == 0 and "All stored adversarial examples match their results" in text, text
    code, text = rbench(*arguments, "--workers", "1")
    assert code == 0 and "0 cells done" in text, text
    return out


def test_a_suite_of_torchvision(here: Path) -> None:
    models = [
        TORCHVISION,
        {"checkpoint": TORCHVISION, "stats": "batch"},
        {"checkpoint": TORCHVISION, "stats": "batch", "protocol": "stats_transfer"}
        | {"surrogate": {"stats": "population"}},
    ]
    out = run_and_verify(here, models)
    found = specs(out)
    assert {spec.checkpoint for spec in found} == {TORCHVISION}
    assert {spec.sha256 for spec in found} == {sha256(TORCHVISION)}
    assert {spec.stats for spec in found} == {"population", "batch"}
    table = (out / "leaderboard.md").read_text()
    assert "resnet18 (torchvision random)" in table and TORCHVISION not in table
    facts = RunStore(out).read_manifest().checkpoints[TORCHVISION]
    assert facts.norm == "bn" and facts.training == "none: random weights of seed 0"


def test_a_suite_of_timm(here: Path) -> None:
    pytest.importorskip("timm", reason="needs rbench[timm]")
    uri = f"timm:test_efficientnet?{SHAPE}"
    out = run_and_verify(here, [uri, {"checkpoint": uri, "stats": "batch"}])
    assert {(spec.checkpoint, spec.stats) for spec in specs(out)} == {
        (uri, "population"),
        (uri, "batch"),
    }
    assert "test_efficientnet (timm random)" in (out / "leaderboard.md").read_text()


def test_a_suite_of_robustbench_with_weights_made_here(here: Path) -> None:
    need_robustbench()
    net = open_model(f"{ROBUST}&weights=none", Where(here)).load().net
    path = here / "models" / "cifar10" / "Linf" / "Rade2021Helper_R18_ddpm.pt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": net.state_dict()}, path)
    out = run_and_verify(here, [ROBUST], data=make_data(here, n=10, classes=10))
    assert {spec.sha256 for spec in specs(out)} == {sha256(ROBUST)}
    assert "RobustBench cifar10 Linf" in (out / "leaderboard.md").read_text()


def test_a_suite_of_a_file_of_tensors(here: Path) -> None:
    spec = ModelSpec.model_validate(
        {"arch": "resnet20", "norm": "bn", "channels": 3, "size": 32, "classes": 3}
        | {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3]}
    )
    save_file(build_model(spec, seed=1).net.state_dict(), here / "net.safetensors")
    query = f"arch=resnet20&norm=bn&{SHAPE}&mean=0.5,0.4,0.3&std=0.2,0.2,0.3"
    uri = f"file:{here}/net.safetensors?{query}"
    out = run_and_verify(here, [uri, {"checkpoint": uri, "stats": "batch"}])
    assert {spec.sha256 for spec in specs(out)} == {sha256(uri)}
    assert "net (file)" in (out / "leaderboard.md").read_text()


def test_a_suite_of_a_callable_needs_trust(here: Path) -> None:
    uri = f"python:{module(here)}:plain?{SHAPE}"
    suite = write_suite(here, make_data(here), [uri])
    for command in (("run", str(suite)), ("plan", str(suite)), ("probe", uri, "--data", "x")):
        code, text = rbench(*command)
        assert code == 2 and "if you trust it, add --trust-code" in text, text
        assert module(here) not in sys.modules
    out = run_and_verify(here, [uri], "--trust-code")
    code, text = rbench("verify", str(out), "--device", "cpu")
    assert code == 3 and "if you trust it, add --trust-code" in text
    assert f"plain ({module(here)})" in (out / "leaderboard.md").read_text()


def test_a_callables_code_is_part_of_its_identity(here: Path) -> None:
    uri = f"python:{module(here)}:plain?{SHAPE}"
    first = sha256(uri, trust_code=True)
    assert first == sha256(uri, trust_code=True)
    assert first != sha256(f"{uri}&std=0.5,0.5,0.5", trust_code=True)
    with (here / f"{module(here)}.py").open("a") as file:
        file.write("# more\n")
    assert first != sha256(uri, trust_code=True)


def test_rows_of_other_weights_are_not_taken_for_a_networks_own(here: Path) -> None:
    """Its weights are in a plain attribute, which its state dict lacks."""
    torch.save(torch.ones(3, 3), here / "w.pt")
    (here / "kept.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w = torch.load('w.pt')\n"
        "    def forward(self, x):\n"
        "        self.last = x.mean((2, 3)) @ self.w\n"
        "        return self.last\n"
        "only = Net()\n"
        "def same():\n"
        "    return only\n"
    )
    uri = f"python:kept:Net?{SHAPE}"
    suite = str(write_suite(here, make_data(here), [uri]))
    options = ("--trust-code", "--device", "cpu", "--workers", "1", "--no-probe")
    for w in (torch.ones(3, 3), torch.eye(3)):
        forget()
        torch.save(w, here / "w.pt")
        code, text = rbench("run", suite, *options)
        assert code == 0 and "2 cells done" in text and "already stored" not in text, text
    code, text = rbench("run", suite, *options)
    assert code == 0 and "2 already stored" in text, text
    again = f"python:kept:same?{SHAPE}"
    code, text = rbench("run", str(write_suite(here, make_data(here), [again])), *options)
    assert code == 0 and "2 cells done" in text, text


def test_a_network_without_tensors_needs_a_text_to_vouch_for_it(here: Path) -> None:
    (here / "bare.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.mean((2, 3))\n"
        "class Said(Net):\n"
        "    declares = {'identity': 'first'}\n"
    )
    uri = f"python:bare:Net?{SHAPE}"
    suite = write_suite(here, make_data(here), [uri])
    code, text = rbench("plan", str(suite), "--trust-code", "--no-time")
    assert code == 2 and "no tensor of the network can be reached" in text, text
    assert "identity=TEXT in the URI, identity: TEXT in the suite, or declares['identity']" in text
    named = {t: sha256(f"{uri}&identity={t}", trust_code=True) for t in ("first", "second")}
    assert named["first"] != named["second"]
    said = {"checkpoint": uri, "identity": "a b&c", "label": "mine"}
    declared = f"python:bare:Said?{SHAPE}"
    out = run_and_verify(here, [said, declared], "--trust-code")
    found = {spec.checkpoint: spec.sha256 for spec in specs(out)}
    assert found == {
        f"{uri}&identity=a%20b%26c": sha256(f"{uri}&identity=a%20b%26c", trust_code=True),
        declared: sha256(declared, trust_code=True),
    }
    wrong = {"checkpoint": TORCHVISION, "identity": "first"}
    code, text = rbench("plan", str(write_suite(here, make_data(here), [wrong])), "--no-time")
    assert code == 2 and "identity is for python: models" in text, text


def test_what_a_callable_declares_is_believed_and_probed(here: Path) -> None:
    name = module(here)
    noisy, mixed = f"python:{name}:noisy?{SHAPE}", f"python:{name}:Mixed"
    data = make_data(here)
    trusting = ("--trust-code", "--device", "cpu", "--workers", "1")
    code, text = rbench("run", str(write_suite(here, data, [noisy])), "--out", "a", *trusting)
    assert code == 2 and "declared deterministic" in text and "found it stochastic" in text, text
    declared = {"checkpoint": f"{noisy}&stochastic=true", "eot_iter": 2}
    out = run_and_verify(here, [declared, {"checkpoint": mixed, "label": "m"}], "--trust-code")
    by_name = {spec.checkpoint: spec for spec in specs(out) if spec.attack == "pgd"}
    assert by_name[declared["checkpoint"]].n_draws == 2
    assert by_name[declared["checkpoint"]].eot_iter == 2 and by_name[mixed].n_draws == 1
    single = {"checkpoint": mixed, "adversary": "single"}
    code, text = rbench("plan", str(write_suite(here, data, [single])), "--no-time", *trusting)
    assert code == 0, text


def test_layers_that_a_callable_leaves_in_train_mode_stay_so(here: Path) -> None:
    """A model in train mode is put into eval mode; one layer of a model in eval mode is meant."""

    def load(name: str) -> Any:
        uri = f"python:{module(here)}:{name}?{SHAPE}"
        return open_model(uri, Where(here, trust_code=True)).load()

    x = torch.rand(4, 3, 32, 32)
    plain, drawing, on_batch = load("Dropping"), load("monte_carlo"), load("on_batch")
    assert not any(m.training for m in plain.modules()) and torch.equal(plain(x), plain(x))
    assert drawing.net.drop.training and not torch.equal(drawing(x), drawing(x))
    assert torch.allclose(on_batch(x)[:2], on_batch(x)[:2])
    assert not torch.allclose(on_batch(x)[:2], on_batch(x[:2]), atol=1e-6)
    assert on_batch.net.norm.running_mean.abs().sum() == 0
    assert on_batch.spec.norm.batch_dependent and not plain.spec.norm.batch_dependent
    uri = f"python:{module(here)}:monte_carlo?{SHAPE}&stochastic=true"
    (spec, *_) = specs(run_and_verify(here, [uri], "--trust-code"))
    assert spec.n_draws == 2


def test_what_does_not_fit_is_said_where_it_stands(here: Path) -> None:
    name, data = module(here), make_data(here)
    plain = f"python:{name}:plain?{SHAPE}"
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ("torchvision:resnet18", {}, "expects 3 channel(s), size 224, 1000 classes, but data"),
        ({"checkpoint": plain, "stats": "batch"}, {}, "has no choice of statistics"),
        ({"checkpoint": plain, "protocol": "fixed_path"}, {}, "fixed_path is for models that draw"),
        (
            {"checkpoint": f"{plain}&stochastic=true", "eot": "stratified", "eot_iter": 2},
            {},
            "stratified is for models that draw a path",
        ),
        (
            plain,
            {"threat_model": {"norm": "linf", "eps": 0.1, "eps_space": "normalized"}},
            "normalizes its input itself",
        ),
        (f"python:{name}:Net", {}, "expected size, channels, classes in the query"),
        (f"python:{name}:none?{SHAPE}", {}, "cannot be imported"),
        (f"python:{name}x:plain?{SHAPE}", {}, "cannot be imported"),
        (
            f"python:{name}:Wrong",
            {},
            "declares: size must be of type int, or (height, width)",
        ),
        (f"python:{name}:fails?{SHAPE}", {}, "FileNotFoundError: no weights"),
        (f"python:{name}:number?{SHAPE}", {}, "expected an nn.Module, found int"),
        (f"python:{name}:plain?{SHAPE}&mean=0.5", {}, "mean and std need 3 values"),
        (f"python:{name}:plain?size=32&channels=1&classes=3", {}, "fails on images of 1 x 32 x 32"),
        (
            f"python:{name}:plain?size=32&channels=3&classes=4",
            {},
            "expected logits of shape (2, 4)",
        ),
    ]
    for model, more, says in cases:
        suite = write_suite(here, data, [model], **more)
        code, text = rbench("plan", str(suite), "--trust-code", "--no-time")
        assert code == 2 and says in text, (model, text)


def test_skip_missing_leaves_out_what_cannot_be_had(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    suite = write_suite(here, make_data(here), [f"timm:resnet18?{SHAPE}", TORCHVISION])
    code, text = rbench("plan", str(suite), "--no-time")
    assert code == 2 and "pip install 'rbench[timm]'" in text
    code, text = rbench("plan", str(suite), "--no-time", "--skip-missing")
    assert code == 0 and "left out, as checkpoint timm:resnet18" in text, text


def test_a_uri_is_probed(here: Path) -> None:
    data = f"npz:{make_data(here, 16)}"
    code, text = rbench("probe", TORCHVISION, "--data", data, "--device", "cpu")
    assert code in (0, 1) and "resnet18 (torchvision random), 16 images" in text, text
    assert re.search(r"clean accuracy +│ not known +│ \d+\.\d% \[\d+\.\d%, \d+\.\d%\]", text), text
    code, text = rbench("probe", TORCHVISION)
    assert code == 2 and "give --data" in text
    code, text = rbench("probe", "torchvision:resnet18?size=40&classes=3", "--data", data)
    assert code == 2 and "takes images of 3 x 40 x 40 and 3 classes" in text, text


def test_schemes_are_listed() -> None:
    code, text = rbench("list", "schemes")
    assert code == 0 and "torchvision:resnet50?weights=DEFAULT" in text and "--trust-code" in text


def test_a_model_that_is_another_than_planned_is_refused(here: Path) -> None:
    with pytest.raises(UserError, match="changed since the run was planned"):
        load_model(TORCHVISION, Where(here), None, "0" * 64)


def test_a_node_is_sent_checkpoints_and_resolves_the_rest(here: Path) -> None:
    out = run_and_verify(here, [f"python:{module(here)}:plain?{SHAPE}"], "--trust-code")
    spec = specs(out)[0]
    job = Job(spec, "bounded", Where(here / "checkpoints"), 1.0, 8)
    assert not inputs_of([job]).checkpoints
    pytest.importorskip("ray", reason="needs rbench[ray]")
    from bench.run import on_ray

    there = replace(job, where=replace(job.where, trust_code=True))
    done = on_ray._run(execute, there, {}, [], code_hash())  # as a node does it
    assert done.info.complete, done.info.error
    named = replace(job, spec=spec.model_copy(update={"checkpoint": "zoo:first"}))
    assert inputs_of([named]).checkpoints == {here / "checkpoints" / "first"}


@pytest.mark.slow
def test_workers_open_a_callable_for_themselves(here: Path) -> None:
    """Processes that start anew find the module in the working directory."""
    uri = f"python:{module(here)}:plain?{SHAPE}"
    suite = write_suite(here, make_data(here), [uri])
    arguments = ("--out", "out", "--workers", "2", "--device", "cpu", "--trust-code")
    code, text = rbench("run", str(suite), *arguments)
    assert code == 0, text
    assert len(specs(here / "out")) == 2 and os.getcwd() not in sys.path[:1]


def test_zoo_names_and_bare_names_are_one_cell(here: Path) -> None:
    root = Path(__file__).parents[2] / "checkpoints"
    ids = []
    for name in ("fmnist-resnet20-gn", "zoo:fmnist-resnet20-gn"):
        suite = json.loads(write_suite(here, Path("x"), [name]).read_text())
        suite["data"] = {"name": "fashion-mnist", "limit": 4}
        (here / "zoo.yaml").write_text(json.dumps(suite))
        code, text = rbench("plan", "zoo.yaml", "--no-time", "--checkpoints", str(root))
        assert code == 0 and "fmnist-resnet20-gn" in text, text
        ids.append(re.findall(r"\b[0-9a-f]{16}\b", text))
    assert ids[0] == ids[1] and len(ids[0]) == 2

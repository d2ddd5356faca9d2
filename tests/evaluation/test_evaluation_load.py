"""Models and data by name, and the names of the package itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bench
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.data.slice import take_slice

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def test_images_are_those_of_the_suites_slice() -> None:
    x, y = bench.load_data("fashion-mnist", 40, offset=3, seed=7, stratified=False)
    data = take_slice(DataSpec(name="fashion-mnist", limit=40, offset=3, seed=7))
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert np.array_equal(x.numpy(), data.x) and np.array_equal(y.numpy(), data.y)
    assert x.shape == (40, 1, 28, 28) and 0 <= x.min() < x.max() <= 1
    assert bench.load_data("fashion-mnist", 20, stratified=True)[1].bincount().tolist() == [2] * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "fmnist"}, "did you mean 'fashion-mnist'"),
        ({"n": 0}, "^n: .*found 0"),
        ({"n": 20_000}, "limit of at most 10000"),
        ({"split": "validation"}, "^split: .*found 'validation'"),
        ({"name": "npz:nowhere.npz"}, "nowhere.npz"),
    ],
)
def test_data_that_are_not_there_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bench.load_data(**{"name": "fashion-mnist", "n": 3, **options})  # type: ignore[arg-type]


def test_a_model_by_name_drops_into_evaluate() -> None:
    model = bench.load_model("fmnist-resnet20-bn", checkpoints=CHECKPOINTS)
    assert not model.training and model.spec.norm.name == "bn"
    x, y = bench.load_data("fashion-mnist", 24)
    known = {"stochastic": False, "batch_dependent": False, "probe": False, "sentinel": False}
    found = bench.evaluate(model, x, y, "linf:0.05", ["natural"], **known)
    assert found.clean_accuracy().value > 0.7
    batch = bench.load_model("fmnist-resnet20-bn", stats="batch", checkpoints=CHECKPOINTS)
    assert not torch.allclose(model(x), batch(x))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fmnist-resnet20-nb", "no such checkpoint"),
        ("torchvison:resnet18", "did you mean 'torchvision'"),
        ("python:os:getcwd", "trust"),
    ],
)
def test_a_model_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bench.load_model(name, checkpoints=CHECKPOINTS)


def test_both_names_are_one_package() -> None:
    import rbench.core.errors
    import rbench.norms

    assert rbench.evaluate is bench.evaluate and rbench.__version__ == bench.__version__
    assert rbench.core.errors is sys.modules["bench.core.errors"]
    assert rbench.core.errors.UserError is UserError is rbench.UserError
    assert rbench.norms.__spec__.name == "bench.norms"
    assert sorted(rbench.__all__) == sorted(bench.__all__)
    with pytest.raises(ImportError, match="nothing"):
        import rbench.nothing  # type: ignore[import-not-found]
    with pytest.raises(AttributeError, match="evalute"):
        _ = rbench.evalute


@pytest.mark.process
@pytest.mark.parametrize("name", ["rbench", "bench"])
def test_completion_shows_the_names_and_imports_no_torch(name: str) -> None:
    shown = "evaluate", "run_suite", "load_model", "load_data", "compare"
    code = (
        f"import {name} as p, sys; p.__version__; names = dir(p); "
        f"sys.exit('torch' in sys.modules or not set({shown}) <= set(names))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_type_checkers_see_the_names_and_what_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="needs mypy: pip install 'rbench[dev]'")
    (tmp_path / "used.py").write_text(
        "import rbench\n"
        "from torch import nn, Tensor\n"
        "def f(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor: return x\n"
        "model = rbench.load_model('a')\n"
        "x, y = rbench.load_data('b', 3)\n"
        "reveal_type(rbench.evaluate(model, x, y, attacks=['pgd', f, (f, {'n': 1})]))\n"
        "reveal_type(rbench.evaluate(model, x, y, ['linf:0.1', 'linf:0.2'], out='o'))\n"
        "reveal_type(rbench.evaluate({'a': model}, x, y, seed=3))\n"
        "rbench.evaluate(model, x, y, n_iter=3)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".cache", "used.py"]
    environment = {"MYPYPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    revealed = [line.rpartition(".")[2].rstrip('"') for line in done.stdout.splitlines()[:3]]
    assert revealed == ["EvaluationResult", "Evaluations", "Evaluations"], done.stdout + done.stderr
    assert "No overload variant" in done.stdout or "Unexpected keyword" in done.stdout

"""A model that raises, wherever it does, costs its own cells and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import evaluate, run_suite
from bench.core.result import Row
from bench.models.external import library_model
from bench.run import job
from bench.run.pipeline import SuiteRun

pytestmark = pytest.mark.process

N, SHAPE = 11, "size=8&channels=1&classes=3"
"""Images, in batches of 4: the last batch is odd."""

MODULE = '''
import torch
from torch import nn


class Net(nn.Module):
    """A linear classifier with the same weights in every class below."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 3)
        with torch.no_grad():
            self.fc.weight.copy_(torch.linspace(-1, 1, 192).sin().view(3, 64) / 10)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Odd(Net):
    def forward(self, x):
        if len(x) % 2:
            raise ValueError("no odd batch, please")
        return super().forward(x)


class WithGradient(Net):
    def forward(self, x):
        if x.requires_grad:
            raise KeyError("gradient")
        return super().forward(x)


class Probed(Net):
    """Fails on images that only the probe shows it: those outside the suite's."""

    def forward(self, x):
        if (x > 0.96).any():
            raise ZeroDivisionError("bright")
        return super().forward(x)


class Late(Net):
    """Loads once, for its facts, and never again."""

    loads = 0

    def __init__(self):
        Late.loads += 1
        if Late.loads > 1:
            raise MemoryError("no room")
        super().__init__()


class Four(Net):
    """Takes four images, as a network with a batch size built in does."""

    def forward(self, x):
        return self.fc(x.reshape(4, 64))


class Half(Net):
    def __init__(self):
        super().__init__()
        self.to(torch.bfloat16)


class Double(Net):
    def __init__(self):
        super().__init__()
        self.double()
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with images and a module of models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"failing_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    x = np.random.default_rng(0).random((N, 1, 8, 8)).astype(np.float32) * 0.8 + 0.1
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(N) % 3)
    _forget()
    yield tmp_path
    sys.modules.pop(name, None)
    _forget()


def _forget() -> None:
    library_model._FACTS.clear()
    job.load_model.cache_clear()


def run(here: Path, *models: str, **more: object) -> SuiteRun:
    (module,) = here.glob("failing_*.py")
    suite = {
        "suite": "failing",
        "data": {"name": "npz:made.npz"},
        "threat_model": {"norm": "linf", "eps": 0.05},
        "batch_size": 4,
        "convergence_images": 0,
        "sentinel": False,
        "models": [
            {"checkpoint": f"python:{module.stem}:{model}?{SHAPE}", "label": model}
            for model in models
        ],
        "attacks": ["natural", "fgsm", {"attack": "pgd", "params": {"n_iter": 3}}],
        **more,
    }
    return run_suite(
        json.loads(json.dumps(suite)), out="out", workers=1, device="cpu", trust_code=True
    )


def test_a_model_that_raises_costs_its_own_cells_only(here: Path) -> None:
    ended = run(here, "Net", "Odd", "WithGradient", "Late")
    assert ended.exit_code == 3 and len(ended.reports) > 0
    table = ended.table()
    assert list(table.loc["Net", "status"]) == ["ok"] * 3
    reasons = table["reason"]
    for attack in ("natural", "fgsm", "pgd"):
        assert "ValueError: no odd batch, please" in reasons["Odd", attack]
        assert "MemoryError: no room" in reasons["Late", attack]
    # While it is scored it is the model that failed, not the attack.
    assert reasons["Odd", "natural"].startswith("batch 2: the model failed on 3 images: ")
    assert table.loc[("WithGradient", "natural"), "status"] == "ok"
    for attack in ("fgsm", "pgd"):
        assert "KeyError: 'gradient'" in reasons["WithGradient", attack]
    again = run(here, "Net", "Odd")
    assert again.exit_code == 3 and again.cells.kept == 3, "what was complete is kept"


def test_a_model_that_fails_under_the_probe_is_run_under_an_alarm(here: Path) -> None:
    ended = run(here, "Net", "Probed", analyses=["gradient_similarity"])
    table = ended.table()
    assert list(table["status"]) == ["ok"] * 6 and ended.exit_code == 0
    assert all("probe_failed: " in text for text in table.loc["Probed", "alarms"])
    assert all("ZeroDivisionError: bright" in text for text in table.loc["Probed", "alarms"])
    assert not any("probe_failed" in text for text in table.loc["Net", "alarms"])
    stored = json.loads((here / "out" / "store" / "probes.json").read_text())
    assert len(stored["models"]) == 1, "the next run probes it again"


def rows_of(ended: SuiteRun, model: str, attack: str) -> list[Row]:
    (cell,) = (c for c in ended.plan.cells if (c.model_label, c.attack_label) == (model, attack))
    return ended.store.read_cell(cell.cell_id)[1]


def test_any_precision_and_a_batch_size_built_in_give_the_rows_of_the_plain_model(
    here: Path,
) -> None:
    """The same weights in all of them; 11 images in batches of 4."""
    ended = run(here, "Net", "Four", "Double", "Half", search="exact")
    assert ended.exit_code == 0 and not ended.alarms, ended.alarms
    for attack in ("natural", "fgsm", "pgd"):
        plain = rows_of(ended, "Net", attack)
        for model in ("Four", "Double"):
            found = rows_of(ended, model, attack)
            assert [row.adv_pred for row in found] == [row.adv_pred for row in plain], model
        assert len(rows_of(ended, "Half", attack)) == N


class Fixed(nn.Module):
    """Takes ``n`` images at a time."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.fc = n, nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(x.reshape(self.n, 64)))


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_evaluate_serves_a_batch_size_built_in_with_the_rows_of_any_other(n: int) -> None:
    x = torch.rand(12, 1, 8, 8)
    fixed = Fixed(n)
    free = nn.Sequential(nn.Flatten(), fixed.fc)
    y = free(x).argmax(1)
    attacks = ["natural", "pgd", "deepfool", ("square", {"n_queries": 30})]
    found, expected = (
        evaluate(model, x, y, "linf:0.05", attacks, batch_size=n, search="exact", sentinel=False)
        for model in (fixed, free)
    )
    for label in expected:
        assert found[label].info.complete and not found[label].info.alarms
        assert [row.robust for row in found[label].rows] == [
            row.robust for row in expected[label].rows
        ], label


class Raises(nn.Sequential):
    """A linear classifier that takes no odd number of images."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) % 2:
            raise ValueError("no odd batch, please")
        return torch.as_tensor(super().forward(x))


def test_evaluate_returns_what_a_model_that_raises_has_left() -> None:
    x = torch.rand(11, 1, 8, 8)
    model = Raises(nn.Flatten(), nn.Linear(64, 5))
    y = torch.arange(11) % 5
    result = evaluate(model, x, y, "linf:0.05", ["natural", "fgsm"], batch_size=4)
    assert not any(cell.info.complete for cell in result.cells.values())
    assert "batch 2: the model failed on 3 images: ValueError: no odd batch, please" in repr(result)
    assert any("probe_batch_size" in alarm for alarm in result["natural"].info.alarms)
    assert "forward fails on 11 images and one image" in result["natural"].info.alarms[0]
    even = evaluate(model, x[:8], y[:8], "linf:0.05", ["natural", "fgsm"], batch_size=4)
    assert even["natural"].info.complete


NATIVE = [
    "natural", "fgsm", "bim", "mim", "noise", "cw_linf", ("cw", {"n_iter": 10}), "deepfool",
    ("pgd", {"n_iter": 3}), ("apgd", {"n_iter": 4}), ("apgd_t", {"n_iter": 3}),
    ("fab_t", {"n_iter": 3}), ("square", {"n_queries": 30}), ("auto", {"n_passes": 50}),
    ("autoattack", {"n_iter": 3, "n_queries": 20, "version": "plus", "n_restarts": 1}),
]  # fmt: skip


@pytest.mark.parametrize("search", ["fast", "exact"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_every_native_attack_completes_on_models_of_any_precision(
    dtype: torch.dtype, search: str
) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )
    x = torch.rand(6, 1, 8, 8)
    y = net.eval()(x).argmax(1)
    result = evaluate(net.to(dtype), x, y, "linf:0.1", NATIVE, search=search, sentinel=False)  # type: ignore[arg-type]
    assert {label: c.info.error for label, c in result.cells.items() if not c.info.complete} == {}
    assert result.clean_accuracy().value >= 5 / 6
    assert result["fgsm"].info.alarms == ()
    assert next(net.parameters()).dtype == dtype, "the caller's model is as it was"


def test_a_residual_network_in_half_precision_is_found_deterministic_and_per_sample() -> None:
    """In bfloat16 the last bits of logits move with the batch; that is rounding."""
    from torchvision.models import resnet18

    net = resnet18(num_classes=10).eval().to(torch.bfloat16)
    x, y = torch.rand(8, 3, 32, 32), torch.arange(8)
    info = evaluate(net, x, y, "linf:0.01", ["natural"], sentinel=False)["natural"].info
    assert info.cluster == "sample" and info.spec.n_draws == 1
    codes = {alarm.partition(":")[0] for alarm in info.alarms}
    assert not codes & {"probe_looks_at_grad", "probe_wrong_gradient", "probe_misleading_gradient"}

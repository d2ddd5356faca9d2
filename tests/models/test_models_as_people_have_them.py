"""Ten models as people have them, in one run: nine are read right, and the tenth loses its rows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from external_scenes import forget, rbench, write_suite
from torch import Tensor, nn

from bench.core.model_spec import ModelSpec
from bench.models import build_model
from bench.store.run_store import RunStore

pytestmark = pytest.mark.process

N, BATCH = 11, 4
"""Images, and how many are asked about at once: the last batch is odd."""

MODULE = '''
import torch
from torch import nn

SHAPE = {"size": 32, "channels": 3}


def linear(classes=3):
    fc = nn.Linear(3 * 32 * 32, classes)
    with torch.no_grad():
        fc.weight.copy_(torch.randn(fc.weight.shape, generator=torch.Generator().manual_seed(1)))
        fc.bias.zero_()
    return nn.Sequential(nn.Flatten(), fc)


def quantized():
    return torch.ao.quantization.quantize_dynamic(linear().eval(), {nn.Linear}, torch.qint8)


def half():
    return linear().half()


class Ensemble(nn.Module):
    def __init__(self):
        super().__init__()
        self.members = [linear(), linear()]

    def forward(self, x):
        return sum(member(x) for member in self.members)


class MonteCarlo(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.drop = linear(), nn.Dropout(0.9)

    def forward(self, x):
        return self.net(self.drop(x))


def monte_carlo():
    net = MonteCarlo().eval()
    net.drop.train()
    return net


def thousand():
    return linear(1000)


class Two(nn.Module):
    """Takes two channels; shown here the first two of three."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 8, stride=8), nn.Linear(64, 3)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for part in self.parameters():
                part.copy_(torch.randn(part.shape, generator=generator))

    def forward(self, x):
        return self.fc(self.conv(x - 0.5).relu().flatten(1))


class Even(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = linear()

    def forward(self, x):
        if len(x) % 2:
            raise ValueError("an even number of images, please")
        return self.net(x)
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "people_have.py").write_text(MODULE)
    monkeypatch.setenv("RBENCH_CHECKPOINTS", str(tmp_path / "checkpoints"))
    forget()
    yield tmp_path
    sys.modules.pop("people_have", None)
    forget()


def images(folder: Path, channels: int) -> tuple[Path, Tensor, Tensor]:
    """Writes images that a linear model is not sure of."""
    x = np.random.default_rng(3).random((N, channels, 32, 32)).astype(np.float32)
    y = np.arange(N) % 3
    path = folder / f"images{channels}.npz"
    np.savez(path, x=x, y=y)
    return path, torch.from_numpy(x), torch.from_numpy(y)


def trades(folder: Path) -> nn.Module:
    """Writes a file as TRADES publishes it, with entries that no pass uses; returns its network."""
    spec = {"arch": "resnet20", "norm": {"name": "bn"}, "channels": 3, "size": 32, "classes": 10}
    spec |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    net = build_model(ModelSpec.model_validate(spec)).eval()
    state = {f"module.{key}": value for key, value in net.net.state_dict().items()}
    state |= {"module.sub_block1.conv.weight": torch.zeros(3, 3), "epoch": torch.tensor(76)}
    torch.save({"state_dict": state}, folder / "trades.pt")
    return net


def accuracy_of(rows: list[bool]) -> str:
    return "".join("01"[row] for row in rows)


def test_ten_models_in_one_run(here: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs rbench[timm]")
    data, x, y = images(here, 3)
    published = trades(here)
    code, text = rbench(
        *("zoo", "import", "trades.pt", "--name", "trades", "--arch", "resnet20", "--norm", "bn"),
        *("--dataset", f"npz:{data}"),
        *(
            "--mean",
            "0,0,0",
            "--std",
            "1,1,1",
            "--classes",
            "10",
            "--channels",
            "3",
            "--size",
            "32",
        ),
        *("--drop", "*sub_block1*", "--drop", "epoch"),
    )
    assert code == 0 and "Left out" in text, text
    shape = "size=32&channels=3&classes=3"
    names = ("quantized", "half", "Ensemble", "monte_carlo", "Even")
    own = [f"python:people_have:{name}?{shape}" for name in names]
    own[0] += "&batch_dependent=true"  # it quantizes its inputs by the largest of a batch
    own[3] += "&stochastic=true"
    models = [
        f"timm:resnet18?{shape}",
        "torchvision:resnet18?size=32&classes=3",
        "trades",
        *own,
        "python:people_have:thousand?size=32&channels=3&classes=1000",
    ]
    suite = write_suite(here, data, models, batch_size=BATCH, n_draws=20, attacks=ATTACKS)
    code, text = rbench(
        *("run", str(suite), "--out", "out", "--trust-code", "--workers", "1", "--device", "cpu")
    )
    assert code == 3, text
    two, x2, y2 = images(here, 2)
    second = write_suite(
        here,
        two,
        ["python:people_have:Two?size=32&channels=2&classes=3"],
        batch_size=BATCH,
        attacks=ATTACKS,
    )
    assert rbench("run", str(second), "--out", "two", "--trust-code", "--workers", "1")[0] == 0

    people = importlib.import_module("people_have")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        of_timm = timm.create_model("resnet18", num_classes=3).eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    expected: dict[str, Callable[[Tensor], Tensor]] = {
        "timm": lambda x: of_timm((x - mean) / std),
        "trades": published,
        "quantized": people.quantized(),
        "half": lambda x: people.half()(x.half()),
        "Ensemble": lambda x: people.linear()(x) * 2,
        "thousand": people.thousand(),
        "Two": people.Two(),
    }
    seen = rows_of(here / "out", "natural") | rows_of(here / "two", "natural")
    broken = rows_of(here / "out", "fgsm") | rows_of(here / "two", "fgsm")
    assert len(seen) == len(broken) == 9 + 1
    some_fall = 0
    for name, forward in expected.items():
        (found,) = (rows for model, rows in seen.items() if name in model)
        assert found is not None, name
        inputs, labels = (x2, y2) if name == "Two" else (x, y)
        right = torch.cat([forward(batch).argmax(1) for batch in inputs.split(BATCH)]) == labels
        assert accuracy_of(found) == accuracy_of(right.tolist()), name
        if name == "quantized":  # it has no gradient
            continue
        x_adv = torch.cat([fgsm(forward, *both) for both in parts(inputs, labels)])
        left = torch.cat([forward(batch).argmax(1) for batch in x_adv.split(BATCH)]) == labels
        (stood,) = (rows for model, rows in broken.items() if name in model)
        assert stood is not None, name
        assert accuracy_of(stood) == accuracy_of((right & left).tolist()), name
        some_fall += bool((right & ~left).any())
    assert some_fall >= 4, "else the comparison under attack shows nothing"
    for rows in (seen, broken):
        (lost,) = (found for model, found in rows.items() if "Even" in model)
        assert lost is None, "it raises on the last batch"
    assert "an even number of images, please" in text


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ATTACKS = ["natural", "fgsm"]
EPS = 0.03


def parts(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches of images and labels."""
    yield from zip(x.split(BATCH), y.split(BATCH), strict=True)


def fgsm(forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Returns one step of ``EPS`` along the sign of the gradient, in plain torch."""
    x = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(forward(x).float(), y, reduction="sum")
    (grad,) = torch.autograd.grad(loss, x)
    return (x + EPS * grad.sign()).clamp(0, 1).detach()


def rows_of(out: Path, attack: str) -> dict[str, list[bool] | None]:
    """Returns of each model which images are right; ``None`` where the cell is incomplete."""
    store, found = RunStore(out), {}
    for cell_id in store.cell_ids():
        info, rows = store.read_cell(cell_id)
        if info.spec.attack == attack:
            right = [(row.robust or 0) > 0.5 for row in rows]
            found[info.spec.checkpoint] = right if info.complete else None
    return found

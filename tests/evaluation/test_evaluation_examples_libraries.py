"""Files as runs of other tools leave them are read without a word about their layout."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bench import verify_examples
from bench.core.errors import UserError

pytestmark = pytest.mark.process  # foolbox starts one as it is imported; all take a second

N, EPS = 12, 16 / 255


class Small(nn.Module):
    """A network that attacks break in a few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.layers(x - 0.5))


@pytest.fixture
def scene() -> tuple[nn.Module, Tensor, Tensor]:
    """A model, images on the 8-bit grid, and labels of which it gets one wrong."""
    model = Small().eval()
    x = torch.randint(20, 236, (N, 1, 8, 8)) / 255
    with torch.no_grad():
        y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 4
    return model, x, y


def library(name: str) -> Any:
    """Imports a library, or skips the test."""
    pytest.importorskip(name)
    return importlib.import_module(name)


def judged(scene: Any, path: Path, **options: Any) -> Any:
    model, x, y = scene
    flags = {"stochastic": False, "batch_dependent": False, "probe": False}
    return verify_examples(model, x, y, path, f"linf:{EPS}", **flags, **options)


def right(scene: Any, x_adv: Tensor) -> float:
    """Accuracy on x_adv by a plain pass, where an image that is wrong anyway counts as wrong."""
    model, x, y = scene
    with torch.no_grad():
        both = (model(x_adv).argmax(1) == y) & (model(x).argmax(1) == y)
    return float(both.double().mean())


def autoattack(scene: Any, attacks: list[str]) -> Any:
    model = scene[0]
    attack = library("pyautoattack").AutoAttack(
        model, norm="Linf", eps=EPS, version="custom", device="cpu"
    )
    attack.attacks_to_run, attack.verbose = attacks, False
    attack.apgd.n_restarts, attack.apgd.n_iter, attack.square.n_queries = 1, 5, 10
    return attack


def test_a_run_of_autoattack(scene: Any, tmp_path: Path) -> None:
    _, x, y = scene
    made = autoattack(scene, ["apgd-ce"]).run_standard_evaluation(x, y, batch_size=N)
    x_adv, predicted = made
    torch.save(made, tmp_path / "pair.pt")
    torch.save({"adv_complete": x_adv}, tmp_path / "official.pth")
    torch.save({"adv_complete": made}, tmp_path / "nested.pth")
    for name in ("pair.pt", "official.pth", "nested.pth"):
        found = judged(scene, tmp_path / name)
        assert found.all_valid and found.robust_accuracy().value == right(scene, x_adv) < 0.9
        if name != "official.pth":
            assert f"own predictions are the model's on {N} of {N}" in repr(found)
    assert (predicted != y).any(), "its classes are predictions, not labels"


def test_attacks_of_autoattack_one_by_one(scene: Any, tmp_path: Path) -> None:
    _, x, y = scene
    attack = autoattack(scene, ["apgd-ce", "square"])
    made = attack.run_standard_evaluation_individual(x, y, batch_size=N)
    torch.save(made, tmp_path / "individual.pth")
    with pytest.raises(UserError, match=r"apgd-ce\.0 .*square\.0 .*choose one with --key"):
        judged(scene, tmp_path / "individual.pth")
    for name, (x_adv, _) in made.items():
        found = judged(scene, tmp_path / "individual.pth", key=name)
        assert found.robust_accuracy().value == right(scene, x_adv)


def test_a_run_of_torchattacks(scene: Any, tmp_path: Path) -> None:
    model, x, y = scene
    attack = library("torchattacks").PGD(model, eps=EPS, alpha=EPS / 3, steps=5)
    loader = DataLoader(TensorDataset(x, y), batch_size=5)
    saving = {"verbose": False, "save_predictions": False, "save_clean_inputs": True}
    attack.save(loader, str(tmp_path / "float.pt"), **saving)
    x_adv = torch.load(tmp_path / "float.pt", weights_only=True)["adv_inputs"]
    found = judged(scene, tmp_path / "float.pt")
    assert found.all_valid and found.robust_accuracy().value == right(scene, x_adv) < 0.9
    assert "its labels are those of the data" in repr(found)
    assert "its clean images are those of the data to 0" in repr(found)
    shuffled = DataLoader(TensorDataset(x.flip(0), y.flip(0)), batch_size=5)
    attack.save(shuffled, str(tmp_path / "shuffled.pt"), **saving)
    with pytest.raises(UserError, match="its labels are not those of the data"):
        judged(scene, tmp_path / "shuffled.pt")


def test_levels_that_torchattacks_cuts_off_leave_the_ball(scene: Any, tmp_path: Path) -> None:
    """It saves whole numbers by cutting off, so that x - eps lands one level below the ball."""
    model, x, y = scene
    attack = library("torchattacks").PGD(model, eps=EPS, alpha=EPS / 3, steps=5)
    loader = DataLoader(TensorDataset(x, y), batch_size=5)
    attack.save(loader, str(tmp_path / "int.pt"), verbose=False, save_type="int")
    levels = torch.load(tmp_path / "int.pt", weights_only=True)["adv_inputs"]
    assert levels.dtype == torch.uint8
    far = (levels.int() - (x * 255).round().int()).abs().flatten(1).amax(1)
    found = judged(scene, tmp_path / "int.pt")
    beyond = [row.status == "beyond_eps" for row in found.rows]
    assert beyond == (far > 16).tolist() and any(beyond)
    assert found.on_grid and "uint8, levels of 0 to 255 divided by 255" in repr(found)


def test_a_run_of_foolbox(scene: Any, tmp_path: Path) -> None:
    model, x, y = scene
    foolbox = library("foolbox")
    theirs = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=5)
    made = attack(theirs, x, y, epsilons=EPS)
    torch.save(made, tmp_path / "triple.pt")
    np.save(tmp_path / "clipped.npy", made[1].numpy().transpose(0, 2, 3, 1))
    for name in ("triple.pt", "clipped.npy"):
        found = judged(scene, tmp_path / name)
        assert found.all_valid and found.robust_accuracy().value == right(scene, made[1]) < 0.9
    several = attack(theirs, x, y, epsilons=[EPS / 2, EPS])
    torch.save(several, tmp_path / "several.pt")
    with pytest.raises(UserError, match=r"0\.0 .*1\.1 .*choose one with --key"):
        judged(scene, tmp_path / "several.pt")
    with pytest.raises(UserError, match="no array is called '1'"):
        judged(scene, tmp_path / "several.pt", key="1")
    found = judged(scene, tmp_path / "several.pt", key="1.1")
    assert found.robust_accuracy().value == right(scene, several[1][1])


def test_examples_of_minimum_norm_attacks_count_where_they_are_within_eps(
    scene: Any, tmp_path: Path
) -> None:
    model, x, y = scene
    foolbox = library("foolbox")
    theirs = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfDeepFoolAttack(steps=20)
    _, x_adv, _ = attack(theirs, x, y, epsilons=None)
    np.savez(tmp_path / "adv.npz", x_adv=x_adv.numpy(), labels=y.numpy())
    far = (x_adv - x).abs().flatten(1).amax(1)
    eps = float(far.median())
    flags = {"stochastic": False, "batch_dependent": False, "probe": False}
    found = verify_examples(model, x, y, tmp_path / "adv.npz", f"linf:{eps}", **flags)
    with torch.no_grad():
        wrong = model(x_adv).argmax(1) != y
    wrong[0] = True  # whatever the example
    proved = wrong & (far <= eps + 1e-6)
    proved[0] = True
    assert found.robust_accuracy().value == pytest.approx(1 - proved.double().mean())
    assert 0 < found.counts()["wrong_beyond_eps"] == int((wrong & (far > eps + 1e-6)).sum())

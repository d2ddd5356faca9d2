"""Targeted attacks: which target, what is success, libraries and a linear program beside them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench import evaluate
from bench.attacks import get_attack, parse_params
from bench.attacks.base import Budget
from bench.core.errors import UserError
from bench.evaluation.result import AttackResult
from bench.oracle import Oracle, QueryRules
from bench.store.run_store import RunStore

KNOWN = {"probe": False, "stochastic": False, "batch_dependent": False, "sentinel": False}
AIMED = ("fgsm", "bim", "mim", "pgd", "cw_linf", "apgd", "square", "cw")


class Linear(nn.Module):
    """Some classes, linear in the pixels of images (n, 1, 4, 4)."""

    def __init__(self, classes: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(16, classes)
        with torch.no_grad():
            weights = scale * torch.randn(classes, 16, generator=torch.Generator().manual_seed(3))
            self.layer.weight.copy_(weights)
            self.layer.bias.copy_(-weights.sum(1) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def small_net(classes: int = 6) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, classes, bias=False)
        )
    return net.eval()


def images(n: int, size: int = 4, low: float = 0.3) -> Tensor:
    spread = torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(n))
    return low + (1 - 2 * low) * spread


def craft(
    model: nn.Module, name: str, x: Tensor, goals: Tensor, eps: float, **params: Any
) -> Tensor:
    attack = get_attack(name)
    n_classes = model(x[:1]).shape[1]
    oracle = Oracle(model, x, n_classes, QueryRules(targeted=True))
    norm = "l2" if name == "cw" else "linf"
    found = attack.run(oracle, x, goals, Budget(norm, (eps,)), parse_params(attack, params), 0)
    assert isinstance(found, Tensor)
    return found


def reachable(model: Linear, x: Tensor, goals: Tensor, eps: float, slack: float) -> np.ndarray:
    """Whether a point of the linf ball (n,) has its target lead by ``slack``: a linear program."""
    w = model.layer.weight.detach().double().numpy()
    z = model(x).detach().double().numpy()
    found = []
    for row, goal in zip(z, goals.tolist(), strict=True):
        others = [k for k in range(len(w)) if k != goal]
        bounds = [(-eps, eps)] * w.shape[1]
        rows = np.stack([w[k] - w[goal] for k in others])
        room = np.array([row[goal] - row[k] - slack for k in others])
        found.append(linprog(np.zeros(w.shape[1]), rows, room, bounds=bounds).status == 0)
    return np.array(found)


@pytest.mark.process
@pytest.mark.parametrize("name", ["bim", "mim", "pgd", "cw_linf", "apgd"])
def test_on_a_linear_model_a_linear_program_says_who_can_be_brought(name: str) -> None:
    """With large logits, where the cross-entropy is the distance to the best other class."""
    model, x, eps = Linear(scale=20), images(120), 0.035
    y = model(x).argmax(1)
    goals = (y + 1 + torch.arange(len(x)) % 3) % 4
    x_adv = craft(model, name, x, goals, eps, n_iter=100)
    reached = (model(x_adv).argmax(1) == goals).numpy()
    surely, never = reachable(model, x, goals, eps, 0.4), ~reachable(model, x, goals, eps, -1e-4)
    assert surely.sum() > 20 < never.sum()
    assert not (reached & never).any()
    assert (reached & surely).sum() >= 0.97 * surely.sum()


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "theirs", "params"),
    [
        ("fgsm", "FGSM", {}),
        ("bim", "BIM", {"n_iter": 10, "alpha": 0.01}),
        ("pgd", "PGD", {"n_iter": 10, "alpha": 0.01, "random_start": False, "keep": "last"}),
        ("mim", "MIFGSM", {"n_iter": 10, "alpha": 0.01, "decay": 1.0}),
    ],
)
def test_torchattacks_in_targeted_mode_finds_the_same_images(
    name: str, theirs: str, params: dict[str, Any]
) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    model, x = small_net(), images(12, 8)
    goals = (model(x).argmax(1) + 2) % 6
    own = {"n_iter": "steps", "alpha": "alpha", "random_start": "random_start", "decay": "decay"}
    attack = getattr(torchattacks, theirs)(
        model, eps=0.05, **{own[key]: value for key, value in params.items() if key in own}
    )
    attack.set_mode_targeted_by_label(quiet=True)
    expected = attack(x, goals)
    found = craft(model, name, x, goals, 0.05, **params)
    assert torch.allclose(found, expected, atol=1e-5)
    before, after = (F.cross_entropy(model(one), goals).item() for one in (x, found))
    assert after < before


@pytest.mark.process
def test_foolbox_in_targeted_mode_finds_the_same_images() -> None:
    foolbox = pytest.importorskip("foolbox")
    model, x = small_net(), images(12, 8)
    goals = (model(x).argmax(1) + 2) % 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.LinfBasicIterativeAttack(
            abs_stepsize=0.01, steps=10, random_start=False
        )
        goal = foolbox.criteria.TargetedMisclassification(goals)
        expected, _, reached = attack(wrapped, x, goal, epsilons=0.05)
    found = craft(model, "bim", x, goals, 0.05, n_iter=10, alpha=0.01)
    assert torch.allclose(found, expected, atol=1e-5)
    assert ((model(found).argmax(1) == goals) == reached).all()


@pytest.mark.process
def test_cw_comes_as_near_as_foolbox_toward_a_target() -> None:
    foolbox = pytest.importorskip("foolbox")
    model, x = small_net(), images(8, 8)
    goals = (model(x).argmax(1) + 3) % 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.L2CarliniWagnerAttack(steps=100, binary_search_steps=6)
        goal = foolbox.criteria.TargetedMisclassification(goals)
        _, expected, reached = attack(wrapped, x, goal, epsilons=None)
    found = craft(model, "cw", x, goals, 9.0, n_iter=100, binary_search_steps=6)
    assert reached.all() and (model(found).argmax(1) == goals).all()
    ours, theirs = ((one - x).flatten(1).norm(dim=1) for one in (found, expected))
    assert (ours <= 1.05 * theirs).all(), (ours / theirs).tolist()


@pytest.mark.process
def test_cw_leads_by_kappa() -> None:
    model, x = small_net(), images(8, 8)
    goals = (model(x).argmax(1) + 3) % 6
    found = craft(model, "cw", x, goals, 9.0, n_iter=100, binary_search_steps=6, kappa=0.05)
    top = model(found).detach().topk(2, dim=1)
    assert (top.indices[:, 0] == goals).all()
    lead = top.values[:, 0] - top.values[:, 1]
    assert (lead >= 0.05 - 1e-5).all() and (lead < 0.15).all()


@pytest.mark.process
def test_apgd_brings_as_many_as_that_of_autoattack() -> None:
    pyautoattack = pytest.importorskip("autoattack.autopgd_base")
    model, x, eps = small_net(), images(60, 8), 0.03
    z = model(x).detach()
    y, goals = z.argmax(1), z.topk(2, dim=1).indices[:, 1]
    attack = pyautoattack.APGDAttack_targeted(
        model,
        n_iter=30,
        norm="Linf",
        n_restarts=1,
        eps=eps,
        n_target_classes=1,
        seed=0,
        device="cpu",
    )
    attack.loss = "ce-targeted-cfts"
    theirs = attack.perturb(x, y)
    found = craft(model, "apgd", x, goals, eps, n_iter=30)
    ours, other = ((model(one).argmax(1) == goals).sum().item() for one in (found, theirs))
    assert 5 < other < 60 and abs(ours - other) <= 1


def test_a_random_search_reaches_what_gradients_reach() -> None:
    model, x, eps = Linear(), images(60), 0.12
    goals = (model(x).argmax(1) + 1) % 4
    surely = reachable(model, x, goals, eps, 0.1)
    never = ~reachable(model, x, goals, eps, -1e-5)
    found = craft(model, "square", x, goals, eps, n_queries=400)
    reached = (model(found).argmax(1) == goals).numpy()
    assert not (reached & never).any() and (reached & surely).sum() >= 0.8 * surely.sum() > 10


# --- what evaluate() says


def run(
    y_target: Any, n: int = 60, attack: str = "bim", eps: float = 0.08, **options: Any
) -> AttackResult:
    model, x = Linear(), images(n)
    y = model(x).argmax(1)
    entry = {"attack": attack, "y_target": y_target, "label": "one"}
    return evaluate(model, x, y, ("linf", eps), [entry], **{**KNOWN, **options})["one"]


def targets(found: AttackResult) -> dict[int, int]:
    return {row.index: row.target for row in found.rows if row.target is not None}


def test_success_is_the_target_and_nothing_else() -> None:
    found = run("random", eps=0.035)
    kinds = set()
    for row in found.rows:
        assert row.robust == float(row.adv_pred != row.target) or row.played == "clean"
        kinds.add((row.adv_pred == row.target, row.adv_pred == row.label))
    assert kinds == {(True, False), (False, True), (False, False)}, "a third class is no success"


def test_a_random_target_follows_from_seed_and_image_and_is_never_the_label() -> None:
    found = run("random")
    wanted = targets(found)
    labels = {row.index: row.label for row in found.rows}
    assert len(wanted) == 60 and all(wanted[i] != labels[i] for i in wanted)
    assert targets(run("random", batch_size=7)) == wanted
    assert targets(run("random", attack="fgsm")) == wanted, "the same for every attack"
    few = evaluate(
        Linear(),
        images(60)[:9],
        Linear()(images(60)[:9]).argmax(1),
        "linf:0.08",
        [{"attack": "bim", "y_target": "random", "label": "one"}],
        **KNOWN,
    )["one"]
    assert targets(few) == {i: wanted[i] for i in range(9)}
    assert targets(run("random", seed=1)) != wanted


def test_random_targets_are_equally_likely() -> None:
    model, x = Linear(6), images(900)
    y = torch.zeros(900, dtype=torch.long)
    entry = {"attack": "fgsm", "y_target": "random", "label": "one"}
    found = evaluate(model, x, y, "linf:0.01", [entry], **KNOWN)["one"]
    counts = np.bincount([row.target or 0 for row in found.rows], minlength=6)
    assert counts[0] == 0 and (abs(counts[1:] - 180) < 5 * 180**0.5).all()


def test_the_least_likely_class_is_that_of_the_lowest_logit_but_the_label() -> None:
    model, x = Linear(), images(60)
    y = model(x).argmax(1)
    y[:10] = model(x).argmin(1)[:10]  # the label itself is the least likely
    entry = {"attack": "fgsm", "y_target": "least_likely", "label": "one"}
    found = evaluate(model, x, y, "linf:0.01", [entry], **KNOWN)["one"]
    order = model(x).detach().argsort(1)
    expected = torch.where(order[:, 0] == y, order[:, 1], order[:, 0])
    assert [row.target for row in found.rows] == expected.tolist()
    assert (order[:10, 0] == y[:10]).all()


def test_given_classes_are_taken_in_the_order_of_the_images() -> None:
    model, x = Linear(), images(20)
    y = model(x).argmax(1)
    wanted = ((y + 1) % 4).tolist()
    entry = {"attack": "fgsm", "y_target": wanted, "label": "one"}
    found = evaluate(model, x, y, "linf:0.01", [entry], batch_size=6, **KNOWN)["one"]
    assert [row.target for row in found.rows] == wanted


def test_a_random_model_scores_the_share_of_draws_that_are_not_the_target() -> None:
    class Coin(nn.Module):
        """Predicts class 0 on a quarter of the draws and class 1 on the others."""

        def forward(self, x: Tensor) -> Tensor:
            zero = (torch.rand(len(x)) < 0.25).float()[:, None]
            return (
                torch.cat([zero, 1 - zero, torch.zeros_like(zero)], 1)
                + 0 * x.mean((1, 2, 3))[:, None]
            )

    x, y = images(40), torch.full((40,), 2)
    entry = {"attack": "fgsm", "y_target": 0, "label": "one"}
    options = {**KNOWN, "stochastic": True}
    found = evaluate(Coin(), x, y, "linf:0.01", [entry], n_draws=50, **options)["one"]
    assert np.mean([row.robust for row in found.rows]) == pytest.approx(0.75, abs=0.05)
    assert all(row.adv_correct == 0 for row in found.rows)


def test_it_is_told_apart_in_every_line_and_no_part_of_the_worst_case() -> None:
    model, x = Linear(), images(40)
    y = model(x).argmax(1)
    aimed = {"attack": "bim", "y_target": "least_likely"}
    result = evaluate(model, x, y, "linf:0.2", ["fgsm", aimed], **KNOWN)
    alone = evaluate(model, x, y, "linf:0.2", ["fgsm"], **KNOWN)
    assert list(result) == ["fgsm", "bim to least likely"]
    assert result.worst_case() == alone.worst_case()
    assert result["fgsm"].info.cell_id == alone["fgsm"].info.cell_id
    text = repr(result)
    assert " targeted" in text and "success is a prediction of the target" in text
    assert "bim to least likely: no part of the worst case" in text
    assert "targeted (least likely class)" in result.table().loc["bim to least likely", "notes"]
    only = evaluate(model, x, y, "linf:0.2", [aimed], **KNOWN)
    assert "worst case" not in only.table().index


def test_targets_are_stored_and_other_files_have_no_such_column(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for found in (run("random", 12), run(None, 12)):
        store.write_cell(found.info, found.rows)
        info, rows = store.read_cell(found.info.cell_id)
        assert info == found.info and tuple(rows) == found.rows
        aimed = found.info.spec.y_target is not None
        assert ("target" in store.frame(found.info.cell_id).columns) == aimed
    assert run("random", 12).info.cell_id != run("least_likely", 12).info.cell_id
    assert "y_target" not in run(None, 12).info.spec.model_dump()


@pytest.mark.process
@pytest.mark.parametrize("name", AIMED)
def test_every_attack_that_takes_a_target_reaches_some(name: str) -> None:
    model, x = Linear(), images(20)
    y = model(x).argmax(1)
    params = {"square": {"n_queries": 200}, "cw": {"binary_search_steps": 6}}.get(name, {})
    entry = {"attack": name, "y_target": "random", "params": params, "label": "one"}
    ball = "l2:0.5" if name == "cw" else "linf:0.15"
    found = evaluate(model, x, y, ball, [entry], **KNOWN)["one"]
    assert found.info.complete, found.info.error
    reached = [row for row in found.rows if row.robust == 0]
    assert len(reached) > 5 and all(row.adv_pred == row.target for row in reached)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"attack": "autoattack", "y_target": 1}, r"y_target: 'autoattack' cannot be given a"),
        ({"attack": "torchattacks:PGD", "y_target": 1}, "cannot be given a target class"),
        (
            {"attack": "apgd", "y_target": "random", "params": {"loss": "dlr"}},
            "give its .* loss ce",
        ),
        ({"attack": "pgd", "y_target": 9}, r"attacks\[0\].y_target: expected classes from 0 to 3"),
        ({"attack": "pgd", "y_target": [1, 2]}, "expected 8 classes, one for each image, found 2"),
        ({"attack": "pgd", "y_target": 0}, "images are of their target class already"),
        ({"attack": "pgd", "y_target": "likely"}, "expected least_likely, random, a class"),
    ],
)
def test_what_cannot_be_a_target_is_refused(entry: dict[str, Any], said: str) -> None:
    model, x = Linear(), images(8)
    with pytest.raises(UserError, match=said):
        evaluate(model, x, torch.arange(8) % 4, "linf:0.05", [entry], **KNOWN)

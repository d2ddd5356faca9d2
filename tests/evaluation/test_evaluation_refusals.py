"""Every refusal of ``evaluate()`` names the next step; and what people write is understood."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bench import evaluate
from bench.attacks import get_attack
from bench.core.errors import UserError

N = 6


class Sigmoid(nn.Module):
    """One output an image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(x.flatten(1)))


class Two(nn.Module):
    """The wrapper that the refusal names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z = torch.logit(self.model(x))
        return torch.cat([torch.zeros_like(z), z], 1)


def arguments(**changes: Any) -> dict[str, Any]:
    x, y = torch.rand(N, 1, 8, 8), torch.arange(N) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    given = {"model": model, "x": x, "y": y, "threat": "linf:0.02", "attacks": ["fgsm"]}
    return {**given, "sentinel": False, **changes}


def attack_function(model: Any, x: Any, y: Any) -> Any:
    return x


def four(model: Any, x: Any, y: Any, eps: float, n: int = 1) -> Any:
    return x


def library_object() -> Any:
    import torchattacks

    return torchattacks.PGD(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": Sigmoid()},
            r"shape \(2, 1\): one output .* torch.cat\(\[torch.zeros_like",
        ),
        ({"threat": ("linf:2/255", "linf:8/255")}, r"one ball, .* several are a list, \['linf:2"),
        ({"threat": ["linf:2/255", "linf:2/255"]}, "threat: linf 2/255 occurs twice"),
        ({"model": {"a": 3}}, "model 'a': expected an nn.Module, found int"),
        ({"model": []}, "model: expected at least one model"),
        ({"model": "fmnist-resnet20-bn"}, r"found str; one by name is load_model\(NAME\)"),
        ({"threat": {"norm": "linf", "eps": 0}}, "threat: eps must be greater than 0"),
        ({"threat": 0.1}, "threat: "),
        (
            {"attacks": [attack_function]},
            r"attacks\[0\]: expected a function f\(model, x, y, eps\) .*found attack_function\(mo",
        ),
        ({"attacks": [(four, {"steps": 3})]}, r"attacks\[0\]: steps: four\(.* takes no such arg"),
        ({"attacks": [(four, {"n": torch.ones(1)})]}, "functools.partial"),
        ({"attacks": [{"attack": four, "identity": 3}]}, "expected an identity that is a text"),
        ({"attacks": [{"attack": "fgsm", "identity": "mine"}]}, r"attacks\[0\]: identity"),
        ({"attacks": [nn.Linear(2, 2)]}, "found a Linear"),
        ({"attacks": [four, four]}, r"attacks\[1\]: 'four' is the label of attacks\[0\]"),
        ({"attacks": [get_attack("pgd")]}, r"ATTACKS.add\('pgd', attack\), and give 'pgd'"),
        ({"attacks": [library_object]}, r"expected a function f\(model, x, y, eps\)"),
        ({"attacks": [library_object()]}, "found a PGD of torchattacks; give 'torchattacks:PGD'"),
        ({"attacks": [("pgd", 3)]}, r"expected \(name, parameters\), for example"),
        ({"attacks": [3]}, "found a int"),
        (
            {"attacks": ["fgsm", ("pgd", {"steps": 3})]},
            r"attacks\[1\]: attack 'pgd': steps: unknown parameter; did you mean 'n_iter'",
        ),
        ({"x": torch.zeros(0, 1, 8, 8)}, "expected at least one image"),
        ({"x": torch.zeros(N, 8, 8)}, r"gray images need a channel too \(x\[:, None\]\)"),
        ({"x": torch.zeros(N, 8, 8, 3)}, r"channels last; give x.permute\(0, 3, 1, 2\)"),
        ({"x": DataLoader(TensorDataset(torch.zeros(N, 1, 8, 8)))}, "found a DataLoader; collect"),
        ({"x": TensorDataset(torch.zeros(N, 1, 8, 8))}, "found a TensorDataset; collect"),
        ({"device": "cuda:63"}, "device=cuda:63: .*use device=cpu"),
        ({"device": "tpu"}, "device: expected cpu, cuda"),
    ],
)
def test_a_refusal_names_the_next_step(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(**arguments(**changes))


def test_an_object_of_a_library_is_named_as_it_is_given_here() -> None:
    with pytest.raises(UserError, match=r"a PGD of torchattacks; give 'torchattacks:PGD'"):
        evaluate(**arguments(attacks=[library_object()]))


@pytest.mark.parametrize(
    "threat",
    ["Linf:2/255", ("linf", 2 / 255), ("Linf", "2/255"), {"norm": "Linf", "eps": "2/255"}],
    ids=str,
)
def test_a_ball_may_be_written_in_the_ways_of_the_field(threat: Any) -> None:
    found = evaluate(**arguments(threat=threat))["fgsm"].info.spec.threat_model
    assert (found.norm, found.eps) == ("linf", pytest.approx(2 / 255))


def test_the_wrapper_of_two_logits_is_the_sigmoid() -> None:
    model = Sigmoid().eval()
    x = torch.rand(N, 1, 8, 8)
    y = (model(x)[:, 0] > 0.5).long()
    result = evaluate(**arguments(model=Two(model), x=x, y=y, attacks=["natural", "pgd"]))
    assert result.clean_accuracy().value == 1
    torch.testing.assert_close(Two(model)(x).softmax(1)[:, 1], model(x)[:, 0])


def test_a_list_of_images_is_stacked() -> None:
    given = arguments(attacks=["natural"])
    one = evaluate(**given)["natural"].info
    two = evaluate(**{**given, "x": list(given["x"]), "y": list(given["y"])})["natural"].info
    assert one.spec.data_hash == two.spec.data_hash

"""Adaptive attacks: a stand-in's backward pass and a loss of one's own, against closed forms."""

from __future__ import annotations

import copy
from dataclasses import replace
from math import erf, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench import evaluate
from bench.attacks.randomness import seeded
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.evaluation.result import EvaluationResult
from bench.models import Classifier, build_model
from bench.oracle import Aids, Oracle, QueryRules, cross_entropy

LEVELS = 32
EPS = 2 / LEVELS
N, SIDE = 60, 4


class Linear(nn.Module):
    """Two classes, whose margin ``w . (x - 1/2)`` falls by at most ``eps * |w|_1``."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randn(SIDE * SIDE, generator=generator))

    def seen(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        margin = (self.seen(x).flatten(1) - 0.5) @ self.w
        return torch.stack([-margin, margin], 1) / 2


class Quantized(Linear):
    """The same behind a quantizer, which has no gradient. On its grid it is the identity."""

    def seen(self, x: Tensor) -> Tensor:
        return (x * LEVELS).round() / LEVELS


NOISE = 0.3


class Noisy(Quantized):
    """Adds noise to the margin, one number for each image."""

    def forward(self, x: Tensor) -> Tensor:
        noise = NOISE * torch.randn(len(x))
        return super().forward(x) + torch.stack([-noise, noise], 1) / 2


def images() -> tuple[Tensor, Tensor]:
    """Images on the quantizer's grid, far from the box, with the labels of ``Linear``."""
    generator = torch.Generator().manual_seed(2)
    steps = torch.randint(LEVELS // 4, 3 * LEVELS // 4, (N, 1, SIDE, SIDE), generator=generator)
    x = steps / LEVELS
    return x, Linear()(x).argmax(1)


def margins() -> Tensor:
    """Margins that the images have left at the corner of the ball that is worst for them."""
    x, y = images()
    model = Linear()
    signed = ((x.flatten(1) - 0.5) @ model.w) * (2 * y - 1)
    return (signed - EPS * model.w.abs().sum()).detach()


def plain_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def run(model: nn.Module, attacks: Any, **more: Any) -> EvaluationResult:
    return evaluate(model, *images(), f"linf:{EPS}", attacks, **{"sentinel": False, **more})


def robust(result: EvaluationResult, label: str) -> float:
    info = result[label].info
    assert info.complete, info.error
    return result.robust_accuracy(label).value


EXPECTED = float((margins() > 0).double().mean())
"""Robust accuracy of ``Linear``, and of ``Quantized`` as eps is two steps of its grid."""


def test_bpda_by_the_identity_reaches_the_closed_form_and_pgd_alone_does_not() -> None:
    assert 0.1 < EXPECTED < 0.5
    assert robust(run(Linear(), ["pgd"]), "pgd") == EXPECTED
    assert robust(run(Quantized(), ["pgd"]), "pgd") > EXPECTED + 0.3
    names = ["pgd", "fgsm", "mim", "apgd", "autoattack", "auto"]
    short = {"autoattack": {"n_iter": 10, "n_queries": 50}, "auto": {"n_passes": 480}}
    attacks = [(name, short.get(name, {})) for name in names]
    found = run(Quantized(), attacks, gradient_model=Linear())
    assert {name: robust(found, name) for name in names} == dict.fromkeys(names, EXPECTED)


@pytest.mark.parametrize("name", ["torchattacks:PGD", "foolbox:LinfPGD"])
def test_attacks_of_libraries_get_the_stand_in_through_the_module(name: str) -> None:
    pytest.importorskip(name.partition(":")[0])
    found = run(Quantized(), [(name, {"n_iter": 80})], gradient_model=Linear())
    assert robust(found, name.partition(":")[2]) == EXPECTED


def test_minimum_norm_attacks_follow_it_too() -> None:
    found = run(Quantized(), ["deepfool"], gradient_model=Linear())
    alone = run(Quantized(), ["deepfool"])
    assert robust(found, "deepfool") <= EXPECTED + 2 / N < robust(alone, "deepfool")


def test_rows_come_from_the_model_itself_and_passes_are_all_counted() -> None:
    result = run(Quantized(), [("pgd", {"n_iter": 4})], gradient_model=Linear(), batch_size=7)
    (row, *_) = result["pgd"].rows
    assert (row.forwards, row.backwards) == (2 * 4 + 1, 4), "one more for each gradient"
    # A stand-in that leads the wrong way breaks nothing: the model is the judge.
    wrong = Linear()
    wrong.w.data.neg_()
    assert robust(run(Quantized(), ["pgd"], gradient_model=wrong), "pgd") > EXPECTED + 0.3


def test_a_random_defence_is_attacked_in_expectation() -> None:
    attacks = [("pgd", {"n_iter": 5})]
    more: dict[str, Any] = {"eot_iter": 4, "n_draws": 60, "batch_size": 30}
    found = run(Noisy(), attacks, **more, gradient_model=Linear())
    expected = [0.5 * (1 + erf(m / (NOISE * sqrt(2)))) for m in margins().tolist()]
    assert (found["pgd"].info.spec.n_draws, found["pgd"].info.spec.eot_iter) == (60, 4)
    assert robust(found, "pgd") == pytest.approx(sum(expected) / N, abs=0.03)
    assert robust(run(Noisy(), attacks, **more), "pgd") > sum(expected) / N + 0.2


class Masked(Linear):
    """Drops pixels at random, the same for all images of a pass, before a quantizer or not."""

    def __init__(self, *, quantized: bool) -> None:
        super().__init__()
        self.quantized = quantized

    def seen(self, x: Tensor) -> Tensor:
        kept = (torch.rand(x.shape[1:]) < 0.5) * 1.0
        rounded = (x * LEVELS).round() / LEVELS
        return 0.5 + kept * ((rounded if self.quantized else x) - 0.5)


def test_a_stand_in_draws_what_the_model_draws() -> None:
    """On the quantizer's grid the two are one model, so that their gradients agree draw by draw."""
    x, y = images()
    rules = QueryRules(stochastic=True, eot_iter=3)
    model, stand_in = Masked(quantized=True), Masked(quantized=False)

    def gradient(of: nn.Module, aids: Aids | None) -> Tensor:
        with seeded(5):
            answers = [Oracle(of, x, 2, rules, aids=aids).query(x, y, cross_entropy)]
            answers.append(Oracle(of, x, 2, rules, aids=aids).query(x, y, cross_entropy))
        slopes = [answer.grad for answer in answers if answer.grad is not None]
        return torch.stack(slopes)

    found = gradient(model, Aids(gradient_model=stand_in))
    assert torch.equal(found, gradient(stand_in, None)), "and the draws after it are the same too"
    assert not torch.equal(found[0], found[1]), "drawn anew for each query"
    module = Oracle(model, x, 2, rules, aids=Aids(gradient_model=stand_in)).module()
    z = module(x.requires_grad_())
    assert torch.autograd.grad(z[:, 1].sum(), x)[0].abs().sum() > 0


@pytest.mark.parametrize("eot", ["plain", "stratified"])
def test_a_stand_in_takes_the_paths_of_rna(eot: Any) -> None:
    spec = ModelSpec.model_validate(
        {
            "arch": "resnet20",
            "norm": {"name": "rna", "pool": ["bn", "in"]},
            "channels": 1,
            "size": 8,
            "classes": 3,
            "mean": [0.5],
            "std": [0.5],
        }
    )
    model = build_model(spec).eval()
    x, y = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 3
    rules = QueryRules(stochastic=True, eot_iter=2, eot=eot)
    own = Oracle(model, x, 3, rules).query(x, y, cross_entropy)
    aids = Aids(gradient_model=copy.deepcopy(model))
    found = Oracle(model, x, 3, rules, aids=aids).query(x, y, cross_entropy)
    assert own.grad is not None and found.grad is not None
    torch.testing.assert_close(found.grad, own.grad)
    torch.testing.assert_close(found.loss, own.loss)


class Centred(Linear):
    """Compares an image with the mean of its batch."""

    def seen(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True) + 0.5


@pytest.mark.parametrize("adversary", ["joint", "single"])
def test_a_batch_dependent_stand_in_sees_the_same_batch(adversary: Any) -> None:
    more: dict[str, Any] = {"adversary": adversary, "batch_size": 6, "search": "exact"}
    own = run(Centred(), [("pgd", {"n_iter": 5})], **more)["pgd"].rows
    found = run(Centred(), [("pgd", {"n_iter": 5})], **more, gradient_model=Centred())["pgd"].rows
    assert [row.robust for row in found] == [row.robust for row in own]
    assert found[0].forwards > own[0].forwards


ATTACKS = ["fgsm", "bim", "mim", "pgd", "apgd"]


@pytest.mark.parametrize("search", ["fast", "exact"])
def test_a_loss_that_equals_the_built_in_one_gives_the_same_rows(search: Any) -> None:
    own = run(Linear(), ATTACKS, search=search)
    found = run(Linear(), ATTACKS, search=search, loss=plain_loss)
    for name in ATTACKS:
        assert found[name].rows == own[name].rows
        assert found[name].info.cell_id != own[name].info.cell_id


def test_so_it_does_on_a_model_that_draws() -> None:
    attacks = [("pgd", {"n_iter": 3}), ("apgd", {"n_iter": 5})]
    more: dict[str, Any] = {"n_draws": 5, "batch_size": 30, "probe": False}
    more |= {"stochastic": True, "batch_dependent": False, "eot_iter": 2}
    own, found = (run(Noisy(), attacks, **more, **m) for m in ({}, {"loss": plain_loss}))
    assert own["pgd"].rows == found["pgd"].rows


def test_another_loss_is_really_climbed() -> None:
    def backwards(logits: Tensor, y: Tensor) -> Tensor:
        return -plain_loss(logits, y)

    found = run(Linear(), ["pgd", "natural"], loss=backwards)
    assert robust(found, "pgd") > EXPECTED + 0.3
    assert found["natural"].info.spec.adaptive is None


class Detector(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """How far the upper right quarter is from grey."""
        return (x[:, 0, :4, 4:].mean((1, 2)) - 0.5).abs()


class Upper(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Class 1 where the upper half is bright."""
        margin = 40 * (x[:, 0, :4].mean((1, 2)) - 0.5)
        return torch.stack([-margin, margin], 1)


class Guarded(nn.Module):
    """Where the detector fires, the lower half decides, which eps cannot change."""

    def __init__(self) -> None:
        super().__init__()
        self.upper, self.detector = Upper(), Detector()

    def forward(self, x: Tensor) -> Tensor:
        lower = 40 * (x[:, 0, 4:].mean((1, 2)) - 0.5)
        fired = self.detector(x) > 0.02
        return torch.where(fired[:, None], torch.stack([-lower, lower], 1), self.upper(x))


def past_the_detector(logits: Tensor, y: Tensor, outputs: dict[str, Tensor]) -> Tensor:
    return plain_loss(outputs["upper"], y) - 100 * F.relu(outputs["detector"] - 0.01)


past_the_detector.outputs = ("upper", "detector")  # type: ignore[attr-defined]


def guarded_images() -> tuple[Tensor, Tensor]:
    """The upper left quarter is 0.08 from grey, so that eps 0.1 there changes the class."""
    y = torch.arange(20) % 2
    side = (2 * y - 1).view(-1, 1, 1)
    x = torch.full((20, 1, 8, 8), 0.5)
    x[:, 0, :4, :4] += 0.08 * side
    x[:, 0, 4:] += 0.4 * side
    return x, y


def test_a_loss_of_intermediate_outputs_beats_a_detector() -> None:
    x, y = guarded_images()
    plain = evaluate(Guarded(), x, y, "linf:0.1", ["pgd", "apgd"], sentinel=False)
    assert plain.worst_case().value == 1, "each step in the direction of the loss is detected"
    found = evaluate(Guarded(), x, y, "linf:0.1", ["pgd"], loss=past_the_detector, sentinel=False)
    assert found.robust_accuracy("pgd").value == 0
    adaptive = found["pgd"].info.spec.adaptive
    assert adaptive is not None and adaptive.loss is not None
    assert (adaptive.loss.name, adaptive.loss.outputs) == (
        "past_the_detector",
        ("upper", "detector"),
    )


class Rounded(Guarded):
    """The same behind a quantizer: the loss needs the stand-in's layers too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * 100).round() / 100)


def test_both_together_take_the_layers_of_the_stand_in() -> None:
    x, y = guarded_images()
    found = evaluate(
        Rounded(),
        x,
        y,
        "linf:0.1",
        ["pgd"],
        gradient_model=Guarded(),
        loss=past_the_detector,
        sentinel=False,
    )
    assert found.robust_accuracy("pgd").value == 0
    with pytest.raises(UserError, match="expected a layer 'upper' in Linear, found none"):
        Oracle(Rounded(), x, 2, QueryRules(), aids=replace_loss(Aids(gradient_model=Linear())))


def replace_loss(aids: Aids) -> Aids:
    from bench.oracle import CustomLoss

    return replace(aids, loss=CustomLoss(past_the_detector, ("upper",)))


def mean_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y)


def without_gradient(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) != y).float()


def of_a_layer(logits: Tensor, y: Tensor, outputs: dict[str, Tensor]) -> Tensor:
    return outputs["nowhere"]


of_a_layer.outputs = ("nowhere",)  # type: ignore[attr-defined]


def undeclared(logits: Tensor, y: Tensor, outputs: dict[str, Tensor]) -> Tensor:
    return logits[:, 0]


class ThreeClasses(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), x.flatten(1)[:, :1]], 1)


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"gradient_model": "identity"}, "gradient_model: expected an nn.Module, found str"),
    ({"gradient_model": Quantized()}, "its gradient is zero on the first images"),
    ({"gradient_model": ThreeClasses()}, r"expected logits of shape \(2, 2\)"),
    ({"gradient_model": Linear(), "attacks": ["square", "natural"]}, "none of the attacks"),
    ({"gradient_model": Linear(), "model": Noisy(), "eot": "mean_field"}, "eot"),
    ({"loss": 3}, "loss: expected a function of logits"),
    ({"loss": mean_loss}, r"loss: expected one value for each image, shape \(2,\)"),
    ({"loss": without_gradient}, "loss: no gradient reaches the image"),
    ({"loss": of_a_layer}, "loss: expected a layer 'nowhere' in Quantized, found none"),
    ({"loss": undeclared}, r"loss.outputs = \('LAYER',\)"),
    ({"loss": plain_loss, "attacks": ["pgd", "autoattack"]}, r"attacks\[1\].attack: 'autoattack'"),
    ({"loss": plain_loss, "attacks": ["torchattacks:PGD"]}, "climbs losses of its own"),
    ({"loss": plain_loss, "attacks": [("pgd", {"loss": "dlr"})]}, "two losses, dlr"),
)


@pytest.mark.parametrize(("given", "expected"), REFUSED)
def test_what_has_no_meaning_is_refused(given: dict[str, Any], expected: str) -> None:
    model = given.get("model", Quantized())
    attacks = given.get("attacks", ["pgd"])
    more = {key: value for key, value in given.items() if key not in ("model", "attacks")}
    with pytest.raises(UserError, match=expected):
        run(model, attacks, **more)


def test_the_model_itself_is_no_stand_in() -> None:
    model = Linear()
    with pytest.raises(UserError, match="it is the model itself"):
        run(model, ["pgd"], gradient_model=model)


def test_what_an_attack_brings_is_in_its_identity_and_in_every_table() -> None:
    own = run(Quantized(), ["pgd", "square"])
    found = run(Quantized(), ["pgd", "square"], gradient_model=Linear())
    assert own["pgd"].info.cell_id != found["pgd"].info.cell_id
    assert own["square"].info.cell_id == found["square"].info.cell_id, "the same measurement"
    assert "adaptive" not in own["pgd"].info.spec.model_dump()
    other = Linear()
    other.w.data.mul_(2)
    again = run(Quantized(), ["pgd"], gradient_model=other)
    assert again["pgd"].info.cell_id != found["pgd"].info.cell_id
    for text in (repr(found), found._repr_markdown_()):
        assert text.count(" adaptive") >= 2 and "Linear (in memory)" in text and "BPDA" in text
    notes = found.table().loc[:, "notes"]
    assert "BPDA" in notes["pgd"] and "BPDA" in notes["worst case"] and notes["square"] == ""


def test_faults_of_the_models_gradients_are_no_alarm_where_a_stand_in_is_followed() -> None:
    own = run(Quantized(), ["pgd", "square"])
    assert any("probe_masked_gradient" in alarm for alarm in own["pgd"].info.alarms)
    found = run(Quantized(), ["pgd", "square"], gradient_model=Linear(), sentinel=True)
    assert found["pgd"].info.alarms == () and found["square"].info.alarms == ()
    # A stand-in that misleads is found out: an attack without gradients breaks more.
    wrong = Linear()
    wrong.w.data.neg_()
    alarms = run(Quantized(), ["pgd", "square"], gradient_model=wrong)["pgd"].info.alarms
    assert any("gradients of Linear" in a and "control_beats_gradient" in a for a in alarms)


def test_the_model_and_the_stand_in_come_back_as_they_were() -> None:
    model, stand_in = Quantized().train(), Linear().train()
    run(model, ["pgd"], gradient_model=stand_in, loss=plain_loss)
    assert model.training and stand_in.training
    assert stand_in.w.requires_grad and stand_in.w.grad is None
    assert not stand_in._forward_hooks
    spec = ModelSpec.model_validate(
        {
            "arch": "resnet20",
            "norm": "bn",
            "channels": 1,
            "size": 8,
            "classes": 2,
            "mean": [0.5],
            "std": [0.5],
        }
    )
    network = Classifier(spec, nn.Sequential(Upper()))

    def of_layer(logits: Tensor, y: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        return plain_loss(outputs["0"], y)

    of_layer.outputs = ["0"]  # type: ignore[attr-defined]
    x, y = guarded_images()
    found = evaluate(network, x, y, "linf:0.1", ["fgsm"], loss=of_layer, sentinel=False)
    assert found["fgsm"].info.complete and not network.net[0]._forward_hooks

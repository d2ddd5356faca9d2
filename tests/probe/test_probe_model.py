"""The probe against planted models with one known fault each, and against sound ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.attacks.base import Budget
from bench.cli.probe import probe_command
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.norm_spec import NormSpec
from bench.core.paths import Where
from bench.models import build_model
from bench.norms import RandomNormAggregation, find_paths, norm_factory
from bench.probe.findings import Finding, ProbeResult
from bench.probe.model import probe
from bench.verify import ModelGuard

CLASSES = 5


def images(b: int = 12) -> tuple[Tensor, Tensor]:
    """Images with black and white pixels, and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(b, 1, 8, 8, generator=generator) * 1.4 - 0.2
    return x.clamp(0, 1), torch.arange(b) % CLASSES


def conv(norm: nn.Module | None = None, *more: nn.Module) -> nn.Sequential:
    """A small trained-looking net: conv, norm, ReLU, linear."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3, 1, 1), norm or nn.Identity(), nn.ReLU(), *more]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, CLASSES))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


def look(model: nn.Module) -> ProbeResult:
    return probe(model, *images(), classes=CLASSES)


def codes(result: ProbeResult) -> set[str]:
    return {finding.code for finding in result.findings}


class Wrap(nn.Module):
    """A net with something before or after it."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda z: z,
        net: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net, self.before, self.after = net or conv(), before, after
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


# --- sound models ---------------------------------------------------------------------------


class TinyTransformer(nn.Module):
    """Patches, one encoder layer with torch's own attention, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 4, 4)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return torch.as_tensor(self.head(self.encoder(tokens).mean(1)))


class Auxiliary(nn.Module):
    """A second head that only training uses, as in GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.aux = conv(), nn.Linear(64, CLASSES)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x))


SOUND = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)).eval(),
    "batch norm on population statistics": lambda: conv(nn.BatchNorm2d(6)),
    "group norm": lambda: conv(nn.GroupNorm(2, 6)),
    "max pooling": lambda: conv(nn.BatchNorm2d(6), nn.MaxPool2d(2)),
    "transformer": TinyTransformer,
    "dropout in eval mode": lambda: conv(None, nn.Dropout(0.5)),
    "a large common offset": lambda: Wrap(after=lambda z: z + 100),
    "clipped input": lambda: Wrap(before=lambda x: x.clamp(0, 1)),
    "an auxiliary head": Auxiliary,
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_raise_nothing(name: str) -> None:
    torch.manual_seed(0)
    result = look(SOUND[name]())
    assert result.findings == ()
    assert (result.stochastic, result.batch_dependent, result.outputs) == (False, False, "logits")
    assert result.disagreement(stochastic=False, batch_dependent=False) == ""


# --- planted models -------------------------------------------------------------------------


class LabelNoise(nn.Module):
    """Right with a probability of 90 %, else a random class."""

    def forward(self, x: Tensor) -> Tensor:
        y = (x.flatten(1).mean(1) * 10).long() % CLASSES
        lie = torch.rand(len(x), device=x.device) < 0.1
        answer = torch.where(lie, torch.randint(CLASSES, (len(x),), device=x.device), y)
        return F.one_hot(answer, CLASSES).to(x) * 10 + 0 * x.flatten(1).sum(1, keepdim=True)


class HiddenDraws(nn.Module):
    """Draws noise and puts the global generator back: equal until something else draws."""

    def __init__(self) -> None:
        super().__init__()
        self.net = conv()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            return torch.as_tensor(self.net(x + 0.1 * torch.randn_like(x[:1])))


class NumpyPath(nn.Module):
    """Draws a branch inside forward from numpy's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([conv(nn.BatchNorm2d(6)), conv(nn.InstanceNorm2d(6))])
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.nets[np.random.randint(2)](x))


class History(nn.Module):
    """Answers according to the batch that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.before = conv(), torch.zeros(())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        shift, self.before = self.before, x.mean().detach()
        return torch.as_tensor(self.net(x + shift))


@pytest.mark.parametrize("model", [LabelNoise, HiddenDraws, NumpyPath])
def test_random_outputs_are_stochastic(model: type[nn.Module]) -> None:
    result = look(model().eval())
    assert result.stochastic
    assert not result.batch_dependent
    assert "unused_branches" not in codes(result)


class Cache(nn.Module):
    """Answers images near to one that it was asked before as it did then."""

    def __init__(self, reach: float) -> None:
        super().__init__()
        self.net, self.reach, self.known = conv(), reach, list[tuple[Tensor, Tensor]]()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        z = torch.as_tensor(self.net(x))
        for i, image in enumerate(x.detach()):
            for seen, answer in self.known:
                if seen.shape == image.shape and float((seen - image).abs().max()) < self.reach:
                    z = z.index_put((torch.tensor([i]),), answer[None].to(z))
                    break
            else:
                self.known.append((image, z[i].detach()))
        return z


class Counter(nn.Module):
    """Counts its passes in a plain attribute, as a spiking network that is not reset."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.count = conv(), 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return torch.as_tensor(self.net(x)) + 0.01 * self.count * torch.arange(CLASSES)


@pytest.mark.parametrize("make", [History, lambda: Cache(0.05), lambda: Cache(0.2), Counter])
def test_a_state_is_no_randomness(make: Callable[[], nn.Module]) -> None:
    result = look(make())
    assert result.stateful and not result.stochastic
    assert "stateful" in codes(result)


class OwnGenerator(nn.Module):
    """Draws from a generator of its own, which the global seeds do not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.draw = conv(), np.random.default_rng(0)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x + 0.1 * float(self.draw.standard_normal())))


class OffGridNoise(nn.Module):
    """Adds noise to images off the grid of 8 bits, and so to no clean one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = conv()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        off = ((x * 255 - (x * 255).round()).abs().flatten(1).amax(1) > 0.01).view(-1, 1, 1, 1)
        return torch.as_tensor(self.net(x + 0.1 * off * torch.randn_like(x)))


class LargeBatchNoise(nn.Module):
    """Adds noise in batches of more than 16 images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = conv()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x + 0.1 * (len(x) > 16) * torch.randn_like(x)))


@pytest.mark.parametrize("make", [OwnGenerator, OffGridNoise, LargeBatchNoise])
def test_noise_shows_wherever_it_comes_from_and_whenever_it_is_added(
    make: Callable[[], nn.Module],
) -> None:
    x, y = images()
    result = probe(make(), (x * 255).round() / 255, y, classes=CLASSES, batch_size=64)
    assert result.stochastic and not result.stateful


class RareOwnNoise(nn.Module):
    """Answers the first class in a tenth of the draws, from a generator of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net, self.draw = conv(), torch.Generator().manual_seed(seed)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        lie = torch.rand(len(x), 1, generator=self.draw) < 0.1
        first = 100 * F.one_hot(torch.zeros(len(x), dtype=torch.int64), CLASSES).to(x)
        return torch.where(lie, first, self.net(x))


@pytest.mark.parametrize("seed", range(8))
def test_passes_that_are_equal_by_chance_say_nothing_of_gradients(seed: int) -> None:
    x, y = images()
    budget = Budget("linf", (0.1,))
    result = probe(RareOwnNoise(seed), x, y, classes=CLASSES, seed=seed, budget=budget)
    assert result.stochastic and result.findings == ()


class GradLooker(nn.Module):
    """Answers otherwise when a gradient is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.net = conv()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x * 0.9 if x.requires_grad else x))


def test_a_model_that_answers_otherwise_when_a_gradient_is_wanted() -> None:
    assert "looks_at_grad" in codes(look(GradLooker()))


class Sine(nn.Module):
    """A ripple under the first layer: the gradient is exact, and useless."""

    def __init__(self) -> None:
        super().__init__()
        self.net = conv()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x + 0.01 * (2000 * x).sin()))


class CutGradient(nn.Module):
    """Has no gradient away from the clean images."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.net, self.clean = conv(), clean
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        gap = (x[:, None] - self.clean[None].to(x)).abs().flatten(2).amax(2).amin(1)
        far = (gap > 0.05).view(-1, 1, 1, 1)
        return torch.as_tensor(self.net(torch.where(far, x.detach(), x)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["sine", "cut"])
def test_gradients_that_mislead_inside_the_ball(kind: str, norm: str) -> None:
    x, y = images()
    model = Sine() if kind == "sine" else CutGradient(x)
    budget = Budget(norm, (0.2 if norm == "linf" else 1.5,))
    if norm == "l2" and kind == "cut":
        return  # no pixel of a random point there moves as far
    found = codes(probe(model, x, y, classes=CLASSES, budget=budget))
    assert "misleading_gradient" in found
    sound = probe(conv().eval(), x, y, classes=CLASSES, budget=budget)
    assert sound.findings == () and sound.misled_inside == 0.0


class Pooled(nn.Module):
    """A LeNet with max pooling, whose windows on a plain background hold ties."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            nn.Linear(54, CLASSES),
        )
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x))


def test_ties_of_max_pooling_on_a_plain_background_are_no_wrong_gradient() -> None:
    x, y = images()
    assert probe(Pooled(), torch.where(x > 0.8, x, 0.0), y, classes=CLASSES).findings == ()


class DarkIsFlat(nn.Module):
    """Sees only what is bright: on a dark image its gradient is zero, as that of a dead ReLU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.linear(F.relu(x - 0.5).flatten(1)))


@pytest.mark.parametrize(
    ("n", "n_dark", "warned"), [(2, 1, False), (4, 2, False), (12, 3, False), (12, 6, True)]
)
def test_one_flat_image_of_two_does_not_speak_against_a_network(
    n: int, n_dark: int, warned: bool
) -> None:
    x, y = images()
    x = torch.where(torch.arange(12).view(-1, 1, 1, 1) < n_dark, 0.1 * x, x)
    result = probe(DarkIsFlat(), x[:n], y[:n], classes=CLASSES, budget=Budget("linf", (0.05,)))
    assert result.zero_gradient == n_dark / n
    assert bool({"zero_gradient", "masked_gradient"} & codes(result)) is warned


class RareLie(nn.Module):
    """Seldom swaps its logits, so that on some images no draw of the probe ever does."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(784, 10)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x.flatten(1))
        return torch.where(torch.rand(len(x), 1, device=x.device) >= 0.9, z.roll(1, 1), z)


@pytest.mark.parametrize("seed", [0, 500, 1900])
def test_draws_that_a_probe_never_saw_are_no_effect_of_the_batch(seed: int) -> None:
    """With these seeds rounding, or chance, told an image in one batch from itself in another."""
    torch.manual_seed(0)
    model, x = RareLie(), torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    result = probe(model, x, torch.zeros(16, dtype=torch.int64), classes=10, seed=seed)
    assert result.stochastic and not result.batch_dependent


class OutsidePath(nn.Module):
    """The RNA authors' way: a setter draws the branch, forward only follows."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_list = ["bn", "in", "gn"]
        self.norm = nn.ModuleList([nn.BatchNorm2d(6), nn.InstanceNorm2d(6), nn.GroupNorm(2, 6)])
        self.norm_type = "bn"

    def set_norms_mixed(self) -> None:
        self.norm_type = str(np.random.choice(self.norm_list))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.norm[self.norm_list.index(self.norm_type)](x))


class PlainChildren(nn.Module):
    """The same with children that are no list."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_clean, self.bn_adv = nn.BatchNorm2d(6), nn.GroupNorm(2, 6)
        self.which = "clean"

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.bn_clean(x) if self.which == "clean" else self.bn_adv(x))


@pytest.mark.parametrize(
    ("layer", "idle"),
    [(OutsidePath, ("1.norm.1", "1.norm.2")), (PlainChildren, ("1.bn_adv",))],
)
def test_a_path_set_outside_forward_shows_by_its_idle_branches(
    layer: type[nn.Module], idle: tuple[str, ...]
) -> None:
    result = look(conv(layer()))
    assert not result.stochastic  # that is the trap
    assert result.unused_branches == idle
    assert codes(result) == {"unused_branches"}


def test_branches_that_are_alike_are_no_hidden_choice() -> None:
    layer = OutsidePath()
    layer.norm = nn.ModuleList([nn.GroupNorm(2, 6), nn.GroupNorm(2, 6)])
    assert look(conv(layer)).findings == ()


class OnBatch(nn.Module):
    """Batch normalization on the statistics of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True)


class ByPlace(nn.Module):
    """Adds something that depends on the place in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.linspace(0, 1, len(x), device=x.device, dtype=x.dtype).view(-1, 1, 1, 1)


class NoisyOnBatch(nn.Module):
    """Both at once."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True) + 0.05 * torch.randn_like(x)


@pytest.mark.parametrize(
    ("norm", "stochastic"),
    [(OnBatch, False), (ByPlace, False), (NoisyOnBatch, True)],
)
def test_batch_dependence(norm: type[nn.Module], stochastic: bool) -> None:
    result = look(conv(norm()))
    assert (result.stochastic, result.batch_dependent) == (stochastic, True)
    assert result.findings == ()


def test_noise_that_ignores_the_batch_is_per_sample() -> None:
    result = look(Wrap(before=lambda x: x + 0.1 * torch.randn_like(x)))
    assert (result.stochastic, result.batch_dependent) == (True, False)


def test_a_model_of_one_batch_size() -> None:
    result = look(Wrap(before=lambda x: x.reshape(12, 1, 8, 8)))
    assert result.batch_dependent
    assert codes(result) == {"batch_size"}


@pytest.mark.parametrize("stats", ["population", "batch"])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_random_norm_aggregation(stats: str, per: str) -> None:
    pool = [{"name": "bn", "stats": stats}, {"name": "in"}, {"name": "gn", "groups": 2}]
    spec = NormSpec.model_validate({"name": "rna", "pool": pool, "per": per})
    make = norm_factory(spec)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        make(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        make(6),
        nn.Flatten(),
        nn.Linear(96, CLASSES),
    ).eval()
    result = look(model)
    assert (result.stochastic, result.batch_dependent) == (spec.stochastic, spec.batch_dependent)
    assert result.findings == ()
    assert any(isinstance(m, RandomNormAggregation) for m in model) and find_paths(model)


@pytest.mark.parametrize(
    ("norm", "batch_dependent"),
    [("fixup", False), ("rn", True)],
)
def test_untrained_networks_of_this_project(norm: str, batch_dependent: bool) -> None:
    spec = ModelSpec(
        arch="resnet20", norm=NormSpec(name=norm), channels=1, size=8, classes=CLASSES,
        mean=(0.3,), std=(0.3,),
    )  # fmt: skip
    model = build_model(spec).eval()
    if norm == "fixup":  # its last layer starts at zero, and says nothing of any image
        nn.init.normal_(model.net.fc.weight)  # type: ignore[union-attr, arg-type]
    result = look(model)
    assert result.batch_dependent == batch_dependent
    assert result.findings == ()


class Detached(nn.Module):
    """Sees a copy that autograd cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class HalfDetached(nn.Module):
    """Most of the signal takes a way that autograd cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.1 * x + 0.9 * x.detach()


class Quantized(nn.Module):
    """Activations of a few levels."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 8).round() / 8


class StraightThrough(nn.Module):
    """Quantized, with the identity as its backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return x + ((x * 8).round() / 8 - x).detach()


class Purify(nn.Module):
    """Moves the image down a gradient before it is classified."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            (step,) = torch.autograd.grad((inner - 0.5).square().sum(), inner)
        return x - 0.3 * step


class RootOfZero(nn.Module):
    """The length of each image, by a root whose slope at zero is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x * 0).square().sum((1, 2, 3), keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (Detached, {"detached_gradient"}),
        (HalfDetached, {"wrong_gradient"}),
        (Quantized, {"masked_gradient"}),
        (StraightThrough, {"wrong_gradient"}),
        (Purify, {"autograd_inside", "wrong_gradient"}),
        (RootOfZero, {"nonfinite_gradient"}),
    ],
)
def test_broken_gradients(before: type[nn.Module], found: set[str]) -> None:
    result = look(Wrap(before=before()))
    assert codes(result) == found
    assert (result.stochastic, result.batch_dependent) == (False, False)


def test_a_nan_that_only_black_pixels_have() -> None:
    result = look(Wrap(before=lambda x: x.sqrt().square()))  # 0 / 0 in the chain at x = 0
    assert result.nonfinite_gradient == 1
    assert "nonfinite_gradient" in codes(result)


def test_saturated_logits() -> None:
    result = look(Wrap(after=lambda z: 1000 * (z - z.mean(1, keepdim=True))))
    assert codes(result) == {"saturated_logits"}


def test_probabilities_and_their_logarithms() -> None:
    assert codes(look(Wrap(after=lambda z: z.softmax(1)))) == {"probabilities"}
    logs = look(Wrap(after=lambda z: z.log_softmax(1)))
    assert logs.outputs == "log_probabilities"
    assert [finding.severity for finding in logs.findings] == ["note"]


def test_dropout_left_in_train_mode() -> None:
    model = conv(nn.BatchNorm2d(6), nn.Dropout(0.5))
    model[3].train()
    result = look(model)
    assert result.train_mode == ("3",)
    assert codes(result) == {"train_mode"}
    assert result.stochastic
    assert model[3].training  # the probe looks, it does not repair


def test_batch_norm_left_in_train_mode() -> None:
    model = conv(nn.BatchNorm2d(6))
    model[1].train()
    before = model[1].running_mean.clone()  # type: ignore[union-attr, operator]
    result = look(model)
    assert codes(result) == {"train_mode", "state_changes"}
    assert result.batch_dependent
    assert torch.equal(model[1].running_mean, before)  # type: ignore[arg-type]


class Counter(nn.Module):
    """Counts its passes in a buffer: in place, or by a new tensor."""

    def __init__(self, replaced: bool) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.replaced = replaced

    def forward(self, x: Tensor) -> Tensor:
        if self.replaced:
            self.count = self.count + 1
        else:
            self.count += 1
        return x


@pytest.mark.parametrize("replaced", [False, True])
def test_a_forward_pass_that_counts(replaced: bool) -> None:
    model = conv(Counter(replaced))
    result = look(model)
    assert codes(result) == {"state_changes"}
    assert result.state_changes == ("values of 1.count",)
    assert float(model[1].count) == 0  # type: ignore[arg-type]


def test_the_guard_puts_a_replaced_buffer_back() -> None:
    model = nn.Sequential(Counter(replaced=True)).eval()
    guard, before = ModelGuard(model), model[0].count
    model(torch.zeros(1, 1, 1, 1))
    assert guard.changes() == ["values of 0.count"]
    assert model[0].count is before
    assert guard.changes() == []


@pytest.mark.filterwarnings("ignore")  # torch deprecates what checkpoints of others still are
def test_the_guard_takes_torchscript() -> None:
    model = torch.jit.script(conv(nn.BatchNorm2d(6)))
    guard = ModelGuard(model)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert guard.changes() == ["values of 0.weight"]
    assert guard.changes() == []


def test_nan_logits() -> None:
    result = look(Wrap(after=lambda z: torch.where(z > z.mean(), z, torch.nan)))
    assert "nonfinite_logits" in codes(result)


# --- the contract ---------------------------------------------------------------------------


def test_disagreement_holds_both_sides() -> None:
    message = look(conv(OnBatch())).disagreement(stochastic=True, batch_dependent=False)
    assert "declared stochastic and per-sample" in message
    assert "found it deterministic and batch-dependent" in message


def test_the_probe_leaves_no_trace() -> None:
    model = conv(nn.BatchNorm2d(6)).requires_grad_(False)
    guard = ModelGuard(model)
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    first = look(model)
    assert (torch.rand(1), np.random.rand()) == expected
    assert guard.changes() == []
    assert not any(module._forward_hooks for module in model.modules())
    assert look(model) == first
    assert ProbeResult.model_validate_json(first.model_dump_json()) == first


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(63, CLASSES)), "fails on a batch of shape"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), r"expected logits of shape \(12, 5\)"),
    ],
)
def test_what_is_no_classifier_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        look(model)


def test_one_image_is_too_few() -> None:
    x, y = images(1)
    with pytest.raises(UserError, match="at least 2 images"):
        probe(conv(), x, y, classes=CLASSES)


# --- the command ----------------------------------------------------------------------------


SOUND_RESULT = ProbeResult(
    n_images=16, clean_accuracy=0.9, stochastic=False, noise=0.0, batch_dependent=False,
    batch_effect=0.0, outputs="logits", logit_scale=10.0, nonfinite_gradient=0.0,
    zero_gradient=0.0, masked_gradient=0.0, saturated=0.0,
)  # fmt: skip
GRAVE = Finding(code="masked_gradient", severity="error", text="attacks are blind [here]")
NOTE = Finding(code="log_probabilities", severity="note", text="fine")


def command(monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[int, str]:
    """Runs the command on a shipped checkpoint with a planted result."""
    result = SOUND_RESULT.model_copy(update=changes)
    monkeypatch.setattr("bench.probe.model.probe", lambda model, x, y, *, classes: result)
    shipped = Path(__file__).parents[2] / "checkpoints"
    console = Console(record=True, width=200, file=io.StringIO())
    code = probe_command(console, "fmnist-resnet20-bn", Where(shipped))
    return code, console.export_text()


@pytest.mark.parametrize(("findings", "code"), [((), 0), ((NOTE,), 0), ((GRAVE, NOTE), 1)])
def test_the_command_says_what_was_found(
    monkeypatch: pytest.MonkeyPatch, findings: tuple[Finding, ...], code: int
) -> None:
    got, text = command(monkeypatch, findings=findings)
    assert got == code
    assert all(f"{f.severity} {f.code}: {f.text}" in text for f in findings)
    assert ("nothing to object to" in text) == (not findings)


def test_the_command_stops_on_a_wrong_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="fmnist-resnet20-bn: the model is declared determ"):
        command(monkeypatch, batch_dependent=True, batch_effect=0.8)

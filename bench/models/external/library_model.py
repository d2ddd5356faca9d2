"""A network of another library as a classifier of images in [0, 1], and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bench.core.checkpoint import ModelFacts
from bench.core.errors import UserError, one_line, place_of
from bench.core.model_spec import ClassifierSpec, Size, height_width, size_text
from bench.core.model_uri import ModelUri
from bench.core.norm_spec import NormSpec
from bench.core.spec import canonical_json
from bench.models.build import Classifier
from bench.models.fitted import TWO_LOGITS, fitted
from bench.models.network_hash import hash_beside, hash_outside, network_hash
from bench.norms import (
    batch_norms,
    find_paths,
    settle,
    shares_statistics,
    use_batch_statistics,
    weights_seeded,
)
from bench.untrusted.spec_file import check_spec

RANDOM = "none: random weights of seed 0"
"""``training`` of a network with random weights."""


@dataclass(frozen=True)
class Declared:
    """Properties of a network as declared by a library, a callable or a URI.

    Attributes:
        arch: The network's name there.
        channels: Input channels.
        size: Input height and width, as one number where they are equal.
        classes: Number of classes.
        mean: Subtracted from images in [0, 1], per channel.
        std: Divides them then, per channel.
        dataset: What it was trained on; empty if unknown.
        training: How, in a few words.
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
        code: Hash of its code, if the weights do not determine the network.
        identity: A text that its author vouches for: it changes whenever the weights do.
        std_known: Whether ``std`` is all of its input normalization.
    """

    arch: str
    channels: int
    size: Size
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dataset: str = ""
    training: str = ""
    stochastic: bool = False
    batch_dependent: bool = False
    code: str = ""
    identity: str = ""
    std_known: bool = True


_FACTS: dict[str, ModelFacts] = {}
"""Cache of this process, by URI: to hash a network, it must be built and loaded."""


@dataclass(frozen=True)
class LibraryModel:
    """A model of another library.

    Attributes:
        uri: Its URI.
        build: Returns the network with its weights, and its declared properties.
    """

    uri: ModelUri
    build: Callable[[], tuple[nn.Module, Declared]]

    def facts(self) -> ModelFacts:
        """Returns what is known of the model; builds and loads it once per process."""
        if self.uri.text not in _FACTS:
            self._open()
        return _FACTS[self.uri.text]

    def load(self, stats: str | None = None) -> Classifier:
        """Builds and loads the model, in eval mode."""
        net, facts = self._open()
        spec = facts.spec
        if stats is not None and stats != spec.norm.inference_stats:
            try:
                norm = spec.norm.with_stats(stats)
            except UserError as error:
                raise UserError(f"{self.uri.text}: {error}") from None
            spec = spec.model_copy(update={"norm": norm})
            use_batch_statistics(net)  # population statistics are what the network came with
        return _in_eval_mode(Classifier(spec, net))

    def _open(self) -> tuple[nn.Module, ModelFacts]:
        net, declared = self.build()
        net = net.cpu()
        settle(net)
        fields = ("arch", "channels", "size", "classes", "mean", "std")
        values = {name: getattr(declared, name) for name in fields}
        values["norm"] = _norm(net, declared)
        spec = check_spec(values, ClassifierSpec, self.uri.text)
        sha256 = _identity(self.uri.text, net, spec, declared)  # before a pass leaves its traces
        net = _check_logits(self.uri.text, spec, net)
        facts = ModelFacts.of(
            sha256=sha256,
            spec=spec,
            dataset=declared.dataset,
            training=declared.training,
            std_known=declared.std_known,
        )
        _FACTS[self.uri.text] = facts
        return net, facts


def _in_eval_mode(model: Classifier) -> Classifier:
    """Marks a model as in eval mode; its layers stay as they are, as Monte Carlo dropout must."""
    model.training = False
    return model


def _norm(net: nn.Module, declared: Declared) -> NormSpec:
    """Returns a norm that describes a network's layers and its declared properties."""
    layers = batch_norms(net)
    fixed = shares_statistics(net) or any(layer.running_mean is None for layer in layers)
    stochastic = declared.stochastic or find_paths(net) is not None
    said = ["stochastic"] * stochastic
    said += ["batch-dependent"] * (declared.batch_dependent or fixed)
    chooses = any(isinstance(layer, nn.BatchNorm2d) for layer in layers) and not fixed
    name = "bn" if chooses else "foreign"
    return NormSpec.model_validate({"name": name, "declares": tuple(said)})


def _check_logits(uri: str, spec: ClassifierSpec, net: nn.Module) -> nn.Module:
    """Returns a network as one of float32 images in any number (``bench.models.fitted``).

    Raises:
        UserError: Unless it maps images of its size to finite logits.
    """
    x = torch.full((2, spec.channels, *height_width(spec.size)), 0.5)
    images = f"images of {spec.channels} x {size_text(spec.size)}"
    try:
        # A stochastic network draws from the same global generator.
        with torch.no_grad(), weights_seeded(0):
            net = fitted(net, Classifier(spec, nn.Identity())(x[:1]))
            z = _in_eval_mode(Classifier(spec, net))(x)
    except Exception as error:  # foreign code can raise anything
        raise UserError(f"{uri}: fails on {images}: {one_line(error)}{place_of(error)}") from None
    if not isinstance(z, Tensor):
        raise UserError(f"{uri}: expected logits as a tensor, found {type(z).__name__}")
    if z.shape != (2, spec.classes):
        way_out = f"; {TWO_LOGITS}" * (z.shape in ((2,), (2, 1)))
        raise UserError(
            f"{uri}: expected logits of shape (2, {spec.classes}) from 2 {images}, found "
            f"{tuple(z.shape)}{way_out}"
        )
    if not z.isfinite().all():
        raise UserError(f"{uri}: its logits are NaN or infinite on {images}")
    return net


def _identity(uri: str, net: nn.Module, spec: ClassifierSpec, declared: Declared) -> str:
    """Returns the sha256 of weights, input normalization and declared properties.

    Raises:
        UserError: When no tensor can be reached, and its author does not vouch for it either.
    """
    state = _state(f"{uri} {declared.code}", net)
    if state is None and not declared.identity:
        raise UserError(
            f"{uri}: no tensor of the network can be reached, so rows of other weights could be "
            "taken for its own; vouch for them with a text that changes whenever the weights do: "
            "identity=TEXT in the URI, identity: TEXT in the suite, or declares['identity']"
        )
    said = {
        **spec.model_dump(mode="json", exclude={"norm"}),
        "declares": spec.norm.declares,
        "state": state or "",
        "random": declared.training == RANDOM,
        "code": declared.code,
        **({"identity": declared.identity} if declared.identity else {}),
    }
    return hashlib.sha256(canonical_json(said).encode()).hexdigest()


_OUTSIDE: dict[str, str] = {}
"""Hashes of tensors in classes and globals, by URI and code: passes may change them."""
_BESIDE: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()
"""What networks held when they were new; a callable may return one again after passes."""


def _state(key: str, net: nn.Module) -> str | None:
    if net not in _BESIDE:
        if key not in _OUTSIDE:
            _OUTSIDE[key] = hash_outside(net)
        _BESIDE[net] = hash_beside(net, _OUTSIDE[key])
    return network_hash(net, _BESIDE[net])


def spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Returns one value per channel; for another number of channels, the average of the values."""
    values = tuple(map(float, values))
    return values if len(values) == channels else (sum(values) / len(values),) * channels

"""A network of another library as a classifier of images in [0, 1], and what identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.errors import UserError, one_line
from bench.core.model_spec import ClassifierSpec
from bench.core.model_uri import ModelUri
from bench.core.norm_spec import NormSpec
from bench.core.spec import canonical_json
from bench.models.build import Classifier
from bench.models.external.guarded import place_of
from bench.models.external.scheme import ModelFacts
from bench.norms import (
    batch_norms,
    find_paths,
    shares_statistics,
    use_batch_statistics,
    weights_seeded,
)
from bench.untrusted.spec_file import check_spec

RANDOM = "none: random weights of seed 0"
"""The training of a network that was asked for without weights."""


@dataclass(frozen=True)
class Declared:
    """What a library, a callable or a URI says of a network.

    Attributes:
        arch: The network's name there.
        channels: Of its input.
        size: Height and width of its input.
        classes: Number of classes.
        mean: What is to be subtracted from images in [0, 1], per channel.
        std: What they are then to be divided by.
        dataset: What it was trained on; empty where that is not known.
        training: How, in a few words.
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
        code: Hash of its code, where weights alone say too little.
        std_known: Whether ``std`` is all of its input normalization.
    """

    arch: str
    channels: int
    size: int
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dataset: str = ""
    training: str = ""
    stochastic: bool = False
    batch_dependent: bool = False
    code: str = ""
    std_known: bool = True


_FACTS: dict[str, ModelFacts] = {}
"""What was found out in this process, by URI: hashing takes a network, built and loaded."""


@dataclass(frozen=True)
class Foreign:
    """A model of another library.

    Attributes:
        uri: Its own.
        build: Returns the network with its weights, and what is known of it.
    """

    uri: ModelUri
    build: Callable[[], tuple[nn.Module, Declared]]

    def facts(self) -> ModelFacts:
        """Returns what it is; builds and loads it once in a process."""
        if self.uri.text not in _FACTS:
            self._open()
        return _FACTS[self.uri.text]

    def load(self, stats: str | None = None) -> Classifier:
        """Builds and loads it, in eval mode."""
        net, facts = self._open()
        spec = facts.spec
        if stats is not None and stats != spec.norm.inference_stats:
            try:
                norm = spec.norm.with_stats(stats)
            except UserError as error:
                raise UserError(f"{self.uri.text}: {error}") from None
            spec = spec.model_copy(update={"norm": norm})
            use_batch_statistics(net)  # the other choice is how the network came
        return Classifier(spec, net).eval()

    def _open(self) -> tuple[nn.Module, ModelFacts]:
        net, declared = self.build()
        net = net.eval().cpu()
        fields = ("arch", "channels", "size", "classes", "mean", "std")
        values = {name: getattr(declared, name) for name in fields}
        values["norm"] = _norm(net, declared)
        spec = check_spec(values, ClassifierSpec, self.uri.text)
        _check_logits(self.uri.text, Classifier(spec, net).eval())
        facts = ModelFacts(
            sha256=_identity(net, spec, declared),
            spec=spec,
            dataset=declared.dataset,
            training=declared.training,
            std_known=declared.std_known,
        )
        _FACTS[self.uri.text] = facts
        return net, facts


def _norm(net: nn.Module, declared: Declared) -> NormSpec:
    """Returns a norm that says what a network's layers do, and what it is declared to be."""
    layers = batch_norms(net)
    fixed = shares_statistics(net) or any(layer.running_mean is None for layer in layers)
    stochastic = declared.stochastic or find_paths(net) is not None
    said = ["stochastic"] * stochastic
    said += ["batch-dependent"] * (declared.batch_dependent or fixed)
    chooses = any(isinstance(layer, nn.BatchNorm2d) for layer in layers) and not fixed
    name = "bn" if chooses else "foreign"
    return NormSpec.model_validate({"name": name, "declares": tuple(said)})


def _check_logits(uri: str, model: Classifier) -> None:
    """Raises ``UserError`` unless a model takes its images, and gives each its logits."""
    spec = model.spec
    x = torch.full((2, spec.channels, spec.size, spec.size), 0.5)
    images = f"images of {spec.channels} x {spec.size} x {spec.size}"
    try:
        # What a stochastic network draws comes from the generator that weights come from.
        with torch.no_grad(), weights_seeded(0):
            z = model(x)
    except Exception as error:  # foreign code: whatever it raises is its failure
        raise UserError(f"{uri}: fails on {images}: {one_line(error)}{place_of(error)}") from None
    if not isinstance(z, Tensor):
        raise UserError(f"{uri}: expected logits as a tensor, found {type(z).__name__}")
    if z.shape != (2, spec.classes):
        raise UserError(
            f"{uri}: expected logits of shape (2, {spec.classes}) from 2 {images}, found "
            f"{tuple(z.shape)}"
        )
    if not z.isfinite().all():
        raise UserError(f"{uri}: its logits are NaN or infinite on {images}")


def _identity(net: nn.Module, spec: ClassifierSpec, declared: Declared) -> str:
    """Returns the sha256 of weights, of how images are prepared, and of what is declared."""
    said = {
        **spec.model_dump(mode="json", exclude={"norm"}),
        "declares": spec.norm.declares,
        "state": hash_tensors({**dict(net.named_buffers()), **net.state_dict()}),
        "random": declared.training == RANDOM,
        "code": declared.code,
    }
    return hashlib.sha256(canonical_json(said).encode()).hexdigest()


def hash_tensors(tensors: Mapping[str, Any]) -> str:
    """Returns the sha256 of tensors: names, types, shapes and values; other values are left out."""
    hasher = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            hasher.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode() + b"\n")
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            hasher.update(raw.numpy().data)
    return hasher.hexdigest()


def spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Returns one value a channel; another number of channels gets the average."""
    values = tuple(map(float, values))
    return values if len(values) == channels else (sum(values) / len(values),) * channels

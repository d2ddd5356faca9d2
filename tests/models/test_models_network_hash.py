"""Every tensor that a network reaches is part of its hash, and nothing else that varies is."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from bench.models.network_hash import hash_tensors, network_hash
from bench.norms import weights_seeded

LOADED = {"weight": torch.ones(3)}
"""A global that ``Global`` names."""


class Base(nn.Module):
    """A network with one parameter, which is alike in all."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.ones(2))


class PlainAttribute(Base):
    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = w


class Member:
    """A plain object around a tensor."""

    __slots__ = ("w",)

    def __init__(self, w: Tensor) -> None:
        self.w = w


class Global(Base):
    def __init__(self, w: Tensor) -> None:
        super().__init__()
        LOADED["weight"] = w

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return scaled(x)


def scaled(x: Tensor) -> Tensor:
    return x * LOADED["weight"]


def attribute(value: Callable[[Tensor], object]) -> Callable[[Tensor], nn.Module]:
    """Makes networks with an attribute that is made of their weights."""

    def make(w: Tensor) -> nn.Module:
        net = Base()
        vars(net)["held"] = value(w)
        return net

    return make


def linear(w: Tensor) -> nn.Linear:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(w.expand(3, 3))
        layer.bias.zero_()
    return layer


def class_attribute(w: Tensor) -> nn.Module:
    return type("Own", (Base,), {"held": w, "__module__": __name__})()


def quantized(w: Tensor) -> nn.Module:
    net = nn.Sequential(linear(w), nn.ReLU())
    return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, torch.qint8)


def quantized_convolution(w: Tensor) -> nn.Module:
    from torch.ao.nn.quantized import Conv2d

    layer = Conv2d(1, 3, 1)
    values = torch.quantize_per_tensor(w.view(3, 1, 1, 1), 0.1, 0, torch.qint8)
    layer.set_weight_bias(values, torch.zeros(3))
    return layer


def frozen_script(w: Tensor) -> nn.Module:
    net = nn.Sequential(linear(w), nn.ReLU()).eval()
    return torch.jit.freeze(torch.jit.script(net))


def traced_with_a_constant(w: Tensor) -> nn.Module:
    net = PlainAttribute(w)
    vars(net)["forward"] = lambda x: x * net.w
    return torch.jit.trace(net, torch.ones(3))


class InitOnly(nn.Module):
    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.register_buffer("w", w, persistent=False)


KEPT: dict[str, Callable[[Tensor], nn.Module]] = {
    "a plain attribute": PlainAttribute,
    "a list": attribute(lambda w: [w]),
    "a dict of tuples": attribute(lambda w: {"a": (1, w), 3: "b"}),
    "a set": attribute(lambda w: {w}),
    "modules in a list": attribute(lambda w: [linear(w), linear(w)]),
    "modules in a dict": attribute(lambda w: {"first": linear(w)}),
    "an object with slots": attribute(Member),
    "an array": attribute(lambda w: w.numpy()),
    "an array of objects": attribute(lambda w: np.array([w.numpy(), None], dtype=object)),
    "bytes": attribute(lambda w: w.numpy().tobytes()),
    "a closure": attribute(lambda w: lambda x: x * w),
    "a default": attribute(lambda w: lambda x, w=w: x * w),
    "a partial": attribute(lambda w: functools.partial(torch.mul, w)),
    "a method of another network": attribute(lambda w: linear(w).forward),
    "a class": class_attribute,
    "a global": Global,
    "a buffer that is not saved": InitOnly,
    "packed int8 weights": quantized,
    "a packed convolution": quantized_convolution,
    "a frozen TorchScript network": frozen_script,
    "a constant of a trace": traced_with_a_constant,
    "float16": attribute(lambda w: w.half()),
    "bfloat16": attribute(lambda w: w.bfloat16()),
    "sparse": attribute(lambda w: w.to_sparse()),
    "complex": attribute(lambda w: (w * 1j).conj()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", KEPT)
def test_weights_count_wherever_they_are_kept(where: str) -> None:
    """The last of three weights is another one, and only that."""
    make = KEPT[where]
    with weights_seeded(0):
        first = network_hash(make(torch.tensor([1.0, 2.0, 3.0])))
        again = network_hash(make(torch.tensor([1.0, 2.0, 3.0])))
        other = network_hash(make(torch.tensor([1.0, 2.0, 4.0])))
    assert first is not None and first == again
    assert other != first


def test_scales_of_quantized_weights_count() -> None:
    values = torch.tensor([1.0, 2.0])
    hashes = {
        hash_tensors({"w": torch.quantize_per_tensor(values * s, 0.1 * s, 0, torch.qint8)})
        for s in (1, 2)
    }
    channels = torch.zeros(2, dtype=torch.int64)
    for scales in ([0.1, 0.1], [0.1, 0.2]):
        w = torch.quantize_per_channel(
            values.view(2, 1), torch.tensor(scales), channels, 0, torch.qint8
        )
        hashes.add(hash_tensors({"w": w}))
    assert len(hashes) == 4


def test_a_network_that_keeps_all_in_its_state_dict_has_the_hash_of_that() -> None:
    """So identities from before stay valid; a weight norm's product is no tensor of its own."""
    old = getattr(nn.utils, "weight_norm")  # noqa: B009  # deprecated, and found in the wild
    with pytest.warns(FutureWarning):
        computed = old(nn.Linear(3, 3))
    for net in (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        nn.LSTM(2, 3),
        weight_norm(nn.Linear(3, 3)),
        computed,
        nn.Sequential(linear(torch.ones(3)), nn.Dropout()),
    ):
        entries = {**dict(net.named_buffers()), **net.state_dict()}
        assert network_hash(net) == hash_tensors(entries)


def test_what_varies_without_the_weights_does_not_count() -> None:
    net = PlainAttribute(torch.ones(3))
    before = network_hash(net)
    vars(net).update(name="other", number=3.5, when=object(), training=False)
    net.register_forward_hook(lambda *_: None)
    vars(net)["itself"] = [net]
    assert network_hash(net) == before


def test_nothing_that_can_be_reached_has_no_hash() -> None:
    assert network_hash(nn.Sequential(nn.ReLU(), nn.Flatten())) is None


@pytest.mark.process
def test_the_hash_is_the_same_in_another_process(tmp_path: Path) -> None:
    """Names in TorchScript, the order of sets and hashes of texts differ between processes."""
    (tmp_path / "shown.py").write_text(
        textwrap.dedent(
            f"""
            import sys, torch
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import test_models_network_hash as t
            for _ in range(int(sys.argv[1])):  # moves the numbers in TorchScript's names
                t.frozen_script(torch.ones(3)), t.traced_with_a_constant(torch.ones(3))
            w = torch.tensor([1.0, 2.0, 3.0])
            many = t.attribute(lambda w: {{w, w + 1, w + 2, w + 3}})
            for make in (*t.KEPT.values(), many):
                with t.weights_seeded(0):
                    print(t.network_hash(make(w)))
            """
        )
    )
    found = [
        subprocess.run(
            [sys.executable, "-W", "ignore", str(tmp_path / "shown.py"), str(n)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in (0, 2)
    ]
    assert found[0] == found[1] and len(found[0].split()) == len(KEPT) + 1

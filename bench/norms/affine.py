"""Norms that only scale and shift each channel at inference, and models with them folded in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.norms.batch import BatchGroupNorm, BatchNorm
from bench.norms.plain import FixupScale, NoNorm
from bench.norms.robust import RobustNorm


def inference_affine(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Returns scale and shift of a layer in eval mode, (c,) or (1,); ``None`` where it does more.

    Known are PyTorch's ``BatchNorm2d`` with tracked statistics, and this project's norms on
    population statistics, as well as what stands for none and Fixup's scalars.
    """
    if norm.training:
        return None
    if isinstance(norm, NoNorm):
        return torch.ones_like(norm.bias), norm.bias
    if isinstance(norm, FixupScale):
        return norm.scale, norm.bias
    if isinstance(norm, RobustNorm) and norm.stats == "population":
        return _centred(norm.running_mean, norm.weight / _range(norm), norm.bias)
    if isinstance(norm, BatchGroupNorm) and norm.stats == "population":
        size = len(norm.weight) // norm.groups
        mean, var = (b.repeat_interleave(size) for b in (norm.running_mean, norm.running_var))
        return _centred(mean, norm.weight / (var + norm.eps).sqrt(), norm.bias)
    if type(norm) in (BatchNorm, nn.BatchNorm2d) and getattr(norm, "stats", "population") == (
        "population"
    ):
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.running_mean is None or norm.running_var is None:
            return None
        scale = (norm.running_var + norm.eps).rsqrt()
        weight, bias = norm.weight, norm.bias
        scale = scale if weight is None else weight * scale
        return _centred(norm.running_mean, scale, torch.zeros_like(scale) if bias is None else bias)
    return None


def fold(model: nn.Module, x: Tensor) -> int:
    """Folds norms into the convolutions before them, in place; returns how many.

    Which norm stands behind which convolution is seen by passing images through the model. The
    caller compares the logits before and after: a convolution whose output goes elsewhere too
    must not be folded, and shows there.

    Args:
        model: In eval mode, with parameters that want no gradient.
        x: A few images (b, c, h, w).
    """
    pairs = _pairs(model, x)
    names = {module: name for name, module in model.named_modules()}
    for conv, norm in pairs:
        found = inference_affine(norm)
        assert found is not None
        scale, shift = found
        conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
        before = 0 if conv.bias is None else conv.bias * scale
        shift = (shift + before).expand(conv.out_channels).clone()
        conv.bias = nn.Parameter(shift, requires_grad=False)
        parent, _, own = names[norm].rpartition(".")
        setattr(model.get_submodule(parent), own, nn.Identity())
    return len(pairs)


def folds(twin: nn.Module, model: nn.Module, x: Tensor, tolerance: float = 1e-3) -> bool:
    """Folds the norms of a model's copy; says whether there were any and the logits stayed.

    Args:
        twin: The copy, which is changed.
        model: What it is a copy of, in eval mode.
        x: A few images (b, c, h, w), on which both must agree.
        tolerance: Largest difference of a logit, as a share of the largest logit.
    """
    with torch.no_grad():
        if not fold(twin, x):
            return False
        expected, found = model(x), twin(x)
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def _pairs(model: nn.Module, x: Tensor) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Returns each convolution whose output was the input of a norm that can be folded."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the outputs, so that no id comes back
    pairs: list[tuple[nn.Conv2d, nn.Module]] = []
    runs: dict[nn.Module, int] = {}

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (module, output)
        elif inputs and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], module))

    layers = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) or inference_affine(m) is not None
    ]
    hooks = [layer.register_forward_hook(after) for layer in layers]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in pairs if runs[conv] == runs[norm] == 1]


def _centred(mean: Tensor, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return scale, bias - mean * scale


def _range(norm: RobustNorm) -> Tensor:
    return (norm.running_range + norm.eps) ** norm.power

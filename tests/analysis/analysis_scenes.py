"""Small models and images for analyses to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.analysis import get_analysis
from bench.analysis.scene import Scene
from bench.core.analysis import AnalysisAttack, AnalysisSpec, Subject
from bench.core.cell import DataSpec
from bench.core.threat import ThreatModel
from bench.data.slice import Slice
from bench.evaluation.model import Target

DATA = DataSpec(name="fashion-mnist")


class Linear(nn.Module):
    """Logits ``w @ x`` of flattened images; w (classes, pixels)."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w.T


def images(x: Tensor, y: Sequence[int]) -> Slice:
    """A slice of images (n, c, h, w), whose positions in the split begin at 100."""
    n = len(x)
    return Slice(x.numpy(), np.array(y), np.arange(100, 100 + n), "hash")


def scene(
    analysis: str,
    models: Sequence[nn.Module],
    data: Slice,
    *,
    params: dict[str, Any] | None = None,
    attack: dict[str, Any] | None = None,
    attack_name: str = "pgd",
    threat: ThreatModel | None = None,
    subject: dict[str, Any] | None = None,
    **target: Any,
) -> Scene:
    """A scene of models without checkpoints; ``target`` says what they are."""
    fields = {"sha256": "0" * 64, "stats": None, "batch_size": 4, "n_draws": 1, **(subject or {})}
    kind = get_analysis(analysis)
    checked = kind.params.model_validate(params or {})
    crafted = None
    if attack is not None:
        crafted = AnalysisAttack(attack=attack_name, version=1, params=attack)
    spec = AnalysisSpec(
        analysis=analysis,
        version=1,
        params=checked.model_dump(mode="json"),
        subjects=tuple(Subject(checkpoint=f"m{i}", **fields) for i in range(len(models))),
        data=DATA,
        data_hash=data.sha256,
        threat_model=threat or ThreatModel(eps=0.1),
        attack=crafted,
        seed=0,
    )
    channels = data.x.shape[1]
    targets = tuple(
        Target(model.eval(), (1.0,) * channels, classes=3, **target) for model in models
    )
    return Scene(spec, checked, targets, data)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Values in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))

"""The training loop: whole data set on the device, bf16, channels-last, resumable by epoch."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.core.errors import UserError
from bench.core.identity import digest
from bench.models import Classifier, build_model
from bench.norms import RandomNormAggregation, find_paths
from bench.train.augment import augment_batch
from bench.train.inner import perturb
from bench.train.recipe import Recipe


@dataclass(frozen=True)
class Progress:
    """Where a training run is: for a progress display.

    Attributes:
        epoch: Current epoch, from 1.
        step: Steps done over the whole run, of ``n_steps``.
        accuracy: Running accuracy of the epoch on what it trains on, in [0, 1].
        loss: Running mean loss of the epoch.
        rate: Images per second.
    """

    epoch: int
    step: int
    n_steps: int
    accuracy: float
    loss: float
    rate: float


class Trainer:
    """Trains one recipe; ``run`` may be called again after a kill.

    Args:
        recipe: What to train.
        x: Training images (n, c, h, w), uint8, or float in [0, 1].
        y: Labels (n,), int64.
        state_file: Where the state is kept after each epoch.
        device: Where to train.
        compiled: Whether to use ``torch.compile``.
    """

    def __init__(
        self,
        recipe: Recipe,
        x: Tensor,
        y: Tensor,
        state_file: Path,
        device: str = "cpu",
        compiled: bool = True,
    ) -> None:
        self.recipe, self.state_file = recipe, state_file
        self.device = torch.device(device)
        limit = recipe.limit or len(x)
        self.x, self.y = x[:limit].to(self.device), y[:limit].to(self.device)
        model: Classifier = build_model(recipe.model, recipe.seed).to(self.device)
        self.model = model = model.to(memory_format=torch.channels_last)
        self.paths = find_paths(model)
        self.forward = _compiled(model) if compiled else model
        self.optimizer = torch.optim.SGD(
            _parameter_groups(model, recipe),
            recipe.lr,
            recipe.momentum,
            nesterov=recipe.momentum > 0,
        )
        self.steps_per_epoch = -(-len(self.x) // recipe.batch_size)
        self.n_steps = self.steps_per_epoch * recipe.epochs
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self._resume()

    def run(self, report: Callable[[Progress], None]) -> Classifier:
        """Trains what is left of the recipe's epochs; returns the model in eval mode."""
        while self.epoch < self.recipe.epochs:
            self._train_epoch(report)
            self.epoch += 1
            self._save()
        if self.paths is not None:
            self.paths.pinned = None
        return self.model.eval()

    def _train_epoch(self, report: Callable[[Progress], None]) -> None:
        recipe = self.recipe
        seed = int(digest([recipe.seed, self.epoch], 12), 16)
        generator = torch.Generator().manual_seed(seed)
        if self.paths is not None:
            self.paths.seed(seed)
        order = torch.randperm(len(self.x), generator=generator).to(self.device)
        begin, seen, loss_sum, correct = time.monotonic(), 0, 0.0, 0.0
        for i in range(self.steps_per_epoch):
            rows = order[i * recipe.batch_size : (i + 1) * recipe.batch_size]
            step = self.epoch * self.steps_per_epoch + i
            loss, hits = self._step(step, self.x[rows], self.y[rows], generator)
            seen, loss_sum, correct = seen + len(rows), loss_sum + loss * len(rows), correct + hits
            rate = seen / (time.monotonic() - begin)
            accuracy, mean_loss = correct / seen, loss_sum / seen
            report(Progress(self.epoch + 1, step + 1, self.n_steps, accuracy, mean_loss, rate))
        self.history.append({"epoch": self.epoch + 1, "loss": mean_loss, "accuracy": accuracy})

    def _step(
        self, step: int, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[float, float]:
        recipe, model = self.recipe, self.model
        x = to_pixels(augment_batch(x, recipe.augment, generator))
        x = x.contiguous(memory_format=torch.channels_last)
        if recipe.attack is not None:
            self._pin_path(len(x))
            x = self._attack(x, y, generator)
        if recipe.kind != "adversarial":
            self._pin_path(len(x))
        model.train()
        logits = self._logits(x)
        loss = F.cross_entropy(logits, y)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        scale = _one_cycle(step, self.n_steps, recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * group["lr_scale"] * scale
        self.optimizer.step()
        if not torch.isfinite(loss):
            raise UserError(f"{recipe.name}: the loss became {loss.item()}; lower lr or set clip")
        return float(loss.detach()), float((logits.argmax(1) == y).sum())

    def _attack(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Makes the batch's adversarial examples in eval mode, on the path in force."""
        assert self.recipe.attack is not None
        self.model.eval().requires_grad_(False)
        x_adv = perturb(self._logits, x, y, self.recipe.attack, generator)
        self.model.requires_grad_(True)
        return x_adv

    def _pin_path(self, n: int) -> None:
        """Draws the path, or one for each of ``n`` samples, that an RNA model now holds."""
        if self.paths is not None:
            self.paths.pinned = self.paths.sample(n if self.paths.per == "sample" else None)

    def _logits(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.forward(x).float()

    def _resume(self) -> None:
        if not self.state_file.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(
                self.state_file, map_location=self.device, weights_only=True
            )
            recipe = state["recipe"]
        except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
            raise UserError(
                f"{self.state_file}: not a readable training state; delete it to train anew"
            ) from None
        if recipe != digest(self.recipe.model_dump(mode="json")):
            raise UserError(
                f"{self.state_file}: belongs to another recipe; delete it to train anew"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history = state["epoch"], state["history"]

    def _save(self) -> None:
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.state_file.with_suffix(".part")
        state = {
            "recipe": digest(self.recipe.model_dump(mode="json")),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
        }
        torch.save(state, aside)
        os.replace(aside, self.state_file)


def to_pixels(x: Tensor) -> Tensor:
    """Returns images as float32 in [0, 1]; uint8 is divided by 255."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


def _compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Compiles the whole model, or, as RNA's graph changes each pass, its branches one by one."""
    if find_paths(model) is None:
        return torch.compile(model)
    for module in model.modules():
        if isinstance(module, RandomNormAggregation):
            for branch in module.branches:
                branch.compile()
    return model


def _one_cycle(step: int, n_steps: int, warmup: float) -> float:
    """Returns the learning rate's fraction of its peak: linear up, then linear down to zero."""
    at = (step + 0.5) / n_steps
    return at / warmup if at < warmup else (1 - at) / (1 - warmup)


def _parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Splits off vectors (no weight decay) and Fixup's scalars (a tenth of the rate)."""
    parameters = list(model.parameters())
    scalars = [p for p in parameters if p.numel() == 1]
    vectors = [p for p in parameters if p.ndim == 1 and p.numel() > 1]
    weights = [p for p in parameters if p.ndim > 1]
    groups = [
        {"params": weights, "lr_scale": 1.0, "weight_decay": recipe.weight_decay},
        {"params": vectors, "lr_scale": 1.0, "weight_decay": 0.0},
        {"params": scalars, "lr_scale": 0.1, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]

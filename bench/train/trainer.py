"""The training loop: bf16, channels-last, compiled, on one device or several, resumable."""

from __future__ import annotations

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
from bench.norms import find_paths
from bench.train.compute import Compute, compile_model
from bench.train.inner import perturb
from bench.train.recipe import Recipe
from bench.train.schedule import rate_fraction
from bench.train.source import Source
from bench.train.state import read_state, unreadable, write_state
from bench.train.world import World

REPORT_EVERY = 20
"""Steps between two reports on a GPU, where looking at the loss makes the device wait."""


@dataclass(frozen=True)
class Progress:
    """Where a training run is: for a progress display.

    Attributes:
        epoch: Current epoch, from 1.
        step: Steps done over the whole run, of ``n_steps``.
        n_steps: Steps of the whole run, all epochs together.
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
        source: Where the images come from.
        state_file: Where the state is kept after each epoch.
        compute: Where and how to train.
        world: The processes that train together.
        validate: Gives the accuracy in [0, 1] of the model in eval mode after an epoch; called in
            the first process only.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        state_file: Path,
        compute: Compute,
        world: World | None = None,
        validate: Callable[[Classifier], float] | None = None,
    ) -> None:
        self.recipe, self.source, self.state_file = recipe, source, state_file
        self.compute, self.device = compute, torch.device(compute.device)
        self.world, self.validate = world or World(), validate
        model: Classifier = build_model(recipe.model, recipe.seed).to(self.device)
        self.model = model = model.to(memory_format=torch.channels_last)
        self.paths = find_paths(model)
        # The attack's passes leave the gradients alone, so they go past the wrapper.
        self.forward = compile_model(model) if compute.compiled else model
        self.learner = self.world.wrap(self.forward, self.paths is not None)
        self.optimizer = torch.optim.SGD(
            _parameter_groups(model, recipe),
            recipe.lr,
            recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            # The fused step cannot do with branches that have had no gradient yet.
            fused=self.paths is None,
        )
        self.n_images = min(recipe.limit or len(source), len(source))
        # Evenly spaced, since an image folder is sorted by class.
        self.positions = torch.arange(self.n_images) * len(source) // self.n_images
        self.steps_per_epoch = -(-self.n_images // recipe.batch_size)
        self.n_steps = self.steps_per_epoch * recipe.epochs
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self._resume()

    def run(self, report: Callable[[Progress], None]) -> Classifier:
        """Trains what is left of the recipe's epochs; returns the model in eval mode.

        Raises:
            UserError: When the loss becomes NaN or infinite.
        """
        while self.epoch < self.recipe.epochs:
            self.train_epoch(report)
            self._close_epoch()
        self._free_path()
        return self.model.eval()

    def train_epoch(self, report: Callable[[Progress], None]) -> None:
        """Trains one epoch; its state is not written."""
        recipe = self.recipe
        seed = int(digest([recipe.seed, self.epoch], 12), 16)
        generator = torch.Generator().manual_seed(seed)
        if self.paths is not None:
            self.paths.seed(seed)
        order = self.positions[torch.randperm(self.n_images, generator=generator)]
        parts = [self.world.share(rows) for rows in torch.split(order, recipe.batch_size)]
        if self.world.rank:
            generator.manual_seed(int(digest([recipe.seed, self.epoch, self.world.rank], 12), 16))
        begin, seen = time.monotonic(), 0
        total = torch.zeros(2, device=self.device)
        batches = self.source.batches(torch.cat(parts), len(parts[0]), generator)
        every = REPORT_EVERY if self.device.type == "cuda" else 1
        for i, (x, y) in enumerate(batches):
            step = self.epoch * self.steps_per_epoch + i
            total += self._step(step, x, y, generator)
            seen += len(x)
            if (i + 1) % every == 0 or i + 1 == self.steps_per_epoch:
                loss, accuracy = (total / seen).tolist()
                self._refuse_diverged(loss)
                rate = seen * self.world.size / (time.monotonic() - begin)
                report(Progress(self.epoch + 1, step + 1, self.n_steps, accuracy, loss, rate))
        loss, accuracy = self.world.mean(total / seen).tolist()
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "loss": loss,
                "accuracy": accuracy,
                "seconds": time.monotonic() - begin,
            }
        )
        self.epoch += 1

    def _step(self, step: int, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Takes a step; returns the batch's summed loss and number of hits, (2,)."""
        recipe, model = self.recipe, self.model
        clean = x
        if recipe.attack is not None:
            self._pin_path(len(x))
            x = self._attack(x, y, generator)
        if recipe.kind != "adversarial":
            self._pin_path(len(x))
        model.train()
        logits = self._logits(self.learner, x)
        loss = F.cross_entropy(logits, y)
        if recipe.kind == "mixed":
            loss = (loss + F.cross_entropy(self._logits(self.learner, clean), y)) / 2
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        scale = rate_fraction(recipe.schedule, step, self.n_steps, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * group["lr_scale"] * scale
        self.optimizer.step()
        return torch.stack([loss.detach() * len(x), (logits.argmax(1) == y).sum()])

    def _attack(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Makes the batch's adversarial examples in eval mode, on the path in force."""
        assert self.recipe.attack is not None
        self.model.eval().requires_grad_(False)
        x_adv = perturb(
            lambda z: self._logits(self.forward, z),
            x,
            y,
            self.recipe.attack,
            generator,
            self.model.std,
        )
        self.model.requires_grad_(True)
        return x_adv

    def _pin_path(self, n: int) -> None:
        """Draws the path, or one for each of ``n`` samples, that an RNA model now holds."""
        if self.paths is not None:
            self.paths.pinned = self.paths.sample(n if self.paths.per == "sample" else None)

    def _free_path(self) -> None:
        if self.paths is not None:
            self.paths.pinned = None

    def _logits(self, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with self.compute.autocast():
            return forward(x).float()

    def _refuse_diverged(self, loss: float) -> None:
        if not abs(loss) < float("inf"):
            raise UserError(f"{self.recipe.name}: the loss became {loss}; lower lr or set clip")

    def _close_epoch(self) -> None:
        self.world.average_buffers(self.model)
        if self.world.rank:
            return
        if self.validate is not None:
            self._free_path()
            self.history[-1]["test_accuracy"] = self.validate(self.model.eval())
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
        }
        write_state(self.state_file, self.recipe, state)

    def _resume(self) -> None:
        state = read_state(self.state_file, self.recipe, self.device)
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.history = int(state["epoch"]), list(state["history"])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            raise unreadable(self.state_file) from None


def _parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Splits off vectors (no weight decay, unless asked) and Fixup's scalars (a tenth of the rate).

    Source for the scalars: Zhang et al., https://arxiv.org/abs/1901.09321, section 4.
    """
    parameters = list(model.parameters())
    scalars = [p for p in parameters if p.numel() == 1]
    vectors = [p for p in parameters if p.ndim == 1 and p.numel() > 1]
    weights = [p for p in parameters if p.ndim > 1]
    on_vectors = recipe.weight_decay if recipe.decay == "all" else 0.0
    groups = [
        {"params": weights, "lr_scale": 1.0, "weight_decay": recipe.weight_decay},
        {"params": vectors, "lr_scale": 1.0, "weight_decay": on_vectors},
        {"params": scalars, "lr_scale": 0.1, "weight_decay": on_vectors},
    ]
    return [group for group in groups if group["params"]]

"""Compares the trainer with a plain training loop."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.data.images import Images
from bench.data.slice import load_split
from bench.models import build_model
from bench.norms import find_paths
from bench.train.build import choose_layout
from bench.train.compute import Compute, Layout
from bench.train.recipe import Recipe
from bench.train.source import DeviceSource
from bench.train.trainer import Trainer
from tools.speed.timing import ratio, take_turns

PLAIN = "plain loop"
OURS = "rbench"


@dataclass(frozen=True)
class TrainingSpeed:
    """Images per second of the trainer and of a plain loop, on the same recipe.

    Attributes:
        recipe: Name of the recipe.
        kind: Kind of training.
        norm: The network's norm.
        layout: Precision and layout that the trainer chose.
        plain: Images per second of the plain loop, median.
        ours: Images per second of the trainer, median.
        ratio: Median of ours / plain over the rounds.
        low: Smallest ratio of a round.
        high: Largest ratio of a round.
    """

    recipe: str
    kind: str
    norm: str
    layout: str
    plain: float
    ours: float
    ratio: float
    low: float
    high: float


def training_speed(
    recipe: Recipe, data_root: Path | None, device: str, n_steps: int, rounds: int
) -> TrainingSpeed:
    """Measures one recipe: both loops take the same number of steps, in turns.

    The plain loop is fp32, contiguous, without compilation; a ``DataLoader`` with two workers
    augments image by image through torchvision; the attack's passes also compute parameter
    gradients, as is the default. Compilation is not counted.

    Args:
        recipe: The recipe; the weights are discarded.
        data_root: Data root.
        device: The device.
        n_steps: Steps per round.
        rounds: Turns of each.
    """
    images = load_split(recipe.dataset, "train", data_root)
    n_images = n_steps * recipe.batch_size
    short = recipe.model_copy(update={"epochs": rounds + 1, "limit": n_images})
    with tempfile.TemporaryDirectory() as folder:
        plain = _PlainLoop(short, images, device)
        source = _source(short, images, device)
        layout = choose_layout(short, source, Compute(device))
        ours = _trainer_rounds(short, source, Path(folder), layout)
        contenders: dict[str, Callable[[], object]] = {
            PLAIN: lambda: plain.steps(n_steps),
            OURS: lambda: next(ours),
        }
        for run in contenders.values():
            run()
        times = take_turns(contenders, rounds, _waiter(device))
    middle, low, high = ratio(times[PLAIN], times[OURS])
    rates = {name: n_images / timing.median for name, timing in times.items()}
    label = recipe.model.norm.label()
    return TrainingSpeed(
        recipe.name, recipe.kind, label, str(layout), rates[PLAIN], rates[OURS], middle, low, high
    )


def _waiter(device: str) -> Callable[[], None]:
    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return wait


def _source(recipe: Recipe, images: Images, device: str) -> DeviceSource:
    x, y = torch.from_numpy(images.x.copy()), torch.from_numpy(images.y.copy())
    return DeviceSource(x, y, recipe.augment, torch.device(device))


def _trainer_rounds(
    recipe: Recipe, source: DeviceSource, folder: Path, layout: Layout
) -> Iterator[None]:
    """Trains an epoch with the trainer at each call."""
    trainer = Trainer(recipe, source, folder / "state.pt", source.x.device, layout)
    while True:
        trainer.train_epoch(lambda _: None)
        yield


class _Pictures(Dataset[tuple[Tensor, int]]):
    """Images one by one, like ``torchvision.datasets``."""

    def __init__(self, images: Images, recipe: Recipe) -> None:
        self.images = images
        steps: list[Any] = [transforms.ToPILImage()]
        if recipe.augment.pad:
            steps.append(transforms.RandomCrop(recipe.model.size, recipe.augment.pad))
        if recipe.augment.flip:
            steps.append(transforms.RandomHorizontalFlip())
        self.transform = transforms.Compose([*steps, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images.x[index].copy())
        return self.transform(image), int(self.images.y[index])


class _PlainLoop:
    """Training as in PyTorch's tutorials, with PGD as in most code for adversarial training."""

    def __init__(self, recipe: Recipe, images: Images, device: str) -> None:
        self.recipe, self.device = recipe, device
        self.model: nn.Module = build_model(recipe.model, recipe.seed).to(device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay
        )
        loader = DataLoader(
            _Pictures(images, recipe),
            recipe.batch_size,
            shuffle=True,
            num_workers=2,
            pin_memory=device.startswith("cuda"),
        )
        self.batches = (batch for _ in itertools.count() for batch in loader)

    def steps(self, n: int) -> None:
        """Takes ``n`` steps."""
        paths = find_paths(self.model)
        for x, y in itertools.islice(self.batches, n):
            x, y = x.to(self.device), y.to(self.device)
            if paths is not None:
                paths.pinned = paths.sample(None)
            if self.recipe.attack is not None:
                x = self._pgd(x, y)
            self.model.train()
            loss = F.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
            loss.item()

    def _pgd(self, x: Tensor, y: Tensor) -> Tensor:
        attack = self.recipe.attack
        assert attack is not None
        eps = attack.threat_model.eps
        self.model.eval()
        x_adv = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
        for _ in range(attack.n_iter):
            x_adv = x_adv.detach().requires_grad_()
            torch.autograd.backward(F.cross_entropy(self.model(x_adv), y))
            assert x_adv.grad is not None
            x_adv = x_adv + attack.alpha * x_adv.grad.sign()
            x_adv = (x + (x_adv - x).clamp(-eps, eps)).clamp(0, 1)
        return x_adv.detach()

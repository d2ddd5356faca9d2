"""The training loop: in the fastest layout, on one device or several, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.core.errors import UserError
from bench.core.norm_spec import BATCH_STATISTICS, NormSpec
from bench.core.spec import digest
from bench.models import Classifier, build_model
from bench.norms import find_paths, pinned, shares_statistics
from bench.norms.folding import Folded
from bench.oracle.side_by_side import replicas, side_by_side
from bench.store.files import write_atomically
from bench.train.compute import Layout, Ranks, compile_model
from bench.train.inner import perturb
from bench.train.recipe import InnerAttack, Recipe, rate_fraction, recipe_digest
from bench.train.source import Source
from bench.untrusted.weights import read_torch_file

HELD_OUT, COLLAPSED = 256, 0.5
"""Single-step adversarial training holds out so many images, evenly spaced; it counts as
catastrophically overfitted once their accuracy under PGD falls below this share of its best."""

REPORT_EVERY = 20
"""Steps between two reports on a GPU, where reading the loss synchronizes the device."""


@dataclass(frozen=True)
class Progress:
    """Progress of a training run.

    Attributes:
        epoch: Current epoch, from 1.
        step: Steps done in the whole run.
        n_steps: Steps of the whole run.
        accuracy: Running accuracy of the epoch on its training examples, in [0, 1].
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
    """Trains one recipe; resumes from its state file after a kill.

    Args:
        recipe: The recipe.
        source: The training images.
        state_file: Where the state is written after each epoch.
        device: The device.
        layout: How passes are run, see ``choose_layout``.
        ranks: The processes that train together.
        validate: Returns the accuracy, in [0, 1], of the model in eval mode after an epoch; called
            in the first process only.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        state_file: Path,
        device: torch.device,
        layout: Layout = Layout(),  # noqa: B008 - frozen
        ranks: Ranks | None = None,
        validate: Callable[[Classifier], float] | None = None,
    ) -> None:
        self.recipe, self.source, self.state_file = recipe, source, state_file
        self.device, self.layout = device, layout
        self.ranks, self.validate = ranks or Ranks(), validate
        model: Classifier = build_model(recipe.model, recipe.seed).to(device)
        self.model = model = model.to(memory_format=layout.memory_format)
        self.paths = find_paths(model)
        self._path: Tensor | None = None
        # The attack's passes do not use the wrapper, as they leave parameter gradients alone.
        self.forward = compile_model(model) if layout.compiled else model
        self.learner = self.ranks.wrap(self.forward, self.paths is not None)
        # One for each thread; the first one is the model itself.
        self._models = replicas(model, torch.get_num_threads() if layout.side_by_side else 1)
        self._folded: Folded | None = None
        self._may_fold = self.paths is None and not layout.compiled
        self._copies: Sequence[nn.Module] = ()
        self._learns_in_parts = self.ranks.size == 1 and _per_image(recipe.model.norm)
        self.optimizer = torch.optim.SGD(
            _parameter_groups(model, recipe),
            recipe.lr,
            recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            # The fused step fails on branches that have had no gradient yet.
            fused=self.paths is None,
        )
        self.n_images = min(recipe.limit or len(source), len(source))
        # Evenly spaced, since an image folder is sorted by class.
        self.positions = torch.arange(self.n_images) * len(source) // self.n_images
        self.held_out = self.positions[:0]
        if recipe.attack is not None and recipe.attack.method == "n-fgsm":
            self._hold_out()
        self.steps_per_epoch = -(-self.n_images // recipe.batch_size)
        self.n_steps = self.steps_per_epoch * recipe.epochs
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self._resume()

    def run(self, report: Callable[[Progress], None]) -> Classifier:
        """Trains the remaining epochs; returns the model in eval mode.

        Raises:
            UserError: When the loss becomes NaN or infinite, or single-step training overfits
                catastrophically; the state file keeps the previous epoch.
        """
        while self.epoch < self.recipe.epochs:
            self.train_epoch(report)
            self._watch()
            self._close_epoch()
        self._free_path()
        return self.model.eval()

    def train_epoch(self, report: Callable[[Progress], None]) -> None:
        """Trains one epoch, without writing the state."""
        recipe = self.recipe
        seed = int(digest([recipe.seed, self.epoch], 12), 16)
        generator = torch.Generator().manual_seed(seed)
        if self.paths is not None:
            self.paths.seed(seed)
        order = self.positions[torch.randperm(self.n_images, generator=generator)]
        parts = [self.ranks.share(rows) for rows in torch.split(order, recipe.batch_size)]
        if self.ranks.rank:
            generator.manual_seed(int(digest([recipe.seed, self.epoch, self.ranks.rank], 12), 16))
        begin, seen = time.monotonic(), 0
        total = torch.zeros(2, device=self.device)
        batches = self.source.batches(torch.cat(parts), len(parts[0]), generator)
        every = REPORT_EVERY if self.device.type == "cuda" else 1
        for i, (x, y) in enumerate(batches):
            step = self.epoch * self.steps_per_epoch + i
            total += self.take_step(step, x, y, generator)
            seen += len(x)
            if (i + 1) % every == 0 or i + 1 == self.steps_per_epoch:
                loss, accuracy = (total / seen).tolist()
                self._refuse_diverged(loss)
                rate = seen * self.ranks.size / (time.monotonic() - begin)
                report(Progress(self.epoch + 1, step + 1, self.n_steps, accuracy, loss, rate))
        loss, accuracy = self.ranks.mean(total / seen).tolist()
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "loss": loss,
                "accuracy": accuracy,
                "seconds": time.monotonic() - begin,
            }
        )
        self.epoch += 1

    def take_step(self, step: int, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Takes one step; returns the batch's summed loss and number of correct examples, (2,)."""
        recipe = self.recipe
        clean = x = x.contiguous(memory_format=self.layout.memory_format)
        if recipe.attack is not None:
            self._pin_path(len(x))
            x = self._attack(x, y, generator, recipe.attack)
        if recipe.kind != "adversarial":
            self._pin_path(len(x))
        self.optimizer.zero_grad(set_to_none=True)
        found = self._learn(x, clean, y)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        scale = rate_fraction(recipe.schedule, step, self.n_steps, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * group["lr_scale"] * scale
        self.optimizer.step()
        return found

    def _attack(
        self, x: Tensor, y: Tensor, generator: torch.Generator, attack: InnerAttack
    ) -> Tensor:
        """Makes the batch's adversarial examples in eval mode, on the pinned path."""
        std = self.model.std
        for model in self._models:
            model.eval()
        self.model.requires_grad_(False)
        models = self._attacked(x)
        noise = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device)
        if len(models) == 1 or shares_statistics(self.model):
            forward = self.forward if models is self._models else models[0]
            x_adv = perturb(lambda z: self._logits(forward, z), x, y, attack, noise, std)
        else:

            def part(model: nn.Module, rows: slice) -> Tensor:
                with self._path_of(model, rows):
                    return perturb(
                        lambda z: self._logits(model, z), x[rows], y[rows], attack, noise[rows], std
                    )

            x_adv = torch.cat(side_by_side(models, part, self._parts(len(x))))
        self.model.requires_grad_(True)
        return x_adv

    def _attacked(self, x: Tensor) -> Sequence[nn.Module]:
        """Returns the model that each thread attacks, with norms folded if possible."""
        if self._may_fold and self._folded is None:
            self._folded = Folded.of(self.model, x[:2])
            self._may_fold = self._folded is not None
            if self._folded is not None:
                self._copies = replicas(self._folded.copy, len(self._models))
        if self._folded is None:
            return self._models
        self._folded.refresh()
        return self._copies

    def _learn(self, x: Tensor, clean: Tensor, y: Tensor) -> Tensor:
        """Sets the gradients of a batch's mean loss; returns summed loss and correct examples."""
        for model in self._models:
            model.train()
        if len(self._models) == 1 or not self._learns_in_parts:
            loss, hits = self._loss(self.learner, x, clean, y)
            torch.autograd.backward(loss)
            return torch.stack([loss.detach() * len(x), hits])
        parameters = list(self.model.parameters())

        def part(model: nn.Module, rows: slice) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            with self._path_of(model, rows):
                loss, hits = self._loss(model, x[rows], clean[rows], y[rows])
            loss = loss * len(y[rows])
            slopes = torch.autograd.grad(loss / len(x), parameters, allow_unused=True)
            return torch.stack([loss.detach(), hits]), slopes

        parts = side_by_side(self._models, part, self._parts(len(x)))
        for parameter, *slopes in zip(parameters, *(slopes for _, slopes in parts), strict=True):
            for slope in slopes:
                if slope is not None:
                    parameter.grad = slope if parameter.grad is None else parameter.grad + slope
        return torch.stack([found for found, _ in parts]).sum(0)

    def _loss(
        self, model: Callable[[Tensor], Tensor], x: Tensor, clean: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the mean loss of some images, and the number of correct ones."""
        logits = self._logits(model, x)
        loss = F.cross_entropy(logits, y)
        if self.recipe.kind == "mixed":
            loss = (loss + F.cross_entropy(self._logits(model, clean), y)) / 2
        return loss, (logits.argmax(1) == y).sum()

    def _parts(self, n: int) -> list[slice]:
        """Splits a batch into one part per thread, of about equal length."""
        size = -(-n // len(self._models))
        return [slice(i, min(i + size, n)) for i in range(0, n, size)]

    def _path_of(self, model: nn.Module, rows: slice) -> AbstractContextManager[None]:
        """Pins the current path, or the paths of some images, in one thread's model."""
        path = self._path
        if path is None:
            return nullcontext()
        return pinned(model, path if path.ndim == 1 else path[:, rows])

    def _pin_path(self, n: int) -> None:
        """Samples and pins the path of an RNA model, or a path for each of ``n`` samples."""
        if self.paths is not None:
            self._path = self.paths.sample(n if self.paths.per == "sample" else None)
            self.paths.pinned = self._path

    def _free_path(self) -> None:
        self._path = None
        if self.paths is not None:
            self.paths.pinned = None

    def _logits(self, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with self.layout.autocast(self.device):
            return forward(x).float()

    def _hold_out(self) -> None:
        """Holds out some training images, to detect catastrophic overfitting."""
        n = min(HELD_OUT, self.n_images // 4)
        chosen = torch.arange(n) * self.n_images // max(n, 1)
        kept = torch.ones(self.n_images, dtype=torch.bool)
        kept[chosen] = False
        self.held_out, self.positions = self.positions[chosen], self.positions[kept]
        self.n_images = len(self.positions)

    def _watch(self) -> None:
        """Records the accuracy of the held-out images under PGD-10; raises if it collapses.

        Source: Wong et al. 2020, https://arxiv.org/abs/2001.03994, section 5.4.
        """
        attack = self.recipe.attack
        if attack is None or not len(self.held_out):
            return
        eps = attack.threat_model.eps
        pgd = InnerAttack(threat_model=attack.threat_model, alpha=eps / 4, n_iter=10)
        generator = torch.Generator().manual_seed(self.recipe.seed)
        source = self.source.batches(self.held_out, self.recipe.batch_size, generator)
        hits = 0
        for x, y in source:
            self._pin_path(len(x))
            x_adv = self._attack(x, y, generator, pgd)
            with torch.no_grad():
                hits += int((self._logits(self.forward, x_adv).argmax(1) == y).sum())
        self._free_path()
        accuracy = hits / len(self.held_out)
        best = max((epoch.get("pgd_accuracy", 0.0) for epoch in self.history), default=0.0)
        self.history[-1]["pgd_accuracy"] = accuracy
        if accuracy < COLLAPSED * best:
            raise UserError(
                f"{self.recipe.name}: catastrophic overfitting in epoch {self.epoch}: of images "
                f"held out {accuracy:.1%} are right under PGD-10, {best:.1%} were before; train "
                "with method 'pgd', or lower lr or alpha"
            )

    def _refuse_diverged(self, loss: float) -> None:
        if not abs(loss) < float("inf"):
            raise UserError(f"{self.recipe.name}: the loss became {loss}; lower lr or set clip")

    def _close_epoch(self) -> None:
        self.ranks.average_buffers(self.model)
        if self.ranks.rank:
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
    """Separates vectors (by default without weight decay) and Fixup's scalars (lr / 10).

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


def _per_image(norm: NormSpec) -> bool:
    """Returns whether images share no statistics, also in training."""
    members = norm.pool if norm.name == "rna" else (norm,)
    return not any(m.of_plugin or m.batch_dependent or m.name in BATCH_STATISTICS for m in members)


def read_state(path: Path, recipe: Recipe, device: torch.device) -> dict[str, Any] | None:
    """Returns the state of an unfinished training, or ``None`` if there is none.

    Raises:
        UserError: When the file is damaged or belongs to another recipe.
    """
    if not path.is_file():
        return None
    try:
        state: Any = read_torch_file(path, device)
        found = state["recipe"]
    except (UserError, LookupError, TypeError):
        raise unreadable(path) from None
    if found != recipe_digest(recipe):
        raise UserError(f"{path}: belongs to another recipe; delete it to train anew")
    return dict(state)


def unreadable(path: Path) -> UserError:
    """Returns the error for a file that is not a training state."""
    return UserError(f"{path}: not a readable training state; delete it to train anew")


def write_state(path: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Writes the state of an unfinished training, atomically."""
    content = BytesIO()
    torch.save({"recipe": recipe_digest(recipe), **state}, content)
    write_atomically(path, content.getvalue())

"""The training loop: in the fastest layout, on one device or several, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.core.errors import UserError
from bench.core.host import processor
from bench.core.norm_spec import BATCH_STATISTICS, NormSpec
from bench.core.spec import digest
from bench.models import Classifier, build_model
from bench.norms import find_paths, pinned, shares_statistics
from bench.norms.folding import Folded
from bench.oracle.fast import settled
from bench.oracle.side_by_side import replicas, side_by_side
from bench.train.compute import Compute, Layout, compile_model, fastest_layout
from bench.train.inner import perturb
from bench.train.recipe import InnerAttack, Recipe, rate_fraction
from bench.train.source import Source
from bench.train.state import read_state, unreadable, write_state
from bench.train.world import World

HELD_OUT, COLLAPSED = 256, 0.5
"""Training images that single-step adversarial training does not see, evenly spaced; and the share
of their best accuracy under PGD below which it has overfitted to its one step."""

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
        device: Where to train.
        layout: How passes are run, see ``choose_layout``.
        world: The processes that train together.
        validate: Gives the accuracy in [0, 1] of the model in eval mode after an epoch; called in
            the first process only.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        state_file: Path,
        device: torch.device,
        layout: Layout = Layout(),  # noqa: B008 - frozen
        world: World | None = None,
        validate: Callable[[Classifier], float] | None = None,
    ) -> None:
        self.recipe, self.source, self.state_file = recipe, source, state_file
        self.device, self.layout = device, layout
        self.world, self.validate = world or World(), validate
        model: Classifier = build_model(recipe.model, recipe.seed).to(device)
        self.model = model = model.to(memory_format=layout.memory_format)
        self.paths = find_paths(model)
        self._path: Tensor | None = None
        # The attack's passes leave the gradients alone, so they go past the wrapper.
        self.forward = compile_model(model) if layout.compiled else model
        self.learner = self.world.wrap(self.forward, self.paths is not None)
        # One for each thread; the first one is the model itself.
        self._models = replicas(model, torch.get_num_threads() if layout.side_by_side else 1)
        self._folded: Folded | None = None
        self._may_fold = self.paths is None and not layout.compiled
        self._copies: Sequence[nn.Module] = ()
        self._learns_in_parts = self.world.size == 1 and _per_image(recipe.model.norm)
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
        self.held_out = self.positions[:0]
        if recipe.attack is not None and recipe.attack.method == "n-fgsm":
            self._hold_out()
        self.steps_per_epoch = -(-self.n_images // recipe.batch_size)
        self.n_steps = self.steps_per_epoch * recipe.epochs
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self._resume()

    def run(self, report: Callable[[Progress], None]) -> Classifier:
        """Trains what is left of the recipe's epochs; returns the model in eval mode.

        Raises:
            UserError: When the loss becomes NaN or infinite, or single-step training overfits
                catastrophically; the state stays that of the epoch before.
        """
        while self.epoch < self.recipe.epochs:
            self.train_epoch(report)
            self._watch()
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
        """Makes the batch's adversarial examples in eval mode, on the path in force."""
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
        """Returns what each thread attacks: the model, with its norms folded where they can be."""
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
        """Leaves the gradients of a batch's mean loss; returns its sum and the hits, (2,)."""
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
        """Returns the mean loss of some images, and how many are hit."""
        logits = self._logits(model, x)
        loss = F.cross_entropy(logits, y)
        if self.recipe.kind == "mixed":
            loss = (loss + F.cross_entropy(self._logits(model, clean), y)) / 2
        return loss, (logits.argmax(1) == y).sum()

    def _parts(self, n: int) -> list[slice]:
        """Returns as many parts of a batch as there are threads, about equally long."""
        size = -(-n // len(self._models))
        return [slice(i, min(i + size, n)) for i in range(0, n, size)]

    def _path_of(self, model: nn.Module, rows: slice) -> AbstractContextManager[None]:
        """Holds the path in force, or that of some images, in one thread's model."""
        path = self._path
        if path is None:
            return nullcontext()
        return pinned(model, path if path.ndim == 1 else path[:, rows])

    def _pin_path(self, n: int) -> None:
        """Draws the path, or one for each of ``n`` samples, that an RNA model now holds."""
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
        """Takes some images out of the training, on which it is watched."""
        n = min(HELD_OUT, self.n_images // 4)
        chosen = torch.arange(n) * self.n_images // max(n, 1)
        kept = torch.ones(self.n_images, dtype=torch.bool)
        kept[chosen] = False
        self.held_out, self.positions = self.positions[chosen], self.positions[kept]
        self.n_images = len(self.positions)

    def _watch(self) -> None:
        """Notes the accuracy under PGD-10 of the images held out, and refuses its collapse.

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


def _per_image(norm: NormSpec) -> bool:
    """Says whether images share no statistics in training either."""
    members = norm.pool if norm.name == "rna" else (norm,)
    return not any(m.of_plugin or m.batch_dependent or m.name in BATCH_STATISTICS for m in members)


def choose_layout(recipe: Recipe, source: Source, compute: Compute) -> Layout:
    """Returns the layout in which this machine takes a recipe's steps fastest, by timing some.

    What is learned in them is thrown away. The answer is kept (``bench.oracle.fast``), so that
    the same training repeats itself.
    """
    device, n = torch.device(compute.device), min(recipe.batch_size, len(source))
    n_images = min(recipe.limit or len(source), len(source))

    def stepper(layout: Layout) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(0)
        x, y = next(iter(source.batches(torch.arange(n), n, generator)))
        trial = Trainer(recipe, source, Path(), device, layout)
        return lambda: trial._step(0, x, y, generator)

    def find_out() -> dict[str, Any]:
        layout = fastest_layout(compute, stepper, recipe.epochs * (n_images // n))
        return asdict(layout) | {"dtype": str(layout.dtype)}

    told = recipe.model_dump(mode="json", include={"model", "kind", "attack", "batch_size"})
    where = [processor(), torch.get_num_threads(), str(torch.__version__), repr(compute)]
    kept = settled(digest(["layout", told, *where]), find_out) or {}
    low = kept.get("dtype") == str(torch.bfloat16)
    flags = ("channels_last", "side_by_side", "compiled")
    return Layout(
        torch.bfloat16 if low else torch.float32, *(kept.get(name) is True for name in flags)
    )

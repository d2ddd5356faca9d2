"""Training recipes as data, and the files that hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bench.core.errors import UserError, did_you_mean
from bench.core.model_spec import ModelSpec
from bench.core.spec import Number, Spec, digest
from bench.core.threat import ThreatModel
from bench.untrusted.spec_file import check_spec, read_yaml


class InnerAttack(Spec):
    """The attack of adversarial training.

    Attributes:
        method: ``pgd`` (Madry et al., https://arxiv.org/abs/1706.06083): ``n_iter`` steps inside
            the ball from a uniform start. ``n-fgsm`` (de Jorge et al. 2022,
            https://arxiv.org/abs/2202.01181, algorithm 1): one step from uniform noise of twice
            eps, clipped to the box but not to the ball, at half the cost of ``pgd`` with three
            steps.
        threat_model: The ball, linf, in pixels or in units of the normalized input.
        alpha: Step size in the units of ``threat_model.eps``.
        n_iter: Number of steps; 1 for ``n-fgsm``.
    """

    method: Literal["pgd", "n-fgsm"] = "pgd"
    threat_model: ThreatModel
    alpha: Number = Field(gt=0)
    n_iter: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("method", "pgd") == "pgd" and "n_iter" not in data:
            raise ValueError("method 'pgd' needs n_iter, its number of steps")
        return data

    @model_validator(mode="after")
    def _one_step(self) -> InnerAttack:
        if self.method == "n-fgsm" and self.n_iter != 1:
            raise ValueError(f"method 'n-fgsm' takes one step, n_iter is {self.n_iter}")
        return self

    @field_validator("threat_model")
    @classmethod
    def _linf(cls, threat_model: ThreatModel) -> ThreatModel:
        if threat_model.norm != "linf":
            raise ValueError("training attacks know only norm linf")
        return threat_model.for_all()


class Augment(Spec):
    """Augmentation of training images.

    Attributes:
        pad: Random crop after zero padding by so many pixels.
        flip: Random horizontal flip.
        resized_crop: Random area and aspect ratio, resized to the model's size; only for image
            folders, which are streamed from disk and take no ``pad``.
    """

    pad: int = Field(default=0, ge=0)
    flip: bool = False
    resized_crop: bool = False


class Schedule(Spec):
    """The learning-rate schedule.

    Attributes:
        name: ``one-cycle`` (linear up, then linear down to zero), ``piecewise`` (constant, times
            ``factor`` at each milestone) or ``cosine`` (linear up, then half a cosine to zero).
        warmup: Fraction of all steps for the way up; not for ``piecewise``.
        milestones: Epochs (from 0) at whose start the rate drops; for ``piecewise``.
        factor: Factor of the drop.
    """

    name: Literal["one-cycle", "piecewise", "cosine"] = "one-cycle"
    warmup: Number = Field(default=0.25, ge=0, lt=1)
    milestones: tuple[int, ...] = ()
    factor: Number = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Schedule:
        if (self.name == "piecewise") != bool(self.milestones):
            raise ValueError("schedule 'piecewise' needs milestones, and only it takes them")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise from one to the next")
        return self


class Recipe(Spec):
    """Everything that decides a checkpoint's weights.

    Attributes:
        name: Name of the checkpoint: lower-case letters, digits, ``.``, ``_`` and ``-``, beginning
            with a letter or a digit.
        scale: ``paper`` (the authors' epochs, batch and schedule) or ``compact`` (short).
        source: The published table or figure that the recipe belongs to, for people.
        model: Architecture and norm.
        dataset: Name of the data set: trained on its train split and scored on its test split,
            unless the next two are given.
        train_on: Data sets to train on instead, concatenated; their train split if there is one.
        score_on: Data set whose test split gives the card's accuracy instead.
        kind: ``natural``; ``mixed`` (mean loss of a batch and of its adversarial examples);
            ``adversarial`` (on the inner attack's examples; for an RNA model, on the attacked
            path); ``black-box`` (RNA's algorithm 1: attack one path, train another).
        attack: The inner attack; ``None`` for kind ``natural``, required for the others.
        epochs: Number of epochs.
        batch_size: Images per step, over all processes that train together.
        lr: Peak learning rate of SGD; a tenth of it for Fixup's scalar parameters.
        schedule: The learning-rate schedule.
        momentum: Momentum of SGD.
        nesterov: Whether to use Nesterov momentum.
        weight_decay: L2 penalty.
        decay: Parameters it applies to: matrices and kernels (``weights``), or ``all``.
        clip: Largest norm of the gradient of all parameters; ``None`` for no clipping.
        augment: Augmentation of training images.
        seed: Seeds initial weights, order, augmentation, starts of the attack, and RNA paths.
        limit: Number of training images, evenly spaced over the data set; ``None`` for all.
        notes: Text for the card.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    scale: Literal["compact", "paper"] = "compact"
    source: str = ""
    model: ModelSpec
    dataset: str
    train_on: tuple[str, ...] = ()
    score_on: str | None = None
    kind: Literal["natural", "mixed", "adversarial", "black-box"] = "natural"
    attack: InnerAttack | None = None
    epochs: int = Field(ge=1)
    batch_size: int = Field(default=256, ge=1)
    lr: Number = Field(gt=0)
    schedule: Schedule = Schedule()
    momentum: Number = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: Number = Field(default=5e-4, ge=0)
    decay: Literal["weights", "all"] = "weights"
    clip: Number | None = Field(default=None, gt=0)
    augment: Augment = Augment()
    seed: int = 0
    limit: int | None = Field(default=None, ge=1)
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.kind == "natural") != (self.attack is None):
            raise ValueError("kind 'natural' takes no attack; the other kinds need one")
        if self.kind == "black-box" and not self.model.norm.stochastic:
            raise ValueError(
                "kind 'black-box' attacks one path and trains another, so it needs norm 'rna' with "
                "a pool of at least two"
            )
        last = max(self.schedule.milestones, default=0)
        if last >= self.epochs:
            raise ValueError(f"a milestone at epoch {last} lies past the last of {self.epochs}")
        return self


def recipe_digest(recipe: Recipe) -> str:
    """Returns a hash of everything that decides a training; texts for people do not count."""
    return digest(recipe.model_dump(mode="json", exclude={"source", "notes"}))


def rate_fraction(schedule: Schedule, step: int, n_steps: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of a step as a fraction of its peak, in [0, 1].

    Linear and cosine parts are evaluated at the middle of the step.

    Args:
        schedule: The schedule.
        step: From 0.
        n_steps: Steps of the whole training.
        steps_per_epoch: Converts steps to epochs, for milestones.
    """
    if schedule.name == "piecewise":
        epoch = step // steps_per_epoch
        return float(schedule.factor ** sum(epoch >= m for m in schedule.milestones))
    at = (step + 0.5) / n_steps
    if at < schedule.warmup:
        return at / schedule.warmup
    left = (1 - at) / (1 - schedule.warmup)
    return left if schedule.name == "one-cycle" else (1 - math.cos(math.pi * left)) / 2


class RecipeFile(Spec):
    """A file of recipes that share a data set, a network or a schedule.

    Attributes:
        title: What the recipes are for.
        common: Keys of all recipes; a recipe's own keys take precedence.
        recipes: The own keys of each recipe, in the order in which they are trained. Mappings are
            merged with the common ones key by key, other values replace them.
    """

    title: str
    common: dict[str, Any] = Field(default_factory=dict)
    recipes: tuple[dict[str, Any], ...] = Field(min_length=1)


def read_recipes(path: Path) -> list[Recipe]:
    """Reads a file of one recipe or several.

    Raises:
        UserError: When the file is missing or invalid, with the recipe and the key, or when two
            recipes have the same name.
    """
    data = read_yaml(path, "a training recipe or a file of several")
    if not isinstance(data, Mapping) or "recipes" not in data:
        return [check_spec(data, Recipe, str(path))]
    several = check_spec(data, RecipeFile, str(path))
    recipes = []
    for i, own in enumerate(several.recipes):
        where = f"{path}: recipe {own.get('name', i + 1)}"
        recipes.append(check_spec(_merged(several.common, own), Recipe, where))
    _refuse_twins(recipes, str(path))
    return recipes


def list_recipes(folder: Path) -> list[Recipe]:
    """Returns all recipes in a folder, file by file in order of their names.

    Raises:
        UserError: When a file is invalid, or two recipes have the same name.
    """
    recipes = [recipe for path in sorted(folder.rglob("*.yaml")) for recipe in read_recipes(path)]
    _refuse_twins(recipes, str(folder))
    return recipes


def find_recipes(what: str, folder: Path) -> list[Recipe]:
    """Returns the recipes of a file, or the recipe of a name.

    Args:
        what: Path of a recipe file, name of a file in the folder without ``.yaml``, or name of a
            recipe.
        folder: Where names are looked up.

    Raises:
        UserError: When there is no such file or recipe, with the closest name, or a file is
            invalid.
    """
    for path in (Path(what), folder / f"{what}.yaml"):
        if path.is_file():
            return read_recipes(path)
    if what.endswith((".yaml", ".yml")):
        raise UserError(f"{what}: no such file; expected a training recipe or a file of several")
    known = {recipe.name: recipe for recipe in list_recipes(folder)}
    if what not in known:
        hint = did_you_mean(what, sorted(known))
        raise UserError(f"{what}: no recipe file, and no recipe of that name in {folder}{hint}")
    return [known[what]]


def _merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(common)
    for key, value in own.items():
        base = merged.get(key)
        both = isinstance(base, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(base, value) if both else value  # type: ignore[arg-type]
    return merged


def _refuse_twins(recipes: list[Recipe], where: str) -> None:
    names = [recipe.name for recipe in recipes]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise UserError(f"{where}: more than one recipe is named {', '.join(twins)}")

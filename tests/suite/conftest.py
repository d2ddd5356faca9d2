"""A lookup without torch: a few attacks, data sets and checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.core.adaptive import LossFunction
from bench.core.analysis import AnalysisKind
from bench.core.attack import AttackInfo, ParamsError
from bench.core.cell import DataSpec
from bench.core.checkpoint import ModelFacts
from bench.core.errors import UserError, did_you_mean
from bench.core.model_spec import ClassifierSpec
from bench.core.norm_spec import NormSpec
from bench.suite.resolve import DatasetShape, Lookup, SliceFacts

ATTACKS: dict[str, dict[str, Any]] = {
    "natural": {},
    "fgsm": {},
    "bim": {"n_iter": 10, "alpha": None},
    "pgd": {"n_iter": 20, "alpha": None, "keep": "best"},
    "mim": {"n_iter": 10, "alpha": None, "decay": 1.0},
    "apgd": {"n_iter": 100, "loss": "ce"},
    "apgd_t": {"n_iter": 100},
    "fab_t": {"n_iter": 100},
    "square": {"n_queries": 5000, "n_target_classes": 9},
    "torchattacks:FGSM": {},
    "torchattacks:BIM": {"n_iter": 10, "alpha": 0.01},
    "torchattacks:PGD": {"n_iter": 10, "alpha": 0.01, "random_start": True},
    "torchattacks:MIFGSM": {"n_iter": 10, "alpha": 0.01, "decay": 1.0},
    "torchattacks:CW": {"c": 1.0, "kappa": 0.0, "n_iter": 50, "lr": 0.01},
    "torchattacks:DeepFool": {"n_iter": 50, "overshoot": 0.02},
    "auto": {"n_passes": 1800, "n_target_classes": 4},
    "autoattack": {"version": "standard", "n_iter": 100, "n_queries": 5000, "n_target_classes": 9},
    "pyautoattack": {"version": "standard", "attacks_to_run": (), "n_restarts": None},
    "cw": {"c": 0.01, "binary_search_steps": 5, "n_iter": 100, "lr": 0.01, "kappa": 0.0},
    "deepfool": {"n_iter": 50, "overshoot": 0.02},
}
LINF_ONLY = tuple(f"torchattacks:{name}" for name in ("FGSM", "BIM", "PGD", "MIFGSM"))
MINIMUM_NORM = ("torchattacks:CW", "torchattacks:DeepFool", "cw", "deepfool")
DROPS_SAMPLES = ("torchattacks:DeepFool", "autoattack", "pyautoattack")
DATASETS = {
    "fashion-mnist": DatasetShape(1, 28, 10),
    "mnist": DatasetShape(1, 28, 10),
    "cifar10": DatasetShape(3, 32, 10),
    "cifar100": DatasetShape(3, 32, 100),
}
NORMS: dict[str, Any] = {
    "fmnist-resnet20-bn": "bn",
    "fmnist-resnet20-bgn": {"name": "bgn", "groups": 8},
    "fmnist-resnet20-in": "in",
    "fmnist-resnet20-gn": {"name": "gn", "groups": 8},
    "fmnist-resnet20-ln": "ln",
    "fmnist-resnet20-rn": {"name": "rn", "stats": "batch"},
    "fmnist-resnet20-none": "none",
    "fmnist-resnet20-fixup": "fixup",
    "fmnist-resnet20-bn-at": "bn",
    "fmnist-resnet20-in-at": "in",
    "fmnist-resnet20-rna-at": {"name": "rna", "pool": ["bn", "in"]},
    "foreign-random": {"name": "foreign", "declares": ["stochastic"]},
}
ANALYSES: dict[str, tuple[dict[str, Any], float, int, Any]] = {
    "examples": ({"images": 4, "stratified": False}, 1, 1, "any"),
    "gradient_similarity": ({}, 0, 2, "any"),
    "loss_surface": ({"points": 21, "extent": 1.0}, 0, 1, "any"),
    "path_difference": ({"pairs": 10, "step": 1}, 10, 1, "paths"),
    "statistics_shift": ({}, 1, 1, "tracked"),
}
"""Parameters, runs of the attack, fewest models, and which models fit."""


class Fake:
    """Answers from the tables above; ``version`` and ``salt`` stand for changed code and data."""

    def __init__(self, version: int = 1, salt: str = "") -> None:
        self.version, self.salt = version, salt

    @property
    def lookup(self) -> Lookup:
        return Lookup(
            self.attack, self.analysis, self.dataset, self.images, self.checkpoint, self.loss
        )

    def attack(self, name: str, params: Mapping[str, Any], norm: str) -> AttackInfo:
        if name not in ATTACKS:
            raise UserError(f"unknown attack '{name}'{did_you_mean(name, ATTACKS)}")
        if norm == "l2" and name in LINF_ONLY:
            raise UserError(f"attack '{name}' serves norm linf only, found l2")
        known = ATTACKS[name]
        problems = [
            (key, f"unknown parameter{did_you_mean(key, known)}")
            for key in params
            if key not in known
        ]
        n_iter = params.get("n_iter", known.get("n_iter", 0))
        if isinstance(n_iter, bool) or not isinstance(n_iter, int) or n_iter < 0:
            problems.append(("n_iter", f"expected a whole number, found {n_iter!r}"))
        if problems:
            raise ParamsError(tuple(problems))
        kind = "minimum-norm" if name in MINIMUM_NORM else "bounded"
        return AttackInfo(
            name=name,
            library="",
            version=self.version,
            params={**known, **params},
            kind="none" if name == "natural" else kind,
            keeps_batch=name not in DROPS_SAMPLES,
            may_be_fast=kind == "bounded"
            and name not in ("natural", "pyautoattack")
            and ":" not in name,
            passes_per_image=None if name == "autoattack" else 2.0 * n_iter,
            follows_gradient=name != "natural",
            takes_loss=name in ("fgsm", "pgd"),
        )

    def loss(self, name: str) -> LossFunction:
        if not name.startswith("python:"):
            raise UserError(f"'{name}': expected a loss such as python:mylosses:one")
        return LossFunction(name=name, sha256=f"{self.salt}{name}")

    def analysis(self, name: str, params: Mapping[str, Any]) -> AnalysisKind:
        if name not in ANALYSES:
            raise UserError(f"unknown analysis '{name}'{did_you_mean(name, ANALYSES)}")
        known, attack_runs, n_models, wants = ANALYSES[name]
        unknown = [
            (k, f"unknown parameter{did_you_mean(k, known)}") for k in params if k not in known
        ]
        if unknown:
            raise ParamsError(tuple(unknown))
        filled = {**known, **params}
        return AnalysisKind(self.version, filled, attack_runs, n_models, wants, 2.0, 3.0)

    def dataset(self, name: str) -> DatasetShape:
        if name not in DATASETS:
            raise UserError(f"unknown data set '{name}'{did_you_mean(name, DATASETS)}")
        return DATASETS[name]

    def images(self, data: DataSpec) -> SliceFacts:
        n = min(data.limit or 10_000, max(10_000 - data.offset, 0))
        sha256 = hashlib.sha256((data.model_dump_json() + self.salt).encode()).hexdigest()
        return SliceFacts(n, sha256)

    def checkpoint(self, name: str) -> ModelFacts:
        if name not in NORMS:
            raise UserError(f"unknown checkpoint '{name}'{did_you_mean(name, NORMS)}")
        sha256 = hashlib.sha256((name + self.salt).encode()).hexdigest()
        spec = ClassifierSpec(
            arch="",
            norm=NormSpec.model_validate(NORMS[name]),
            channels=1,
            size=28,
            classes=10,
            mean=(0.1307,),
            std=(0.3081,),
        )
        return ModelFacts.of(sha256, spec, "fashion-mnist")


@pytest.fixture(scope="session")
def lookup() -> Lookup:
    """A lookup in the tables above."""
    return Fake().lookup


@pytest.fixture(scope="session")
def changed_lookup() -> Lookup:
    """The same lookup after every attack's code, checkpoint and data set changed."""
    return Fake(version=2, salt="changed").lookup


@pytest.fixture(scope="session")
def suites_dir() -> Path:
    """The shipped suites."""
    return Path(__file__).parents[2] / "suites"

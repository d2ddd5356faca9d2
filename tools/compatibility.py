"""Finds out, by running them, which attacks of libraries work on which kinds of model.

``python -m tools.compatibility docs/compatibility.md`` (``make compatibility``) writes the
table. The model is small and trained on the spot, so the table shows what runs, and how it compares
with one step of FGSM under the parameters of ``FEWER``; it does not rank attacks.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.attacks.base import Attack
from bench.attacks.registry import LIBRARIES, adapter
from bench.core.errors import UserError
from bench.core.host import today
from bench.core.norm_spec import NormSpec
from bench.evaluation.api import evaluate
from bench.evaluation.result import EvaluationResult
from bench.norms import norm_factory
from bench.selftest.exact import N_CLASSES, images, template_images
from bench.store.files import write_atomically

N_IMAGES = 16
THREATS = {"linf": "linf:0.02", "l2": "l2:0.4"}
N_DRAWS, EPOCHS, TRAIN_BATCH = 4, 10, 50

NORMS = {
    "plain": NormSpec(name="bn"),
    "stochastic": NormSpec(name="rna", pool=(NormSpec(name="bn"), NormSpec(name="in"))),
    "batch": NormSpec(name="bn", stats="batch"),
}
"""The kinds of model: deterministic, RNA with random paths, and on batch statistics."""

Params = dict[str, Any]

FEWER: dict[str, Params] = {
    "advlib:alma": {"n_iter": 100},
    "advlib:apgd": {"n_iter": 20},
    "advlib:apgd_targeted": {"n_iter": 20, "num_targets": 3},
    "advlib:carlini_wagner_l2": {"n_iter": 100, "binary_search_steps": 4},
    "advlib:carlini_wagner_linf": {"n_iter": 50},
    "advlib:fab": {"n_iter": 20},
    "advlib:fmn": {"n_iter": 100},
    "advlib:pdgd": {"n_iter": 100},
    "advlib:pdpgd": {"n_iter": 100},
    "advlib:str_attack": {"n_iter": 20, "binary_search_steps": 2, "retrain": False},
    "art:AutoConjugateGradient": {"n_iter": 20, "nb_random_init": 1},
    "art:AutoProjectedGradientDescent": {"n_iter": 20, "nb_random_init": 1},
    "art:BoundaryAttack": {"n_iter": 20},
    "art:BrendelBethgeAttack": {"steps": 20},
    "art:GeoDA": {"n_iter": 500, "sub_dim": 5},
    "art:HopSkipJump": {"n_iter": 5, "max_eval": 200, "init_eval": 20},
    "art:RescalingAutoConjugateGradient": {"n_iter": 20, "nb_random_init": 1},
    "art:SignOPTAttack": {"n_iter": 5, "query_limit": 500, "num_trial": 20, "k": 20},
    "art:UniversalPerturbation": {"n_iter": 1},
    "art:ZooAttack": {"use_resize": False, "use_importance": False, "nb_parallel": 32},
    "foolbox:BoundaryAttack": {"n_iter": 200},
    "foolbox:GaussianBlurAttack": {"n_iter": 50},
    "foolbox:HopSkipJumpAttack": {"n_iter": 5, "max_gradient_eval_steps": 50},
    "foolbox:L2BrendelBethgeAttack": {"n_iter": 20},
    "foolbox:L2CarliniWagnerAttack": {"n_iter": 100, "binary_search_steps": 4},
    "foolbox:LinearSearchBlendedUniformNoiseAttack": {"n_iter": 100, "directions": 20},
    "foolbox:LinearSearchContrastReductionAttack": {"n_iter": 100},
    "foolbox:LinfinityBrendelBethgeAttack": {"n_iter": 20},
    "foolbox:SaltAndPepperNoiseAttack": {"n_iter": 100},
    "foolbox:VirtualAdversarialAttack": {"n_iter": 5},
    "torchattacks:AutoAttack": {"version": "rand"},
    "torchattacks:CW": {"n_iter": 100},
    "torchattacks:EADEN": {"n_iter": 20, "binary_search_steps": 3},
    "torchattacks:EADL1": {"n_iter": 20, "binary_search_steps": 3},
    "torchattacks:FAB": {"n_iter": 5},
    "torchattacks:JSMA": {},
    "torchattacks:OnePixel": {"n_iter": 3},
    "torchattacks:Pixle": {"n_restarts": 3, "n_iter": 3},
    "torchattacks:SPSA": {"nb_sample": 16, "max_batch_size": 16},
    "torchattacks:Square": {"n_queries": 200},
}
"""Parameters that save time, or have no default in the library; others are the library's."""

SLOW = {"art:AutoAttack": "not run: 5,000 queries of Square, which no parameter lowers"}

VERDICTS = ("ok", "weak", "fails", "refused", "not run")
COLUMNS = ("attack", "kind", "norm", "plain", "stochastic", "batch-dependent")


@cache
def tiny_model(kind: str) -> nn.Module:
    """Returns a model of ``NORMS`` with two convolutions, trained for some seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm = norm_factory(NORMS[kind])
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), norm(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1), norm(16), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 49, N_CLASSES),
        )  # fmt: skip
        data, optimizer = template_images(), torch.optim.Adam(model.parameters(), 0.005)
        for _ in range(EPOCHS):
            order = torch.randperm(len(data.y))
            for start in range(0, len(order), TRAIN_BATCH):
                rows = order[start : start + TRAIN_BATCH]
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(data.x[rows]), data.y[rows])
                torch.autograd.backward(loss)
                optimizer.step()
    return model.eval()


def _accuracy(kind: str, norm: str, attack: str) -> float:
    """Returns the verified accuracy under an attack.

    Raises:
        UserError: When the attack is refused, or fails.
    """
    data = images(N_IMAGES)
    found: EvaluationResult = evaluate(
        tiny_model(kind),
        data.x,
        data.y,
        THREATS[norm],
        [{"attack": attack, "params": FEWER.get(attack, {}), "label": attack}],
        stochastic=kind == "stochastic",
        batch_dependent=kind == "batch",
        probe=False,
        batch_size=N_IMAGES,
        n_draws=N_DRAWS,
        search="exact",
    )
    if not found[attack].info.complete:
        raise RuntimeError(found[attack].info.error.partition(": ")[2])
    return found.robust_accuracy(attack).value


@cache
def _fgsm(kind: str, norm: str) -> float:
    return _accuracy(kind, norm, "fgsm")


def verdict(kind: str, norm: str, attack: str) -> str:
    """Returns the outcome of an attack on a kind of model, in a few words."""
    if attack in SLOW and kind != "batch":
        return SLOW[attack]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _accuracy(kind, norm, attack)
    except UserError as error:
        return "refused" if "drops samples" in str(error) else f"refused: {_short(str(error))}"
    except RuntimeError as error:
        _, refused, why = str(error).removeprefix(f"{attack} failed: ").rpartition("UserError: ")
        return f"{'refused' if refused else 'fails'}: {_short(why)}"
    beside = _fgsm(kind, norm)
    if found > beside + 1 / N_IMAGES:
        return f"weak: {found:.0%}, FGSM {beside:.0%}"
    return f"ok: {found:.0%}"


def _short(text: str, limit: int = 100) -> str:
    text = " ".join(text.split()).replace("|", "/")
    text = text.removeprefix("the attack's images fail verification: ")
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " ..."


def _rows(prefix: str) -> Iterator[tuple[str, ...]]:
    library = adapter(prefix)
    for name, why in library.library_names().items():
        if not why:
            attack: Attack = library.named_attack(name)
            for norm in attack.norms:
                cells = [verdict(kind, norm, attack.name) for kind in NORMS]
                logging.info("%s, %s: %s", attack.name, norm, cells)
                yield (f"`{name}`", attack.kind, norm, *cells)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    head = [columns, ("---",) * len(columns)]
    return ["| " + " | ".join(row) + " |" for row in [*head, *rows]]


def section(prefix: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Returns the section about one library, and its rows of the summary."""
    try:
        names = adapter(prefix).library_names()
    except UserError as error:
        return [f"## {prefix}", "", str(error)], []
    rows = list(_rows(prefix))
    library = adapter(prefix).named_attack(next(n for n, why in names.items() if not why)).library
    refused = [(f"`{prefix}:{name}`", why) for name, why in names.items() if why]
    title = f"## {prefix}: {library} {importlib.metadata.version(library)}"
    lines = [title, "", *_table(COLUMNS, rows)]
    if refused:
        lines += ["", "Refused:", "", *_table(("attack", "why"), refused)]
    return lines, _counted(prefix, rows)


def _counted(prefix: str, rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Returns the number of times of each verdict, for each kind of model."""
    found = []
    for i, kind in enumerate(COLUMNS[3:], start=3):
        words = Counter(row[i].split(":")[0] for row in rows)
        found.append((f"`{prefix}:`", kind, *(str(words[word]) for word in VERDICTS)))
    return found


def preface() -> list[str]:
    """Returns the introduction of the page."""
    clean = {kind: _accuracy(kind, "linf", "natural") for kind in NORMS}
    fgsm = {norm: _fgsm("plain", norm) for norm in THREATS}
    return [
        "# Attacks of other libraries",
        "",
        "Written by `make compatibility`, which runs every attack; do not edit. "
        f"Model: two convolutions, {N_IMAGES} images of Fashion-MNIST in one batch, "
        f"{' and '.join(THREATS.values())}, {N_DRAWS} fresh draws; torch {torch.__version__}, "
        f"{today()}. "
        "Clean accuracy: "
        + ", ".join(f"{kind} {value:.0%}" for kind, value in clean.items())
        + "; under FGSM (plain): "
        + ", ".join(f"{norm} {value:.0%}" for norm, value in fgsm.items())
        + ".",
        "",
        "Percentages are verified robust accuracies under few iterations (`FEWER` in "
        "`tools/compatibility.py`): they say that an attack works, not which is best. A "
        "minimum-norm attack minimizes its own norm, and counts where it ends within eps in the "
        "threat model's. *weak*: it leaves more than one image more than one step of FGSM does. "
        "*refused*: it passes parts of a batch, which changes a batch-dependent model. *fails*: a "
        "suite shows its cell as incomplete, never as robust.",
        "",
    ]


def main(arguments: list[str]) -> None:
    """Writes the page; the arguments are a file and, optionally, the libraries."""
    prefixes = arguments[1:] or list(LIBRARIES)
    head, body, counted = preface(), list[str](), list[tuple[str, ...]]()
    for prefix in prefixes:
        lines, counts = section(prefix)
        body += [*lines, ""]
        counted += counts
        page = [*head, *_table(("library", "model", *VERDICTS), counted), "", *body]
        write_atomically(Path(arguments[0]), ("\n".join(page).rstrip() + "\n").encode())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(sys.argv[1:])

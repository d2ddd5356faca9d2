"""Attacks on public networks whose robustness complete verifiers have proved, image by image.

    python -m tools.truth FOLDER            # writes reports/truth
    python -m tools.truth FOLDER --attacks auto

FOLDER has a folder for each family: ``load.py`` with a function for each network, and
``instances.npz`` (verdicts of a verifier on boxes) or ``certified*.npz`` (certified images of a
test set). Neither networks nor images enter the project.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.attacks import Budget, get_attack, parse_params
from bench.core.host import processor
from bench.data.roots import data_root
from bench.data.slice import load_split
from bench.oracle import Oracle, QueryRules, frozen
from bench.verify import judge

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "reports" / "truth" / "README.md"
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "PGD-100": ("pgd", {"n_iter": 100, "n_restarts": 2}),
    "auto": ("auto", {}),
    "AutoAttack": ("autoattack", {}),
}
CIFAR_TEST = "npz:cifar10_test_lossless_first1017.npz"
"""The first test images of CIFAR-10, exact."""

CERTIFIED = 200
"""Images of a test set that are attacked, of those that a certificate speaks of."""


@dataclass(frozen=True)
class Problem:
    """Images of one network in balls of one size, with what is proved of each.

    Attributes:
        family: Name of the folder.
        network: Name of the function that loads it.
        norm: Of the balls.
        eps: Their radius in pixel units.
        x: Images (n, c, h, w) in [0, 1].
        y: Labels (n,).
        target: The class that alone counts (n,); -1 for any.
        verdict: ``robust``, ``broken``, ``wrong`` or ``open``, for each image.
    """

    family: str
    network: str
    norm: str
    eps: float
    x: Tensor
    y: Tensor
    target: Tensor
    verdict: tuple[str, ...]


@dataclass
class Tally:
    """What an attack did to the images of a family.

    Attributes:
        images: Images attacked.
        proved: Those proved robust.
        contradicted: Those of them that it claims to break.
        known: Those known to be broken.
        found: Those of them that it breaks.
        standing: Images that it leaves right.
        passes: Forward and backward passes.
        seconds: Time.
    """

    images: int = 0
    proved: int = 0
    contradicted: int = 0
    known: int = 0
    found: int = 0
    standing: int = 0
    passes: float = 0.0
    seconds: float = 0.0


def load_module(folder: Path) -> ModuleType:
    """Imports the ``load.py`` of a family."""
    spec = importlib.util.spec_from_file_location(f"truth_{folder.name}", folder / "load.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problems(folder: Path, root: Path) -> Iterator[Problem]:
    """Yields all problems of a family."""
    instances = folder / "instances.npz"
    if instances.exists():
        with np.load(instances) as stored:
            found = {key: stored[key] for key in stored.files}
        if "x" not in found:
            found["x"] = load_split("mnist", "test", root).x[found["index"]]
        n = len(found["y"])
        found.setdefault("model", np.full(n, "model"))
        found.setdefault("target", np.full(n, -1))
        groups = defaultdict(list)
        for i in range(n):
            groups[str(found["model"][i]), float(found["eps"][i])].append(i)
        for (network, eps), at in sorted(groups.items()):
            yield Problem(
                folder.name,
                network,
                "linf",
                eps,
                torch.tensor(found["x"][at] / 255.0, dtype=torch.float32),
                torch.tensor(found["y"][at], dtype=torch.int64),
                torch.tensor(found["target"][at], dtype=torch.int64),
                tuple(map(str, found["verdict"][at])),
            )
    if instances.exists() and not folder.name.startswith("cifar"):
        return
    for file in sorted(folder.glob("certified*.npz")):
        with np.load(file) as stored:
            index, sure = stored["index"][:CERTIFIED], stored["certified"][:CERTIFIED]
            norm, eps = str(stored["norm"]), float(stored["eps"])
        test = load_split(CIFAR_TEST, "test", root)
        network = file.stem.removeprefix("certified").strip("_") or "model"
        yield Problem(
            folder.name,
            network,
            norm,
            eps,
            torch.tensor(test.x[index] / 255.0, dtype=torch.float32),
            torch.tensor(test.y[index], dtype=torch.int64),
            torch.full((len(index),), -1),
            tuple("robust" if one else "open" for one in sure),
        )


def attack(name: str, model: nn.Module, problem: Problem, tally: Tally) -> None:
    """Attacks the images of a problem and adds to the tally."""
    entry_name, values = ATTACKS[name]
    entry, budget = get_attack(entry_name), Budget(problem.norm, (problem.eps,))
    started = time.monotonic()
    for first in range(0, len(problem.y), 100):
        part = slice(first, first + 100)
        x, y = problem.x[part], problem.y[part]
        oracle = Oracle(model, x, 10, QueryRules(fast=True))
        with frozen(model):
            x_adv = entry.run(oracle, x, y, budget, parse_params(entry, values), 0)
        with torch.no_grad():
            said = model(x_adv).argmax(1)
        inside = torch.tensor([s == "ok" for s in judge(x, x_adv, budget, "bounded")])
        target = problem.target[part]
        broken = inside & torch.where(target < 0, said != y, said == target)
        proved, known = (
            torch.tensor([v == what for v in problem.verdict[part]])
            for what in ("robust", "broken")
        )
        tally.images += len(y)
        tally.proved += int(proved.sum())
        tally.contradicted += int((proved & broken).sum())
        tally.known += int(known.sum())
        tally.found += int((known & broken).sum())
        tally.standing += int((said == y).sum())
        tally.passes += float((oracle.passes.forwards + oracle.passes.backwards).sum())
    tally.seconds += time.monotonic() - started


def tallies(folder: Path, root: Path, names: Sequence[str]) -> dict[tuple[str, str], Tally]:
    """Runs attacks on all families; returns a tally for each family and attack."""
    found: dict[tuple[str, str], Tally] = {}
    for family in sorted(path.parent for path in folder.glob("*/load.py")):
        module = load_module(family)
        models: dict[str, nn.Module] = {}
        for problem in problems(family, root):
            model = models.setdefault(problem.network, getattr(module, problem.network)())
            for name in names:
                attack(name, model, problem, found.setdefault((family.name, name), Tally()))
        for name in names:
            print(family.name, name, found[family.name, name], flush=True)
    return found


def table(found: dict[tuple[str, str], Tally]) -> str:
    """Returns the tallies as a Markdown table."""
    lines = [
        "| networks | attack | proofs contradicted | broken images found | images left right | "
        "passes an image | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (family, name), one in found.items():
        cells = (
            f"{one.contradicted} of {one.proved}",
            f"{one.found} of {one.known}" if one.known else "none known",
            f"{one.standing} of {one.images}",
            f"{one.passes / one.images:,.0f}",
            f"{one.seconds:.0f}",
        )
        lines.append(f"| {family} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


PREFACE = """# Attacks beside proofs

Public networks, in their own norm and radius, with verdicts that complete verifiers proved image by
image (VNN-COMP 2020 to 2022; MIPVerify; bounds of auto_LiRPA). An attack that breaks an image that
is proved robust is wrong, and so is one that misses an image for which a counterexample is known.
Nets and images are not part of this project.

- **cifar-oval**: three networks of OVAL, linf near each image's threshold, one target class each;
  and the first 200 test images at 2/255, of which a bound proves some.
- **cifar-wong-l2-36**: Wong et al. 2018, l2 36/255, the first 200 test images.
- **mnist-fc**: fully connected networks of 2, 4 and 6 layers, linf 0.03 and 0.05.
- **mnist-verivital**: two small networks with average and max pooling, all verdicts known.
- **mnist-wong-linf01**: Wong and Kolter 2018, linf 0.1, the first 500 test images, all decided: 476
  robust, 16 broken, 8 wrong.

Made by `python -m tools.truth FOLDER`, {date}, {machine}, one thread; PGD-100 with two restarts.

"""


def main() -> None:
    """Runs the attacks and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    found = tallies(wanted.folder, data_root(None), wanted.attacks)
    print(table(found))
    if list(wanted.attacks) == list(ATTACKS):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        date = f"{datetime.now(UTC):%Y-%m-%d}"
        text = PREFACE.format(date=date, machine=processor()) + table(found) + "\n"
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

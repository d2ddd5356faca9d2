"""Makes real changes to models, code and suites, and records the verdict of ``rbench check``.

``python tools/regression_changes.py --seeds FOLDER_A FOLDER_B``; the two checkpoints are of one
recipe with two seeds. The result is written to ``reports/regression_changes.md``. It takes about a
quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from bench.core.host import processor
from bench.zoo import open_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "reports" / "regression_changes.md"
BASE = "fmnist-resnet20-bn-at"

SUITE: dict[str, Any] = {
    "suite": "guard",
    "data": {"name": "fashion-mnist", "limit": 500, "seed": 0, "stratified": True},
    "threat_model": {"norm": "linf", "eps": 0.1},
    "batch_size": 100,
    "search": "exact",
    "convergence_images": 0,
    "models": [{"checkpoint": BASE, "label": "model"}],
    "attacks": [
        "natural",
        {"attack": "fgsm", "label": "FGSM"},
        {"attack": "pgd", "label": "PGD-20", "params": {"n_iter": 20, "alpha": 0.0125}},
    ],
}

PATCHES = {
    "one layer": """
        from bench.zoo import checkpoint
        load = checkpoint.Checkpoint.load
        def changed(self, stats=None):
            model = load(self, stats)
            norms = [m for m in model.modules() if type(m).__name__ == "BatchNorm"]
            norms[len(norms) // 2].stats = "batch"
            return model
        checkpoint.Checkpoint.load = changed
    """,
    "wrong way": """
        from bench.attacks.ball import BALLS
        linf = BALLS["linf"]
        direction = linf.ascent_direction
        linf.ascent_direction = lambda self, grad: -direction(self, grad)
    """,
    "half of the pixels": """
        from bench.attacks.ball import BALLS
        linf = BALLS["linf"]
        direction = linf.ascent_direction
        def changed(self, grad):
            found = direction(self, grad)
            found[..., : found.shape[-1] // 2] = 0
            return found
        linf.ascent_direction = changed
    """,
}


@dataclass(frozen=True)
class Change:
    """A change, and the right verdict on it.

    Attributes:
        title: Title in the report.
        expected: The right verdicts.
        model: The checkpoint after the change.
        before: The checkpoint before it.
        suite: Keys of the suite that change.
        common: Keys of the suite both before and after the change.
        patch: Patch of the code after the change.
    """

    title: str
    expected: str
    model: str = BASE
    before: str = BASE
    suite: dict[str, Any] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    patch: str = ""


def rbench(arguments: list[str], patch: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, with patched code."""
    lines = [line.removeprefix(" " * 8) for line in patch.splitlines()]
    code = "\n".join([*lines, "import sys", "from bench.cli import main", "main()"])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT
    )


def perturbed(folder: Path, name: str, share: float) -> None:
    """Writes the base checkpoint with noise on every weight, relative to its tensor's size."""
    base = open_checkpoint(ROOT / "checkpoints" / BASE)
    model = base.load()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.net.parameters():
            size = weight.square().mean().sqrt()
            weight += share * size * torch.randn(weight.shape, generator=draw)
    save_checkpoint(folder / name, model.net, base.card.model_copy(update={"name": name}))


def measure(change: Change, folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Runs before and after, and returns the verdicts of the check and its exit code."""
    files = []
    for when, name in (("before", change.before), ("after", change.model)):
        suite = SUITE | change.common
        suite = suite | {"models": [{"checkpoint": name, "label": "model"}]}
        if when == "after":
            suite = suite | change.suite
        path = folder / f"{when}.yaml"
        path.write_text(yaml.safe_dump(suite))
        out = folder / when
        shutil.rmtree(out, ignore_errors=True)
        zoo = ["--checkpoints", str(folder / "zoo"), "--workers", "1"]
        patch = PATCHES.get(change.patch, "") if when == "after" else ""
        done = rbench(["run", str(path), "--out", str(out), *zoo], patch)
        if done.returncode:
            raise SystemExit(f"{change.title}: {when}: {done.stdout}{done.stderr}")
        files.append(out)
    baseline, said = folder / "baseline.jsonl", folder / "said.json"
    # A baseline should have no alarms, but some natural models raise them.
    force = ["--force", "--accept-regressions"]
    update = rbench(["baseline", "update", str(files[0]), "--to", str(baseline), *force])
    if update.returncode:
        raise SystemExit(update.stderr)
    check = rbench(["check", str(files[1]), "--baseline", str(baseline), "--json", str(said)])
    return json.loads(said.read_text())["cells"], check.returncode


def rows(change: Change, cells: list[dict[str, Any]], code: int) -> Iterator[str]:
    """Yields the lines of a change, the first with its title and exit code."""
    for i, cell in enumerate(cells):
        before, now = ((cell[k] or {}).get("value") for k in ("before", "now"))
        numbers = [("" if v is None else f"{100 * v:.1f}") for v in (before, now)]
        p = "" if cell["adjusted"] is None else f"{cell['adjusted']:.2g}"
        why = "; ".join(cell["reasons"])
        first = [change.title, change.expected, str(code)] if not i else ["", "", ""]
        yield "| " + " | ".join([*first, cell["attack"], *numbers, p, cell["verdict"], why]) + " |"


def page(changes: list[Change], folder: Path, say: Callable[[str], None]) -> str:
    """Returns the report, printing its lines as they are made."""
    lines = [
        "# What `rbench check` says of real changes",
        "",
        f"`{BASE}` under three attacks at linf 0.1 on 500 Fashion-MNIST test images, before and "
        "after a change; the run before is the baseline, at the default level of 1 %. Of two "
        "seeds, both are natural ResNet-20 with BatchNorm, three epochs of one recipe, at linf "
        "0.01. p is after Holm's correction for the three cells.",
        "",
        "| change | what is right | exit code | attack | before | now | p | verdict | why |",
        "| :-- | :-- | --: | :-- | --: | --: | --: | :-- | :-- |",
    ]
    for change in changes:
        for line in rows(change, *measure(change, folder)):
            say(line)
            lines.append(line)
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    command = "`python tools/regression_changes.py --seeds A B`"
    return "\n".join([*lines, "", f"Measured on {processor()}, {when}. Command: {command}.", ""])


def main() -> None:
    """Makes the changes and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs=2, type=Path, metavar=("A", "B"), default=None)
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    pgd = {"attack": "pgd", "label": "PGD-20", "params": {"n_iter": 3, "alpha": 0.0125}}
    changes = [
        Change("none: the same run again", "same"),
        Change(
            "0.1 % of noise on every weight", "same, as far as can be seen", model="noise-0.001"
        ),
        Change("30 % of noise on every weight", "regressed", model="noise-0.3"),
        Change("one norm layer on batch statistics, in code", "not the same", patch="one layer"),
        Change(
            "all norm layers on batch statistics, in the suite",
            "not comparable",
            suite={"models": [{"checkpoint": BASE, "label": "model", "stats": "batch"}]},
        ),
        Change(
            "PGD weakened: 3 steps in place of 20",
            "not comparable",
            suite={"attacks": [*SUITE["attacks"][:2], pgd]},
        ),
        Change("steps in the wrong direction, in code", "regressed", patch="wrong way"),
        Change("half of the pixels left alone, in code", "regressed", patch="half of the pixels"),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "checkpoints" / BASE, folder / "zoo" / BASE)
        perturbed(folder / "zoo", "noise-0.001", 0.001)
        perturbed(folder / "zoo", "noise-0.3", 0.3)
        if given.seeds:
            for path in given.seeds:
                shutil.copytree(path, folder / "zoo" / path.name)
            first, second = (path.name for path in given.seeds)
            small = {"threat_model": {"norm": "linf", "eps": 0.01}}
            pgd = {"attack": "pgd", "label": "PGD-20", "params": {"n_iter": 20, "alpha": 0.00125}}
            small["attacks"] = [*SUITE["attacks"][:2], pgd]
            title, right = "trained again with another seed", "never the same"
            changes.append(Change(title, right, model=second, before=first, common=small))
        text = page(changes, folder, lambda line: print(line, flush=True))
    given.out.write_text(text)


if __name__ == "__main__":
    main()

"""Writes ``checkpoints/README.md`` from the cards and the recipes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from bench.zoo.card import Card, CleanAccuracy, RobustAccuracy, read_card
from bench.zoo.checkpoint import CARD, WEIGHTS, list_folders

INTRO = """\
<!-- Written by `rbench zoo readme`. Change a card or a recipe, and run it again. -->

# Checkpoints

`NAME/model.safetensors` holds the weights, `NAME/card.yaml` says what they are: architecture, norm,
data set, input mean and std, the whole recipe, seed, epochs, accuracies and on how many images,
versions, and the sha256 that loading checks.

- `rbench zoo show NAME` prints a card, `rbench zoo verify` hashes and scores all of them again.
- `recipes/` trains them again: `rbench train NAME`.
- `rbench zoo import FILE --arch ... --norm ... --dataset ...` brings in other people's weights.

Clean accuracy is that of the test images in brackets, in float32. PGD-20 is a quick attack (20
steps of a quarter of eps from one random start, eps in pixels, linf) with its 95 % interval: an
upper bound on robustness that tells checkpoints apart, not an evaluation of any of them.
"""

COLUMNS = (
    "name",
    "training",
    "norm",
    "clean accuracy (n)",
    "PGD-20 (n, eps)",
    "epochs",
    "KiB",
    "trained",
)
_NUMERIC = ("epochs", "KiB")


class OpenRecipe(Protocol):
    """A recipe that has no checkpoint yet."""

    @property
    def name(self) -> str:
        """The name of its future checkpoint."""

    @property
    def dataset(self) -> str:
        """The data set that it trains on."""

    @property
    def scale(self) -> str:
        """``paper`` or ``compact``."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint in the table: its card and the size of its weights in bytes."""

    card: Card
    n_bytes: int


def read_entries(folder: Path) -> list[Entry]:
    """Reads the cards of a folder of checkpoints.

    Raises:
        UserError: When a card is invalid.
    """
    entries = []
    for one in list_folders([folder]):
        weights = one / WEIGHTS
        n_bytes = weights.stat().st_size if weights.is_file() else 0
        entries.append(Entry(read_card(one / CARD), n_bytes))
    return entries


def render_readme(entries: Sequence[Entry], recipes: Iterable[OpenRecipe]) -> str:
    """Returns the page: a table per data set, then the recipes without a checkpoint."""
    parts = [INTRO]
    ordered = sorted(entries, key=lambda entry: (entry.card.dataset, entry.card.name))
    for dataset, group in itertools.groupby(ordered, lambda entry: entry.card.dataset):
        parts.append(f"## {_cell(dataset)}\n\n{_table(COLUMNS, map(_row, group))}")
    total = sum(entry.n_bytes for entry in entries)
    parts.append(f"{len(entries)} checkpoints, {total / 2**20:.1f} MiB.\n")
    trained = {entry.card.name for entry in entries}
    waiting = sorted((r for r in recipes if r.name not in trained), key=_order)
    parts.append("## Open\n\n" + _open(waiting))
    return "\n".join(parts)


def _order(recipe: OpenRecipe) -> tuple[str, str, str]:
    return (recipe.scale, recipe.dataset, recipe.name)


def _open(waiting: Sequence[OpenRecipe]) -> str:
    if not waiting:
        return "Every recipe has its checkpoint.\n"
    lines = [
        f"{len(waiting)} recipes wait for hardware or time; `rbench train NAME` trains one.\n",
    ]
    for (scale, dataset), group in itertools.groupby(waiting, lambda r: (r.scale, r.dataset)):
        names = ", ".join(f"`{recipe.name}`" for recipe in group)
        lines.append(f"- {_cell(dataset)}, {_cell(scale)}: {names}")
    return "\n".join(lines) + "\n"


def _row(entry: Entry) -> tuple[str, ...]:
    card = entry.card
    return (
        f"[{_cell(card.name)}]({quote(card.name)}/{CARD})",
        _cell(_training(card)),
        _cell(_norm(card)),
        _clean(card.clean_accuracy, card.dataset),
        _robust(card.robust_accuracy),
        "" if card.epochs is None else str(card.epochs),
        f"{entry.n_bytes / 1024:.0f}",
        _cell(card.trained.partition(",")[0]),
    )


def _training(card: Card) -> str:
    """Returns the kind of training in a few words; an import's file is on its card only."""
    kind, scale = card.training.partition(":")[0], card.recipe.get("scale")
    return f"{kind}, {scale}" if scale else kind


def _norm(card: Card) -> str:
    norm = card.model.norm
    return f"rn, p = {norm.power:g}" if norm.name == "rn" else norm.label()


def _clean(clean: CleanAccuracy, dataset: str) -> str:
    other = "" if clean.split == f"{dataset} test" else f" of {_cell(clean.split)}"
    many = [f"{clean.n:,}{other}"]
    if clean.batch_size is not None:
        many.append(f"batches of {clean.batch_size}")
    return f"{clean.value:.2%} ({', '.join(many)})"


def _robust(robust: RobustAccuracy | None) -> str:
    if robust is None:
        return "not measured"
    ends = (robust.low, robust.high)
    interval = "".join(f"{end:.1%} " for end in ends if end is not None).strip()
    between = f" [{interval.replace(' ', ', ')}]" if interval else ""
    eps = re.search(r"\b(?:linf|l2) ([^,]+)", robust.attack)
    return f"{robust.value:.1%}{between} ({robust.n:,}, {_cell(eps[1] if eps else robust.attack)})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---:" if name in _NUMERIC else "---" for name in columns]
    lines = [columns, rule, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """Escapes a text from a card, which may come from other people, for a table cell."""
    escaped = re.sub(r"([\\`*|<\[\]&~])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)

"""The README of the checkpoints: the same cards give the same page, and nothing breaks out of it.

After a wanted change of the page: ``REGENERATE_GOLDEN=1 pytest tests/zoo/test_zoo_readme.py``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.core.model_spec import ModelSpec
from bench.zoo import Card, CleanAccuracy, RobustAccuracy
from bench.zoo.card import write_card
from bench.zoo.readme import Entry, read_entries, render_readme

GOLDEN = Path(__file__).parent / "golden" / "README.md"


@dataclass(frozen=True)
class Recipe:
    name: str
    dataset: str
    scale: str


def card(name: str, norm: Any, dataset: str = "fashion-mnist", **changes: Any) -> Card:
    spec = {"arch": "resnet20", "channels": 1, "size": 28, "classes": 10, "mean": [0], "std": [1]}
    base = Card(
        name=name,
        model=ModelSpec.model_validate(spec | {"norm": norm}),
        dataset=dataset,
        training="natural",
        recipe={"scale": "compact"},
        epochs=8,
        clean_accuracy=CleanAccuracy(value=0.9313, n=10000, split=f"{dataset} test"),
        versions={},
        trained="2026-11-21, CPU, 1 threads, bf16 autocast",
        sha256="0" * 64,
    )
    return base.model_copy(update=changes)


def pgd(value: float, **changes: Any) -> RobustAccuracy:
    fields: dict[str, Any] = {
        "value": value,
        "low": value - 0.04,
        "high": value + 0.04,
        "n": 512,
        "attack": "PGD-20, linf 0.1, alpha 0.025",
        "split": "fashion-mnist test",
        "protocol": "white_box",
    }
    return RobustAccuracy.model_validate(fields | changes)


def entries() -> list[Entry]:
    foreign = CleanAccuracy(value=0.916, n=1017, split="npz:exact.npz test")
    fixed = CleanAccuracy(value=0.8589, n=10000, split="fashion-mnist test", batch_size=128)
    rna = {"name": "rna", "pool": ["bn", "in"]}
    alone = pgd(0.3, low=None, high=None, n=100)
    return [
        Entry(card("b-rn", "rn", clean_accuracy=fixed, robust_accuracy=alone), 1_091_000),
        Entry(card("a-bn-at", "bn", training="adversarial", robust_accuracy=pgd(0.684)), 1_093_000),
        Entry(card("c-rna", rna, epochs=0, robust_accuracy=pgd(0.5, attack="other")), 1_104_000),
        Entry(
            card(
                "theirs",
                {"name": "gn", "groups": 8},
                "cifar10",
                training="foreign: a|b`<img>.th (sha256 00)",
                recipe={},
                epochs=None,
                trained="",
                clean_accuracy=foreign,
            ),
            540_000,
        ),
        Entry(card("odd", "bn", "npz:[x](http://y)|*.npz", trained="<b>|\n# now"), 10),
    ]


RECIPES = [
    Recipe("fmnist-z", "fashion-mnist", "compact"),
    Recipe("a-bn-at", "fashion-mnist", "compact"),
    Recipe("fmnist-y-paper", "fashion-mnist", "paper"),
    Recipe("fmnist-x", "fashion-mnist", "compact"),
    Recipe("cifar-x", "cifar10", "compact"),
]


def test_the_page_is_the_golden_one_in_any_order() -> None:
    page = render_readme(entries(), RECIPES)
    if os.environ.get("REGENERATE_GOLDEN"):
        GOLDEN.write_text(page, encoding="utf-8")
    assert page == render_readme(entries()[::-1], RECIPES[::-1])
    assert page == GOLDEN.read_text(encoding="utf-8")


def test_other_peoples_words_stay_in_their_cells() -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(render_readme(entries(), RECIPES))
    rows = [i for i, token in enumerate(tokens) if token.type == "tr_open"]
    assert len(rows) == len(entries()) + 3
    for start in rows:
        end = next(i for i in range(start, len(tokens)) if tokens[i].type == "tr_close")
        cells = [t for t in tokens[start:end] if t.type == "inline"]
        assert len(cells) == 8
        kinds = {child.type for cell in cells for child in cell.children}
        assert kinds <= {"text", "text_special", "link_open", "link_close"}
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings[1:3] == ["cifar10", "fashion-mnist"] and headings[-1] == "Open"
    assert len(headings) == 5


def test_all_done_is_said() -> None:
    assert "## Open\n\nEvery recipe has its checkpoint.\n" in render_readme(entries(), RECIPES[1:2])


def test_entries_come_from_the_folder(tmp_path: Path) -> None:
    for name, size in (("b", 2048), ("a", 0)):
        (tmp_path / name).mkdir()
        write_card(tmp_path / name / "card.yaml", card(name, "bn"))
        if size:
            (tmp_path / name / "model.safetensors").write_bytes(bytes(size))
    (tmp_path / "recipes").mkdir()
    found = [(entry.card.name, entry.n_bytes) for entry in read_entries(tmp_path)]
    assert found == [("a", 0), ("b", 2048)]

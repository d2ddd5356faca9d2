"""Books of recipes: merging, errors, names, and that the shipped ones cover both papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.errors import UserError
from bench.core.spec import digest
from bench.models import build_model
from bench.train.recipe import Recipe, find_recipes, list_recipes, read_recipes

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "recipes"
COMMON: dict[str, Any] = {
    "model": {"arch": "resnet20", "channels": 1, "size": 28, "classes": 4, "mean": [0], "std": [1]},
    "dataset": "mnist",
    "epochs": 2,
    "lr": 0.1,
}
BOOK: dict[str, Any] = {
    "title": "Two norms",
    "common": COMMON,
    "recipes": [
        {"name": "one", "model": {"norm": "bn"}},
        {"name": "two", "model": {"norm": {"name": "gn", "groups": 8}}, "lr": 0.5},
    ],
}


def write(path: Path, data: object) -> Path:
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_own_keys_are_laid_over_the_common_ones(tmp_path: Path) -> None:
    one, two = read_recipes(write(tmp_path / "book.yaml", BOOK))
    assert (one.name, one.model.norm.label(), one.lr) == ("one", "bn", 0.1)
    assert (two.name, two.model.norm.label(), two.lr) == ("two", "gn8", 0.5)
    assert one.model.arch == two.model.arch == "resnet20"


def test_a_single_recipe_is_a_book_of_one(tmp_path: Path) -> None:
    one = read_recipes(write(tmp_path / "book.yaml", BOOK))[0]
    alone = write(tmp_path / "alone.yaml", one.model_dump(mode="json", exclude_none=True))
    assert read_recipes(alone) == [one]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipes": []}, r"book\.yaml: recipes: "),
        ({"recipe": []}, r"book\.yaml: recipe: unknown key; did you mean 'recipes'"),
        ({"recipes": [{"name": "x"}]}, r"book\.yaml: recipe x: model.norm: Field required"),
        ({"recipes": [{"model": {"norm": "bn"}}]}, r"book\.yaml: recipe 1: name: "),
        (
            {"recipes": [BOOK["recipes"][0], BOOK["recipes"][0]]},
            r"book\.yaml: more than one recipe is named one",
        ),
        (
            {"recipes": [{"name": "x", "model": {"norm": "bn"}, "epoch": 1}]},
            r"recipe x: epoch: unknown key; did you mean 'epochs'",
        ),
    ],
)
def test_a_wrong_book_names_the_recipe_and_the_key(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "book.yaml", BOOK | change)
    with pytest.raises(UserError, match=message) as caught:
        read_recipes(path)
    assert "\n" not in str(caught.value)


def test_recipes_are_found_by_file_book_and_name(tmp_path: Path) -> None:
    path = write(tmp_path / "book.yaml", BOOK)
    assert [r.name for r in find_recipes(str(path), tmp_path)] == ["one", "two"]
    assert [r.name for r in find_recipes("book", tmp_path)] == ["one", "two"]
    assert [r.name for r in find_recipes("two", tmp_path)] == ["two"]
    with pytest.raises(UserError, match=r"no recipe of that name in .*did you mean 'two'"):
        find_recipes("twoo", tmp_path)
    with pytest.raises(UserError, match=r"gone\.yaml: no such file"):
        find_recipes("gone.yaml", tmp_path)


def test_two_books_cannot_share_a_name(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", BOOK)
    write(tmp_path / "b.yaml", BOOK)
    with pytest.raises(UserError, match="more than one recipe is named one, two"):
        list_recipes(tmp_path)


def shipped(scale: str) -> list[Recipe]:
    return [recipe for recipe in list_recipes(SHIPPED) if recipe.scale == scale]


def told(recipes: list[Recipe]) -> set[tuple[str, str, str, str]]:
    return {(r.dataset, r.model.arch, r.model.norm.label(), r.kind) for r in recipes}


@pytest.mark.process
def test_every_trained_row_of_both_papers_has_a_recipe() -> None:
    found = told(shipped("paper"))
    rna = [("bn", "adversarial"), ("bgn32", "adversarial"), ("in", "adversarial")]
    rna += [("gn32", "adversarial"), ("ln", "adversarial"), ("rna(bn+in)", "black-box")]
    wanted = {
        (dataset, arch, norm, kind)
        for dataset in ("cifar10", "cifar100")
        for arch in ("resnet18", "wrn32")
        for norm, kind in rna
    }
    wanted |= {
        ("cifar10", "resnet18", f"rna({pool})", "black-box")
        for pool in ("gn32+bgn32", "gn32+ln", "ln+bn")
    }
    wanted |= {("cifar10", "resnet18", norm, "natural") for norm in ("bn", "bgn32", "ln", "in")}
    for dataset in ("mnist", "fashion-mnist", "cifar10", "cifar100"):
        wanted |= {(dataset, "resnet20", norm, "natural") for norm in ("bn", "rn")}
    wanted |= {("cifar10", "resnet20", norm, "natural") for norm in ("none", "fixup", "ln")}
    wanted |= {
        ("cifar10", arch, norm, "natural")
        for arch in ("resnet38", "resnet50", "vgg11", "vgg16")
        for norm in ("bn", "rn")
    }
    wanted |= {(dataset, "resnet20", "bn", "adversarial") for dataset in ("cifar10", "cifar100")}
    wanted |= {("imagenet", "resnet18", norm, "natural") for norm in ("bn", "rn")}
    assert wanted <= found, wanted - found
    assert any(r.dataset == "imagenet" and r.kind == "black-box" for r in shipped("paper"))


@pytest.mark.process
def test_the_ablation_of_random_spaces_has_its_eight_rows_at_both_scales() -> None:
    for scale, stem in (("paper", "cifar10-resnet18"), ("compact", "fmnist-resnet20")):
        rows = {r.name: r for r in shipped(scale) if r.name.startswith(f"{stem}-rna-")}
        spaces = ["bn-in-gn-ln", "gn64-wb", "gn64", "bgn-gn64-net"]
        spaces += ["bgn-gn64", "bgn-gn16", "bgn-gn4", "bgn-gn1"]
        tail = "-at-paper" if scale == "paper" else "-at"
        found = [rows[f"{stem}-rna-{space}{tail}"] for space in spaces]
        assert [len(r.model.norm.pool) for r in found] == [4, 7, 7, 14, 14, 10, 6, 2]
        assert [r.model.norm.scope for r in found] == ["network"] * 4 + ["layer"] * 4
        assert [r.kind for r in found] == ["adversarial"] * 2 + ["black-box"] * 6


@pytest.mark.process
def test_the_powers_of_robustnorm_are_swept_at_both_scales() -> None:
    for scale in ("paper", "compact"):
        recipes = [r for r in shipped(scale) if r.model.norm.name == "rn"]
        for dataset in ("fashion-mnist",):
            powers = {r.model.norm.power for r in recipes if r.dataset == dataset}
            assert powers == {0.05, 0.1, 0.2, 0.5, 1.0}


@pytest.mark.process
def test_every_shipped_recipe_builds_its_network() -> None:
    seen = set()
    for recipe in list_recipes(SHIPPED):
        key = digest(recipe.model.model_dump(mode="json"))
        if key in seen or recipe.model.arch == "wrn32":
            continue
        seen.add(key)
        build_model(recipe.model)
    assert len(seen) > 40

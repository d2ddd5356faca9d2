"""What a published number was measured on, and how, is data that a program can compare."""

from __future__ import annotations

import pytest

from bench.core.model_spec import ARCHITECTURES
from bench.published import Setting, load_table, share_of_eps, table_ids
from bench.train.recipe import Recipe


def setting(table_id: str, row: dict[str, object], column: str) -> Setting:
    return load_table(table_id).setting(row, column)


def test_every_number_says_data_protocol_and_attack() -> None:
    kinds = Recipe.model_fields["kind"].annotation
    for table_id in table_ids():
        table = load_table(table_id)
        for (_, values), by_column in zip(table.rows, table.settings, strict=True):
            for column in values:
                found = by_column[column]
                assert found.dataset and found.protocol and found.n_images, (table_id, column)
                assert found.arch in (*ARCHITECTURES, "")
                assert found.attack is not None, (table_id, column)
                assert not found.training or found.training in str(kinds)
                assert found.eps is not None or found.attack.attack == "natural"


@pytest.mark.parametrize(
    ("table_id", "row", "column", "expected"),
    [
        (
            "rna/table1",
            {"model": "wrn32", "norm": "rna"},
            "pgd20",
            {"arch": "wrn32", "training": "black-box", "protocol": "fixed_path", "eps": 8 / 255},
        ),
        (
            "rna/table1",
            {"model": "resnet18", "norm": "bn"},
            "cw",
            {"arch": "resnet18", "training": "adversarial", "protocol": "white_box"},
        ),
        (
            "rna/table3",
            {"method": "RNA"},
            "imagenet_pgd50",
            {
                "dataset": "imagenet",
                "arch": "resnet50-bottleneck",
                "eps": 4 / 255,
                "n_images": 50_000,
            },
        ),
        ("rna/table3", {"method": "RNA"}, "cifar10_pgd20", {"dataset": "cifar10", "arch": "wrn32"}),
        (
            "rna/fig5b",
            {"norm": "rna"},
            "pgd-eps20",
            {"eps": 20 / 255, "protocol": "fixed_path", "arch": "resnet18"},
        ),
        (
            "robustnorm/table1",
            {"dataset": "imagenet", "eps": 0.008, "c": 0.01, "stats": "B"},
            "pgd",
            {"arch": "resnet18", "eps": 0.008, "eps_space": "normalized", "stats": "batch"},
        ),
        (
            "robustnorm/table1",
            {"dataset": "mnist", "eps": 0.2, "c": 10, "stats": "P"},
            "cw",
            {"arch": "resnet20", "training": "natural", "stats": "population", "batch_size": 128},
        ),
        (
            "robustnorm/table4",
            {"dataset": "cifar100", "training": "adversarial"},
            "pgd",
            {"training": "adversarial", "dataset": "cifar100"},
        ),
        (
            "robustnorm/table5",
            {"model": "vgg11", "norm": "rn-tracked-mean"},
            "bim",
            {"arch": "vgg11", "stats": "tracked-mean", "eps": 0.02},
        ),
    ],
)
def test_rows_and_columns_have_their_own_settings(
    table_id: str, row: dict[str, object], column: str, expected: dict[str, object]
) -> None:
    found = setting(table_id, row, column)
    assert {key: getattr(found, key) for key in expected} == expected


def test_attacks_are_as_the_papers_state_them() -> None:
    row: dict[str, object] = {"model": "resnet18", "norm": "bn"}
    pgd = setting("rna/table1", row, "pgd20").attack
    assert pgd is not None and pgd.bounded
    assert pgd.params["n_iter"] == 20 and share_of_eps(pgd.params["alpha"]) == 0.25  # 2/255
    cw = setting("rna/table1", row, "cw").attack
    assert cw is not None and not cw.bounded
    assert cw.params == {"c": 1e-4, "n_iter": 1000, "lr": 0.01}
    mnist = {"dataset": "mnist", "eps": 0.2, "c": 10, "stats": "P"}
    of_mnist = setting("robustnorm/table1", mnist, "cw").attack
    assert of_mnist is not None and of_mnist.params["c"] == 10
    assert share_of_eps(of_mnist.params["lr"]) == 0.1
    assert "input batch" in setting("robustnorm/table1", mnist, "pgd").box

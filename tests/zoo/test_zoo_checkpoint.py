"""Checkpoints come back exactly, and every damaged or false one is refused in one clear line."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from bench.core.errors import MissingCheckpointError, UserError
from bench.core.model_spec import ModelSpec
from bench.core.spec import sha256_file
from bench.models import build_model
from bench.norms import find_paths
from bench.zoo import (
    Card,
    Checkpoint,
    CleanAccuracy,
    list_checkpoints,
    open_checkpoint,
    read_card,
    save_checkpoint,
)
from bench.zoo.checkpoint import identity

BN_IN: dict[str, Any] = {"name": "rna", "pool": ["bn", "in"]}


def card_of(norm: Any, name: str = "first") -> Card:
    return Card(
        name=name,
        model=ModelSpec.model_validate(
            {
                "arch": "resnet20",
                "norm": norm,
                "channels": 1,
                "size": 28,
                "classes": 10,
                "mean": [0.1307],
                "std": [0.3081],
            }
        ),
        dataset="fashion-mnist",
        training="natural",
        recipe={"lr": 0.1, "attack": {"alpha": 0.05}},
        seed=3,
        epochs=2,
        clean_accuracy=CleanAccuracy(value=0.5, n=10, split="fashion-mnist test"),
        versions={"torch": "2.9"},
        sha256="0" * 64,
    )


def images(n: int = 4) -> torch.Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def save(folder: Path, norm: Any = "bn") -> Checkpoint:
    """Saves a network whose tracked statistics and parameters are all off their defaults."""
    card = card_of(norm, folder.name)
    model = build_model(card.model, seed=5)
    for _ in range(2 if norm != BN_IN else 6):
        model(images() * 2)
    return save_checkpoint(folder, model.net, card)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "first"
    save(folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "first"
    shutil.copytree(pristine, copy)
    return copy


@pytest.mark.parametrize(
    "norm",
    ["none", "fixup", "bn", {"name": "gn", "groups": 8}, {"name": "bgn", "groups": 8}, "rn", BN_IN],
    ids=str,
)
def test_a_checkpoint_comes_back_exactly(norm: Any, tmp_path: Path) -> None:
    card = card_of(norm)
    model = build_model(card.model, seed=5)
    for _ in range(3):
        model(images())
    saved = save_checkpoint(tmp_path / "first", model.net, card)
    opened = open_checkpoint(tmp_path / "first")
    assert opened == saved
    assert opened.card == card.model_copy(update={"sha256": saved.card.sha256})
    assert saved.card.sha256 == sha256_file(tmp_path / "first" / "model.safetensors")
    loaded = opened.load()
    assert not any(module.training for module in loaded.modules())
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    for network in (model, loaded):
        if paths := find_paths(network):
            paths.seed(0)
    assert torch.equal(loaded(images()), model.eval()(images()))
    assert sorted(os.listdir(tmp_path / "first")) == ["card.yaml", "model.safetensors"]


def test_loading_leaves_the_global_generator_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    open_checkpoint(folder).load()
    assert torch.equal(torch.get_rng_state(), before)


def test_statistics_are_chosen_at_load_time_and_told(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    population, batch = checkpoint.load(), checkpoint.load("batch")
    assert not population.spec.norm.batch_dependent
    assert batch.spec.norm.batch_dependent and batch.spec.norm.inference_stats == "batch"
    both = batch(images())
    assert not torch.allclose(population(images()), both)
    assert not torch.allclose(batch(images(2)), both[:2])
    torch.testing.assert_close(population(images(2)), population(images())[:2])


def rewrite_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "card.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


def rehash(folder: Path) -> None:
    """Makes the card vouch for whatever lies there: a forger would."""
    found = sha256_file(folder / "model.safetensors")
    rewrite_card(folder, lambda card: card.update(sha256=found))


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def truncate_and_rehash(folder: Path) -> None:
    truncate(folder)
    rehash(folder)


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)


def other_norm(folder: Path) -> None:
    rewrite_card(folder, lambda card: card["model"].update(norm="in"))


def other_architecture(folder: Path) -> None:
    rewrite_card(folder, lambda card: card["model"].update(arch="resnet38"))


def other_shapes(folder: Path) -> None:
    rewrite_card(folder, lambda card: card["model"].update(classes=7))


def norm_that_does_not_fit(folder: Path) -> None:
    rewrite_card(folder, lambda card: card["model"].update(norm={"name": "gn", "groups": 3}))


def extra_tensor(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"backdoor": torch.ones(1)}, path)
    rehash(folder)


def nan_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["stages.0.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, path)
    rehash(folder)


def infinite_statistic(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["norm1.running_var"][0] = float("inf")
    save_file(weights, path)
    rehash(folder)


def remove_card(folder: Path) -> None:
    (folder / "card.yaml").unlink()


def card_is_a_folder(folder: Path) -> None:
    remove_card(folder)
    (folder / "card.yaml").mkdir()


def card_is_no_yaml(folder: Path) -> None:
    (folder / "card.yaml").write_text("model: {arch: [", encoding="utf-8")


def card_runs_python(folder: Path) -> None:
    (folder / "card.yaml").write_text("!!python/object/apply:os.getcwd []", encoding="utf-8")


def card_is_empty(folder: Path) -> None:
    (folder / "card.yaml").write_text("", encoding="utf-8")


def card_is_not_utf8(folder: Path) -> None:
    path = folder / "card.yaml"
    path.write_bytes(path.read_bytes() + "notes: café\n".encode("latin-1"))


def card_has_an_unknown_key(folder: Path) -> None:
    rewrite_card(folder, lambda card: card.update(accuracy=0.99))


def card_misspells_a_key(folder: Path) -> None:
    rewrite_card(folder, lambda card: card["model"].update(shortcutt="pad"))


def card_lacks_a_key(folder: Path) -> None:
    rewrite_card(folder, lambda card: card.pop("clean_accuracy"))


def card_has_an_unknown_norm(folder: Path) -> None:
    rewrite_card(folder, lambda card: card["model"].update(norm="batchnorm"))


def card_has_a_false_hash(folder: Path) -> None:
    rewrite_card(folder, lambda card: card.update(sha256="abc"))


def card_boasts(folder: Path) -> None:
    rewrite_card(folder, lambda card: card["clean_accuracy"].update(value=93.1))


W, C = "model.safetensors", "card.yaml"
DAMAGES: list[tuple[Callable[[Path], object], str, str]] = [
    (remove_weights, W, "no such file; expected weights of sha256"),
    (empty_weights, W, "expected sha256 .*truncated or altered.*restore"),
    (truncate, W, "expected sha256 .*truncated or altered.*restore"),
    (truncate_and_rehash, W, "not a readable safetensors file"),
    (flip_a_bit, W, "expected sha256 .*truncated or altered.*restore"),
    (other_norm, W, "do not fit resnet20 with norm in, which card.yaml names .*unexpected: "),
    (other_architecture, W, "do not fit resnet38 with norm bn.*missing: stages.0.3"),
    (other_shapes, W, r"fc.bias is \(10,\), expected \(7,\)"),
    (norm_that_does_not_fit, C, "16 channels does not divide into 3 groups"),
    (extra_tensor, W, "1 unexpected: backdoor"),
    (nan_weight, W, "NaN or infinite values: stages.0.0.conv1.weight"),
    (infinite_statistic, W, "NaN or infinite values: norm1.running_var"),
    (remove_card, C, "no such file; expected a checkpoint's card"),
    (card_is_a_folder, C, "cannot be read"),
    (card_is_no_yaml, C, "not valid YAML"),
    (card_runs_python, C, "not valid YAML"),
    (card_is_empty, C, "dictionary"),
    (card_is_not_utf8, C, "not UTF-8 text"),
    (card_has_an_unknown_key, C, "accuracy: unknown key; did you mean 'clean_accuracy'"),
    (card_misspells_a_key, C, "model.shortcutt: unknown key; did you mean 'shortcut'"),
    (card_lacks_a_key, C, "clean_accuracy: Field required"),
    (card_has_an_unknown_norm, C, "model.norm.name: .*found 'batchnorm'"),
    (card_has_a_false_hash, C, "sha256: .*found 'abc'"),
    (card_boasts, C, "clean_accuracy.value: .*less than or equal to 1, found 93.1"),
]


@pytest.mark.parametrize(
    ("damage", "file", "message"), DAMAGES, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_damaged_checkpoint_is_refused(
    folder: Path, damage: Callable[[Path], object], file: str, message: str
) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        open_checkpoint(folder).load()
    text = str(caught.value)
    assert text.startswith(f"{folder / file}: ") and "\n" not in text and len(text) < 700


class Bomb:
    """A pickle that touches a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_in_disguise_is_never_executed(folder: Path, tmp_path: Path, writer: str) -> None:
    fired, weights = tmp_path / "fired", folder / "model.safetensors"
    if writer == "pickle":
        weights.write_bytes(pickle.dumps(Bomb(fired)))
    else:
        torch.save({"conv1.weight": Bomb(fired)}, weights)
    rehash(folder)
    with pytest.raises(UserError, match=r"model\.safetensors: not a readable safetensors file"):
        open_checkpoint(folder).load()
    assert not fired.exists()
    if writer == "pickle":
        pickle.loads(weights.read_bytes())
        assert fired.exists(), "the bomb of this test is a dud"


def test_stats_that_the_norm_lacks(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "layers", "ln")
    with pytest.raises(UserError, match=r"layers/card\.yaml: stats 'batch' .* norm 'ln' has no"):
        checkpoint.load("batch")


def test_an_unknown_name_brings_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match=r"frist: no such checkpoint; did you mean 'first'\?"):
        open_checkpoint(folder.parent / "frist")
    with pytest.raises(UserError, match="no such checkpoint; there are none"):
        open_checkpoint(folder / "nowhere" / "first")


def test_a_missing_checkpoint_names_the_recipe_that_makes_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder.parent
    (root / "recipes" / "paper").mkdir(parents=True)
    several = "title: some\nrecipes:\n  - {name: frist, epochs: 1}\n  - {name: other}\n"
    (root / "recipes" / "paper" / "some.yaml").write_text(several)
    (root / "recipes" / "broken.yaml").write_text("{")
    with pytest.raises(MissingCheckpointError) as caught:
        open_checkpoint(root / "frist")
    assert str(caught.value).endswith(
        f"frist: no such checkpoint; its recipe makes it: rbench train frist --out {root}"
    )
    monkeypatch.setenv("RBENCH_CHECKPOINTS", str(root))
    with pytest.raises(MissingCheckpointError, match=r"makes it: rbench train other$"):
        open_checkpoint(root / "other")


def test_only_folders_with_a_card_are_listed(folder: Path) -> None:
    root = folder.parent
    (root / "recipes").mkdir()
    shutil.copytree(folder, root / "another")
    assert list_checkpoints(root) == ["another", "first"]
    assert list_checkpoints(root / "nowhere") == []


def test_saving_over_a_checkpoint_replaces_it(folder: Path) -> None:
    old = open_checkpoint(folder).card.sha256
    model = build_model(card_of("in").model, seed=9)
    save_checkpoint(folder, model.net, card_of("in"))
    assert open_checkpoint(folder).card.sha256 != old
    assert open_checkpoint(folder).load().spec.norm.name == "in"


def test_a_diverged_network_is_not_saved(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = build_model(card_of("bn").model)
    with torch.no_grad():
        model.net.fc.weight[0, 0] = float("inf")  # type: ignore[union-attr,index]
    with pytest.raises(UserError, match=r"first: not saved.*fc\.weight"):
        save_checkpoint(folder, model.net, card_of("bn"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_card_reads_well(folder: Path) -> None:
    text = (folder / "card.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    assert list(data)[:3] == ["name", "model", "dataset"], "not in reading order"
    assert data["recipe"] == {"lr": 0.1, "attack": {"alpha": 0.05}}
    assert "group_size" not in text, "defaults are left out"
    assert read_card(folder / "card.yaml").clean_accuracy.n == 10


@pytest.mark.parametrize(
    "change",
    [
        {"std": [0.5]},
        {"mean": [0.2]},
        {"norm": {"name": "gn", "groups": 4}},
        {"norm": {"name": "rn", "power": 0.25}},
    ],
    ids=str,
)
def test_the_same_weights_under_another_card_are_another_model(change: dict[str, Any]) -> None:
    base = card_of({"name": "rn", "power": 0.2})
    other = card_of(change.get("norm", {"name": "rn", "power": 0.2}))
    model = ModelSpec.model_validate(other.model.model_dump() | change)
    assert identity(other.model_copy(update={"model": model})) != identity(base)
    assert identity(base.model_copy(update={"notes": "other words", "seed": 9})) == identity(base)


def test_statistics_are_named_by_the_cell_and_not_by_the_identity() -> None:
    cards = [card_of({"name": "bn", "stats": stats}) for stats in ("population", "batch")]
    assert identity(cards[0]) == identity(cards[1])

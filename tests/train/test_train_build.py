"""From a recipe and files on disk to a checkpoint, killed or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import bench
from bench.core.errors import UserError
from bench.core.spec import digest, sha256_file
from bench.train.build import train_checkpoint
from bench.train.compute import Compute
from bench.train.recipe import Recipe
from bench.train.trainer import Progress
from bench.zoo import open_checkpoint

Make = Callable[..., Recipe]
FILES = ["card.yaml", "model.safetensors", "training.csv", "training.png"]

PLAIN = Compute(compiled=False)
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from bench.train.build import train_checkpoint
from bench.train.compute import Compute
from bench.train.recipe import read_recipes

torch.set_num_threads(int(sys.argv[4]))

def report(progress):
    if progress.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

train_checkpoint(
    *read_recipes(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), report,
    Compute(compiled=False),
)
"""


def silent(_: Progress) -> None:
    """Reports nothing."""


@pytest.fixture(scope="module")
def trained(
    make_recipe: Make, idx_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, Path]:
    """A checkpoint trained without interruption, with its recipe."""
    recipe = make_recipe(
        {"name": "rna", "pool": ["bn", "in"]},
        kind="black-box",
        attack={"threat_model": {"eps": "8/255"}, "alpha": "8/255", "n_iter": 1},
        augment={"pad": 1},
        limit=64,
        seed=4,
    )
    out = tmp_path_factory.mktemp("out")
    train_checkpoint(recipe, out, idx_root, silent, PLAIN)
    return recipe, out / "tiny"


@pytest.mark.process
def test_training_learns(make_recipe: Make, idx_root: Path, tmp_path: Path) -> None:
    checkpoint = train_checkpoint(make_recipe("bn", epochs=4), tmp_path, idx_root, silent, PLAIN)
    assert checkpoint.card.clean_accuracy.value > 0.8, "chance is 0.25"


@pytest.mark.process
def test_the_card_is_complete(trained: tuple[Recipe, Path]) -> None:
    recipe, folder = trained
    card = open_checkpoint(folder).card
    assert card.name == folder.name == recipe.name
    assert card.model == recipe.model and card.model.mean == (0.5,) and card.model.std == (0.25,)
    assert (card.dataset, card.training) == ("fashion-mnist", "black-box")
    assert (card.seed, card.epochs) == (4, 2)
    assert card.clean_accuracy.n == 80 and card.clean_accuracy.n_draws > 1
    assert card.clean_accuracy.split == "fashion-mnist test"
    assert card.versions == {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "rbench": bench.__version__,
    }
    assert "CPU" in card.trained
    assert card.sha256 == sha256_file(folder / "model.safetensors")
    assert sorted(os.listdir(folder)) == FILES, "leftovers"
    told = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))["recipe"]
    again = Recipe.model_validate({**told, "name": card.name, "model": card.model})
    assert digest(again.model_dump(mode="json")) == digest(recipe.model_dump(mode="json"))


@pytest.mark.process
def test_the_checkpoint_scores_what_its_card_says(
    make_recipe: Make, idx_root: Path, tmp_path: Path
) -> None:
    from bench.data.slice import load_split

    checkpoint = train_checkpoint(make_recipe("bn", epochs=1), tmp_path, idx_root, silent, PLAIN)
    test = load_split("fashion-mnist", "test", idx_root)
    x = torch.from_numpy(test.x.copy()).float() / 255
    with torch.no_grad():
        correct = checkpoint.load()(x).argmax(1) == torch.from_numpy(test.y)
    assert checkpoint.card.clean_accuracy.value == pytest.approx(correct.float().mean().item())
    assert checkpoint.card.clean_accuracy.batch_size is None


@pytest.mark.process
def test_a_killed_run_resumes_to_the_same_bits(
    trained: tuple[Recipe, Path], idx_root: Path, tmp_path: Path
) -> None:
    recipe, uninterrupted = trained
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    threads = str(torch.get_num_threads())
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path), str(idx_root), threads]
    killed = subprocess.run(
        command, cwd=Path(bench.__file__).parents[1], capture_output=True, text=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert os.listdir(tmp_path / "tiny") == ["train_state.pt"]
    (tmp_path / "tiny" / "train_state.part").write_bytes(b"cut off while writing")
    seen: list[Progress] = []
    train_checkpoint(recipe, tmp_path, idx_root, seen.append, PLAIN)
    assert seen[0].epoch == 2 and seen[0].step == 3, "the first epoch was trained again"
    name = "model.safetensors"
    assert (tmp_path / "tiny" / name).read_bytes() == (uninterrupted / name).read_bytes()
    first, second = (open_checkpoint(f).card for f in (tmp_path / "tiny", uninterrupted))
    assert first.clean_accuracy == second.clean_accuracy
    assert not (tmp_path / "tiny" / "train_state.pt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 32}, r"images are \(1, 28, 28\), the recipe's model takes \(1, 32, 32\)"),
        ({"batch_size": 200}, "160 training images are less than one batch of 200; lower"),
        ({"dataset": "fashion-minst"}, "fashion-mnist"),
    ],
)
def test_a_recipe_that_does_not_fit_the_data_is_refused(
    make_recipe: Make,
    idx_root: Path,
    tmp_path: Path,
    change: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        train_checkpoint(make_recipe(**change), tmp_path, idx_root, silent, PLAIN)
    assert not list(tmp_path.iterdir())


def test_more_classes_in_the_data_than_in_the_model(
    make_recipe: Make, idx_root: Path, tmp_path: Path
) -> None:
    recipe = make_recipe()
    narrow = recipe.model_copy(update={"model": recipe.model.model_copy(update={"classes": 3})})
    with pytest.raises(UserError, match="has label 3, the recipe's model has 3 classes"):
        train_checkpoint(narrow, tmp_path, idx_root, silent, PLAIN)


@pytest.mark.process
def test_the_global_seed_has_no_say(make_recipe: Make, idx_root: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    results = []
    for name in ("a", "b"):
        torch.manual_seed(len(results))
        recipe = make_recipe("bn", epochs=1, limit=64)
        results.append(train_checkpoint(recipe, tmp_path / name, idx_root, silent, PLAIN))
    torch.set_rng_state(before)
    assert results[0].card.sha256 == results[1].card.sha256

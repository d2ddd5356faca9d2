"""Several processes train what one process trains."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import bench
from bench.models import build_model
from bench.train import compute
from bench.train.build import train_checkpoint
from bench.train.compute import Compute, Layout, Ranks
from bench.train.recipe import Recipe
from bench.train.trainer import Progress
from bench.zoo import read_card

RNA: dict[str, Any] = {"name": "rna", "pool": [{"name": "gn", "groups": 8}, "ln"]}
ATTACK: dict[str, Any] = {"threat_model": {"eps": "8/255"}, "alpha": "4/255", "n_iter": 1}
EXACT = Compute(compiled=False, exact=True)
MEMBER = """
import sys
from pathlib import Path
from bench.train import compute
from bench.train.build import train_checkpoint
from bench.train.compute import Compute, Layout
from bench.train.recipe import read_recipes

compute.layouts = lambda _: [Layout()]
seen = []
done = train_checkpoint(
    *read_recipes(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), seen.append,
    Compute(compiled=False, exact=True),
)
print("first" if done else "other", len(seen))
"""


def silent(_: Progress) -> None:
    """Reports nothing."""


def test_shares_are_equally_long_and_cover_the_batch() -> None:
    for n in (8, 9, 10, 11):
        shares = [Ranks(rank, 4).share(torch.arange(n)) for rank in range(4)]
        assert len({len(share) for share in shares}) == 1
        assert set(torch.cat(shares).tolist()) == set(range(n))
    assert torch.equal(Ranks().share(torch.arange(5)), torch.arange(5))


def launch(script: Path, recipe: Path, out: Path, data_root: Path) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(recipe), str(out), str(data_root)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(bench.__file__).parents[1]),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
@pytest.mark.parametrize(
    ("norm", "kind"),
    [("bn", "mixed"), (RNA, "black-box"), ({"name": "gn", "groups": 8}, "natural")],
    ids=["mixed", "black-box", "natural"],
)
def test_two_processes_train_together(
    norm: Any,
    kind: str,
    make_recipe: Callable[..., Recipe],
    idx_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One layout for all: which is fastest is timed, and each rounds in its own way.
    monkeypatch.setattr(compute, "layouts", lambda _: [Layout()])
    attack = None if kind == "natural" else ATTACK
    recipe = make_recipe(norm, kind=kind, attack=attack, epochs=1, limit=96)
    script, path = tmp_path / "member.py", tmp_path / "recipe.yaml"
    script.write_text(MEMBER)
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    printed = launch(script, path, tmp_path / "two", idx_root)
    ours = [line for line in printed.splitlines() if line.startswith(("first", "other"))]
    assert sorted(ours) == ["first 3", "other 0"]
    train_checkpoint(recipe, tmp_path / "one", idx_root, silent, EXACT)
    one, two = (load_file(tmp_path / n / "tiny" / "model.safetensors") for n in ("one", "two"))
    assert one.keys() == two.keys()
    assert read_card(tmp_path / "two" / "tiny" / "card.yaml").trained.split(", ")[3] == "float32"
    assert all(value.isfinite().all() for value in two.values())
    if kind == "natural":
        # Without augmentation, attack or batch statistics both see the same sums of gradients.
        start = build_model(recipe.model, recipe.seed).net.state_dict()
        assert max((one[name] - start[name]).abs().max() for name in one) > 0.01
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)

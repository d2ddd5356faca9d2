"""``rbench zoo`` as a user meets it, but in this process: importing torch takes the longest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

import bench.cli.app
import bench.cli.zoo
from bench.cli import main
from bench.core.model_spec import ModelSpec
from bench.core.spec import sha256_file
from bench.models import Classifier, build_model
from bench.zoo import open_checkpoint, read_card

N = 30
Rbench = Callable[..., tuple[int, str]]


@pytest.fixture
def rbench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Rbench:
    """Runs a command with its checkpoints and data under ``tmp_path``; returns code and output."""
    monkeypatch.setenv("RBENCH_CHECKPOINTS", str(tmp_path / "zoo"))
    monkeypatch.setenv("RBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(bench.cli.zoo, "console", Console(width=400))
    monkeypatch.setattr(bench.cli.app, "errors", Console(stderr=True, width=400))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["rbench", "zoo", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return int(caught.value.code or 0), shown.out + shown.err

    return run


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[Path, Classifier]:
    """A file in akamaster's names, and the model in it; ``tiny.npz`` holds images it knows."""
    spec = {"arch": "resnet20", "norm": "bn", "channels": 1, "size": 8, "classes": 10}
    model = build_model(ModelSpec.model_validate(spec | {"mean": [0.4], "std": [0.3]}), seed=3)
    model(torch.rand(64, 1, 8, 8))
    model.eval()
    theirs = {}
    for name, value in model.net.state_dict().items():
        first, _, rest = name.partition(".")
        if first == "stages":
            stage, _, rest = rest.partition(".")
            first = f"layer{int(stage) + 1}"
        first = first.replace("norm", "bn").replace("fc", "linear")
        theirs[f"module.{first}.{rest.replace('norm', 'bn')}"] = value
    path = tmp_path / "ResNet20 best-12fca82f.th"
    torch.save({"state_dict": theirs, "best_prec1": 91.73}, path)
    x = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    with torch.no_grad():
        y = model(torch.from_numpy(x).float() / 255).argmax(1).numpy()
    y[::6] = (y[::6] + 1) % 10
    np.savez(tmp_path / "tiny.npz", x=x, y=y)
    return path, model


IMPORT = ["--arch", "resnet20", "--norm", "bn", "--dataset", "fashion-mnist", "--size", "8"]
SCORE = ["--score-on", "npz:tiny.npz"]
INPUT = ["--mean", "0.4", "--std", "3/10"]


@pytest.mark.process
def test_a_foreign_file_becomes_a_checkpoint_that_is_verified_and_shown(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    file, model = foreign
    code, shown = rbench("import", str(file), *IMPORT, *SCORE, *INPUT)
    folder = tmp_path / "zoo" / "resnet20-best-12fca82f"
    assert code == 0 and "clean accuracy 83.33% on 30 images (npz:tiny.npz test)" in shown
    card = read_card(folder / "card.yaml")
    assert card.training == f"foreign: {file.name} (sha256 {sha256_file(file)})"
    assert card.clean_accuracy.value == pytest.approx(25 / 30, abs=1e-6)
    assert card.model == model.spec and card.recipe == {} and card.epochs is None
    assert "under 'state_dict'" in card.notes and "as given by --mean and --std" in card.notes

    code, shown = rbench("verify", "--update", "--attacked", "16", "--out", str(tmp_path / "v.md"))
    assert code == 0 and "1 checkpoints: 1 updated" in shown
    robust = read_card(folder / "card.yaml").robust_accuracy
    assert robust is not None and robust.attack == "PGD-20, linf 0.1, alpha 0.025"
    page = (tmp_path / "v.md").read_text()
    assert f"| {folder.name} | ok | 83.33% | 83.33% |  | {robust.value:.2%} | updated" in page
    assert rbench("verify", folder.name) == rbench("verify", str(folder))
    code, shown = rbench("verify", folder.name)
    assert code == 0 and "1 checkpoints: 1 pass" in shown

    code, shown = rbench("show", folder.name)
    assert code == 0
    assert re.search(rf"file_sha256 +│ {sha256_file(folder / 'model.safetensors')}", shown)
    assert re.search(rf"weights_sha256 +│ {open_checkpoint(folder).facts().sha256}", shown)
    for text in ("0.4; 0.3", "83.33% on 30 images", f"{robust.value:.1%} ["):
        assert text in shown


def test_the_means_and_stds_in_use_are_tried_and_each_accuracy_is_told(
    rbench: Rbench, tmp_path: Path
) -> None:
    """A network that was trained with Fashion-MNIST's own values does not get MNIST's."""
    spec = {"arch": "resnet20", "norm": "bn", "channels": 1, "size": 8, "classes": 10}
    model = build_model(
        ModelSpec.model_validate(spec | {"mean": [0.2860], "std": [0.3530]}), seed=3
    )
    model(torch.rand(64, 1, 8, 8))
    model.eval()
    torch.save(model.net.state_dict(), tmp_path / "mine.pt")
    x = np.random.default_rng(0).integers(0, 256, (400, 1, 8, 8)).astype(np.uint8)
    with torch.no_grad():
        y = model(torch.from_numpy(x).float() / 255).argmax(1).numpy()
    np.savez(tmp_path / "many.npz", x=x, y=y)
    arguments = ["import", str(tmp_path / "mine.pt"), *IMPORT, "--score-on", "npz:many.npz"]
    code, shown = rbench(*arguments)
    card = read_card(tmp_path / "zoo" / "mine" / "card.yaml")
    assert code == 0 and (card.model.mean, card.model.std) == ((0.2860,), (0.3530,))
    assert card.clean_accuracy.value == 1
    taken = "100.00% with mean 0.286, std 0.353 (Fashion-MNIST's own)"
    lines = shown.splitlines()
    assert (
        lines[0].endswith("On 400 images, with those in use:") and lines[1] == f"  {taken}, taken"
    )
    tried = {"0.1307, std 0.3081", "0, std 1", "0.5, std 0.5", "0.286, std 0.353"}
    assert {line.partition("mean ")[2].partition(" (")[0] for line in lines[1:5]} == tried
    assert f"the best of those in use, on 400 images: {taken}; " in card.notes

    code, shown = rbench(*arguments, "--force", "--std", "0.5")
    card = read_card(tmp_path / "zoo" / "mine" / "card.yaml")
    assert code == 0 and card.model.std == (0.5,) and "std 0.5 (none: images in [0, 1])" in shown
    code, shown = rbench(*arguments, "--force", "--mean", "0.2860", "--std", "0.3530")
    assert code == 0 and "with those in use" not in shown
    assert "Input mean 0.286, std 0.353, as given by --mean and --std." in shown


def test_means_and_stds_that_are_not_told_apart_are_named(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    code, shown = rbench("import", str(foreign[0]), *IMPORT, *SCORE)
    assert code == 0 and "not shown to be worse: mean " in shown
    assert "give --mean and --std if you know them" in shown


def test_the_files_own_mean_and_std_are_taken(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    content = torch.load(foreign[0], weights_only=True)
    torch.save({**content, "mean": [0.4], "std": [0.3]}, foreign[0])
    arguments = ["import", str(foreign[0]), *IMPORT, *SCORE, "--name", "a", "--force"]
    code, shown = rbench(*arguments)
    card = read_card(tmp_path / "zoo" / "a" / "card.yaml")
    assert code == 0 and (card.model.mean, card.model.std) == ((0.4,), (0.3,))
    told = "mean 0.4, std 0.3, found in the file as mean and std."
    assert f"Input {told}" in shown and "found in the file as mean and std" in card.notes
    code, shown = rbench(*arguments, "--mean", "0.5", "--std", "0.5")
    assert code == 0 and f"Not taken, as others were given: {told}" in shown
    assert "Not taken" in read_card(tmp_path / "zoo" / "a" / "card.yaml").notes


def test_what_is_left_out_is_told(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    content = torch.load(foreign[0], weights_only=True)
    content["state_dict"]["module.aux.weight"] = torch.ones(2, 2)
    torch.save(content, foreign[0])
    arguments = ["import", str(foreign[0]), *IMPORT, *SCORE, *INPUT, "--name", "a"]
    assert "--drop 'PATTERN'" in rbench(*arguments)[1]
    code, shown = rbench(*arguments, "--drop", "aux.*")
    told = "Left out 1 entries (module.aux.weight): --drop aux.*."
    assert code == 0 and told in shown
    assert told in read_card(tmp_path / "zoo" / "a" / "card.yaml").notes


def test_weights_that_two_networks_take_are_scored_in_both(rbench: Rbench, tmp_path: Path) -> None:
    """kuangliu's and Wong et al.'s PreActResNet-18 have the same names and shapes."""
    base = {"norm": "bn", "channels": 1, "size": 8, "classes": 10, "mean": [0.4], "std": [0.3]}
    spec = ModelSpec.model_validate(base | {"arch": "preact-resnet18-wong"})
    model = build_model(spec, seed=1)
    model(torch.rand(64, 1, 8, 8))
    torch.save(model.eval().net.state_dict(), tmp_path / "a.pt")
    x = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    with torch.no_grad():
        y = model(torch.from_numpy(x).float() / 255).argmax(1).numpy()
    np.savez(tmp_path / "tiny.npz", x=x, y=y)
    arch = ["--arch", "PreActResNet18-kuangliu"]
    code, shown = rbench("import", str(tmp_path / "a.pt"), *IMPORT, *SCORE, *INPUT, *arch)
    assert code == 0
    assert "fit --arch preact-resnet18-wong too: clean accuracy 100.00%" in shown
    assert "clean accuracy 100.00% on" not in shown


def test_a_model_near_chance_is_doubted(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    with np.load(tmp_path / "tiny.npz") as good:
        np.savez(tmp_path / "bad.npz", x=good["x"], y=(good["y"] + 1) % 10)
    code, shown = rbench("import", str(foreign[0]), *IMPORT, *INPUT, "--score-on", "npz:bad.npz")
    assert code == 0 and "that is near chance (10.00%)" in shown
    assert "Assumed were mean 0.4, std 0.3 (as given by --mean and --std): check --mean," in shown


def test_a_taken_name_is_refused_before_anything_is_read(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    folder = tmp_path / "zoo" / "a"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"precious")
    arguments = ["import", str(foreign[0]), *IMPORT, *SCORE, *INPUT, "--name", "a"]
    code, shown = rbench(*arguments)
    assert code == 2 and "there is a checkpoint already; choose a --name, or --force" in shown
    assert (folder / "model.safetensors").read_bytes() == b"precious"
    code, _ = rbench(*arguments, "--force")
    assert code == 0 and rbench("verify", "a", "--quick")[0] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--arch", "resnet99"], "error: the model: unknown arch 'resnet99': CIFAR's ResNets have"),
        (["--arch", "resnte20"], "unknown arch 'resnte20'; did you mean 'resnet20'?; known: resn"),
        (["--arch", "wrn-29-10"], "unknown arch 'wrn-29-10': expected wrn-D-K with D = 6n + 4"),
        (
            ["--arch", "resnte20", "--dataset", "fmnist"],
            "error: unknown data set 'fmnist'; did you mean 'fashion-mnist'? (own data: npz:PATH "
            "or folder:PATH)\n  the model: unknown arch 'resnte20'; did you mean 'resnet20'?",
        ),
        (["--arch", "resnet38"], "missing: stages.0.3.conv1.weight (16, 16, 3, 3)"),
        (["--norm", "{name: gn}"], "the model: norm: norm 'gn' needs either groups or group_size"),
        (["--norm", "[bn"], "--norm: expected a name or for example"),
        (["--norm", "in"], "unexpected: norm1.running_mean (16,), in the file module.bn1.running"),
        (["--dataset", "fashion"], "fashion-mnist"),
        (["--classes", "7"], "fc.bias is (10,), expected (7,), in the file module.linear.bias"),
        (["--size", "16"], "npz:tiny.npz test: images are (1, 8, 8), the model takes (1, 16, 16)"),
        (["--mean", "0.1,0.2"], "mean and std need 1 values"),
        (["--mean", "black"], "--mean: expected a number or a fraction such as 8/255"),
        (["--shortcut", "conv"], "only the shortcuts differ: try --shortcut pad"),
        (["--key", "ema"], "there is no mapping of tensors at 'ema'"),
        (
            ["--rename", "conv="],
            "unexpected: 1.weight (16, 1, 3, 3), in the file module",
        ),
        (["--rename", "conv"], "--rename: expected OLD=NEW"),
        (["--name", "../up"], "--name: expected small letters"),
        (["--score-on", "npz:none.npz"], "none.npz: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    changes: list[str],
    message: str,
    rbench: Rbench,
    foreign: tuple[Path, Classifier],
    tmp_path: Path,
) -> None:
    code, shown = rbench("import", str(foreign[0]), *IMPORT, *SCORE, *INPUT, *changes)
    assert code == 2 and message in shown, shown
    assert not (tmp_path / "zoo").exists()


@pytest.mark.process
def test_verify_tells_apart_what_is_wrong(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    for name in ("flipped", "boasting", "sound"):
        rbench("import", str(foreign[0]), *IMPORT, *SCORE, *INPUT, "--name", name)
    weights = tmp_path / "zoo" / "flipped" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    path = tmp_path / "zoo" / "boasting" / "card.yaml"
    card = yaml.safe_load(path.read_text())
    card["clean_accuracy"]["value"] = 0.9
    path.write_text(yaml.safe_dump(card))
    code, shown = rbench("verify", "--quick")
    assert code == 1 and "3 checkpoints: 1 pass, 2 differs" in shown
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert "differs: " in lines["flipped"] and "expected sha256" in lines["flipped"]
    assert "the card says 90.0000%, found 83.3333%" in lines["boasting"]
    assert lines["sound"].split()[-2] == "pass"
    assert rbench("verify", "sound", "--quick")[0] == 0
    assert rbench("verify", "boasting", "--quick", "--update")[0] == 0
    assert rbench("verify", "boasting", "--quick")[0] == 0


@pytest.mark.process
def test_checkpoints_are_verified_side_by_side_as_one_by_one(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        rbench("import", str(foreign[0]), *IMPORT, *SCORE, *INPUT, "--name", name)
    (tmp_path / "zoo" / "b" / "card.yaml").write_text("a: 1")
    arguments = ("verify", "--attacked", "8")
    code, shown = rbench(*arguments, "--workers", "2")
    assert code == 1 and "3 checkpoints: 2 pass, 1 differs" in shown
    lines = [line for line in shown.splitlines() if line.startswith("[")]
    assert [line.split()[0] for line in lines] == ["[1/3]", "[2/3]", "[3/3]"]
    assert {line.partition(" ")[2] for line in lines} == {"a: pass", "b: differs", "c: pass"}
    alone = rbench(*arguments, "--workers", "1")[1]
    assert [one for one in shown.splitlines() if one.startswith("│")] == [
        one for one in alone.splitlines() if one.startswith("│")
    ]


def test_progress_is_no_part_of_the_json(
    rbench: Rbench,
    foreign: tuple[Path, Classifier],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rbench("import", str(foreign[0]), *IMPORT, *SCORE, *INPUT, "--name", "a")
    monkeypatch.setattr("sys.argv", ["rbench", "zoo", "verify", "--quick", "--json"])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr()
    assert [one["name"] for one in json.loads(shown.out)] == ["a"] and "[1/1] a: pass" in shown.err


def test_misuse_of_verify(rbench: Rbench, tmp_path: Path) -> None:
    assert "expected checkpoints, found none" in rbench("verify")[1]
    (tmp_path / "zoo" / "abc").mkdir(parents=True)
    (tmp_path / "zoo" / "abc" / "card.yaml").write_text("a: 1")
    code, shown = rbench("verify", "abd")
    assert code == 2 and "did you mean 'abc'" in shown
    code, shown = rbench("verify", "--update", "--limit", "3")
    assert code == 2 and "takes no --limit" in shown
    code, shown = rbench("verify")
    assert code == 1 and "unknown key" in shown


def test_the_readme_is_written_and_checked(
    rbench: Rbench, foreign: tuple[Path, Classifier], tmp_path: Path
) -> None:
    rbench("import", str(foreign[0]), *IMPORT, *SCORE, *INPUT, "--name", "a")
    readme = tmp_path / "zoo" / "README.md"
    assert rbench("readme", "--check")[0] == 1 and not readme.exists()
    assert rbench("readme")[0] == 0
    assert "| [a](a/card.yaml) | foreign | bn | 83.33% (30 of npz:tiny.npz test)" in (
        readme.read_text()
    )
    assert rbench("readme", "--check") == (0, f"{readme}: up to date\n")
    rbench("verify", "--update", "--attacked", "8")
    code, shown = rbench("readme", "--check")
    assert code == 1 and "stale: run rbench zoo readme" in shown
    recipes = Path(__file__).parents[2] / "checkpoints" / "recipes"
    assert rbench("readme", "--recipes", str(recipes))[0] == 0
    assert "recipes wait for hardware or time" in readme.read_text()

"""Examples that other tools made: what is said of them is what a plain recount says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from bench import verify_examples
from bench.cli.app import app
from bench.core.errors import UserError

N, CLASSES = 24, 3


class Linear(nn.Module):
    """Scores of images (b, 1, 8, 8) that a plain recount can make without this project."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(CLASSES, 64, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


class Noisy(Linear):
    """Right in a third of the draws, whatever the image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e4 * torch.randn(len(x), CLASSES)


class Batchwise(Linear):
    """Images are centred by the mean of their batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)).flatten(1) @ self.weight.T


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """Levels (n, 1, 8, 8) and labels of which the model gets a few wrong."""
    x = np.random.default_rng(0).integers(30, 220, (N, 1, 8, 8), np.uint8)
    with torch.no_grad():
        y = Linear()(torch.from_numpy(x / np.float32(255))).argmax(1).numpy()
    y[:3] = (y[:3] + 1) % CLASSES
    return x, y


def steepest(x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """The worst x_adv of the linear model in an linf ball: float32, inside the box."""
    w = Linear().weight.detach().numpy()
    pixels = (x / np.float32(255)).astype(np.float32)
    z = (pixels.reshape(len(x), -1) - 0.5) @ w.T
    z[np.arange(len(x)), y] = -np.inf
    direction = np.sign(w[z.argmax(1)] - w[y]).reshape(x.shape)
    return np.clip(pixels + np.float32(eps) * direction, 0, 1).astype(np.float32)


def preds(x: np.ndarray) -> np.ndarray:
    w = Linear().weight.detach().numpy()
    return ((x.reshape(len(x), -1) - 0.5) @ w.T).argmax(1)


def judged(images: Any, x_adv: Any, threat: str = "linf:0.05", **options: Any) -> Any:
    options = {"stochastic": False, "batch_dependent": False, "probe": False} | options
    return verify_examples(options.pop("model", Linear()), *images, x_adv, threat, **options)


def test_counts_are_those_of_a_plain_recount(images: Any) -> None:
    x, y = images
    eps = 8 / 255
    x_adv = steepest(x, y, eps)
    x_adv[4, 0, 0, 0] = np.nan
    x_adv[5, 0, 0, 0] = 1.02
    far = steepest(x, y, 0.1)
    x_adv[6:9] = far[6:9]  # wrong, but not within eps
    x_adv[9] = x[9] / np.float32(255)  # what an attack that failed returns
    found = judged(images, x_adv, "linf:8/255")
    broken = [i for i in range(N) if i not in (4, 5, 6, 7, 8, 9) and preds(x_adv)[i] != y[i]]
    counts = found.counts()
    assert counts["images"] == N
    assert (counts["finite"], counts["in_box"], counts["valid"]) == (N - 1, N - 2, N - 5)
    assert counts["wrong"] == len(broken)
    assert counts["broken"] == len([i for i in broken if i >= 3])
    assert counts["wrong_beyond_eps"] == sum(preds(far)[6:9] != y[6:9]) > 0
    right = [i for i in range(3, N) if i not in broken]
    assert found.robust_accuracy().value == pytest.approx(len(right) / N)
    assert found.clean_accuracy().value == pytest.approx((N - 3) / N)
    assert found.robust_accuracy().interval is not None and not found.all_valid
    status = found.table().status
    assert status[4] == "not_finite" and status[5] == "out_of_box" and status[6] == "beyond_eps"
    far_linf = np.abs(far[6] - x[6] / np.float32(255)).max()
    assert found.table().linf[6] == pytest.approx(far_linf, abs=1e-7)
    json.dumps(found.as_dict(), allow_nan=False)


def test_an_image_that_is_wrong_anyway_counts_as_wrong_whatever_the_example_is(images: Any) -> None:
    x_adv = (images[0] / np.float32(255)).astype(np.float32)
    x_adv[0] = np.nan
    found = judged(images, x_adv)
    assert found.robust_accuracy().value == found.clean_accuracy().value == (N - 3) / N
    assert found.counts()["broken"] == 0 and found.counts()["wrong"] == 2


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_tolerance_is_what_is_said(images: Any, norm: str) -> None:
    pixels, eps = (images[0] / np.float32(255)).astype(np.float64), 0.05
    unit = np.zeros_like(pixels)
    unit[:, 0, 0, 0] = 1
    inside, outside = eps + 5e-7, eps + (2e-6 if norm == "linf" else 5e-6)
    assert judged(images, (pixels + inside * unit).astype(np.float32), f"{norm}:{eps}").all_valid
    bad = judged(images, (pixels + outside * unit).astype(np.float32), f"{norm}:{eps}")
    assert bad.counts()["valid"] == 0
    assert "1e-06" in repr(bad) and ("1e-05 of eps" in repr(bad)) is (norm == "l2")


@pytest.mark.parametrize(("norm", "order"), [("linf", np.inf), ("l2", 2), ("l1", 1)])
def test_every_norm_is_measured_in_its_own_distance(images: Any, norm: str, order: float) -> None:
    pixels = images[0] / np.float32(255)
    x_adv = steepest(*images, 8 / 255)
    x_adv[1] = np.nan
    flat = (x_adv - pixels).reshape(N, -1).astype(np.float64)
    far = np.linalg.norm(flat, order, axis=1)
    eps = float(np.median(far[2:])) * (1.01 if norm == "linf" else 1)
    found = judged(images, x_adv, f"{norm}:{eps}")
    np.testing.assert_allclose(found.table().distance[2:], far[2:], rtol=1e-6)
    assert found.table().distance[1] == np.inf
    assert found.counts()["valid"] == sum(far[~np.isnan(far)] <= eps * (1 + 2e-5))
    assert f"largest distance ({norm})" in repr(found) and "NaN or infinite" in repr(found)
    json.dumps(found.as_dict(), allow_nan=False)


def test_what_8_bits_lose_is_said_with_the_reason(images: Any) -> None:
    x, y = images
    pixels, eps = (x / np.float32(255)).astype(np.float32), 0.1  # 25.5 levels
    x_adv = steepest(x, y, eps)
    found = judged(images, x_adv, f"linf:{eps}")
    eight = np.rint(x_adv * 255) / 255
    linf = np.abs(eight - pixels).reshape(N, -1).max(1)
    wrong = preds(x_adv) != y
    assert found.counts()["lost_beyond_eps"] == sum(wrong & (linf > eps + 1e-6)) > 0
    assert "25.5 levels" in repr(found)
    right = (preds(pixels) == y).mean()  # no example stands in 8 bits
    assert found.robust_accuracy_8bit().value == pytest.approx(right)
    small = steepest(x, y, 0.4 / 255)  # rounds to the clean images
    found = judged(images, small, f"linf:{0.4 / 255}")
    again = (preds(small) != y) & (preds(pixels) == y)
    assert found.counts()["lost"] == found.counts()["lost_right_again"] == sum(again) > 0
    on_grid = judged(images, np.rint(steepest(x, y, 8 / 255) * 255).astype(np.uint8), "linf:8/255")
    assert on_grid.on_grid and on_grid.all_valid and on_grid.counts()["lost"] == 0
    assert on_grid.counts()["broken"] > 0


def test_an_example_that_rounding_makes_right_again_is_lost() -> None:
    class Needle(nn.Module):
        """Wrong only where a pixel is off the grid of 8-bit images."""

        def forward(self, x: Tensor) -> Tensor:
            off = ((x * 255 - (x * 255).round()).abs() > 0.1).flatten(1).any(1).float()
            return torch.stack([1 - off, off], 1)

    x, y = np.full((4, 1, 8, 8), 100, np.uint8), np.zeros(4, np.int64)
    found = judged((x, y), x / np.float32(255) + np.float32(0.3 / 255), model=Needle())
    assert found.counts()["wrong"] == found.counts()["lost_right_again"] == 4
    assert found.robust_accuracy().value == 0 and found.robust_accuracy_8bit().value == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a, "(n, c, h, w), float32"),
        (lambda a: a.transpose(0, 2, 3, 1), "(n, h, w, c)"),
        (lambda a: a[:, 0], "(n, h, w)"),
        (lambda a: a.astype(np.float64), "float64"),
        (lambda a: a * 255, "levels of 0 to 255 divided by 255"),
        (lambda a: np.rint(a * 255).astype(np.uint8), "uint8, levels of 0 to 255 divided"),
        (lambda a: np.rint(a * 255).astype(np.int32), "int32, levels of 0 to 255 divided"),
        (lambda a: torch.from_numpy(a).requires_grad_(), "float32"),
        (lambda a: {"x_adv": a, "y": None, "note": "text"}, "'x_adv'"),
        (lambda a: {"x": a * 0, "adv": a, "success": a[:, 0, 0, 0] > 0}, "not looked at: success"),
    ],
)
def test_layouts_and_scales_are_recognized_and_said(
    images: Any, change: Callable[[Any], Any], said: str
) -> None:
    x, y = images
    x_adv = steepest(x, y, 8 / 255)
    given = change(x_adv)
    if isinstance(given, dict) and "x" in given:
        given["x"] = x
    found = judged(images, given, "linf:8/255")
    assert found.all_valid and found.counts()["wrong"] == sum(preds(x_adv) != y)
    assert said in repr(found)


def test_half_precision_is_said(images: Any) -> None:
    x_adv = torch.from_numpy(steepest(*images, 8 / 255)).bfloat16()
    assert "bfloat16 moves a pixel by up to 0.002" in repr(judged(images, x_adv, "linf:8/255"))


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda a, y: a[:5], ["an example for each image, found 5 for 24 images"]),
        (lambda a, y: a[:, :, :4], ["(n, 1, 8, 8)", "found (24, 1, 4, 8)"]),
        (lambda a, y: np.stack([a, a]), ["found (2, 24, 1, 8, 8)", "one eps of several"]),
        (lambda a, y: (a - 0.5) / 0.1, ["found values from", "undo the normalization"]),
        (lambda a, y: a.astype(np.int64), ["levels from 0 to 255", "save floats in [0, 1]"]),
        (lambda a, y: a > 0.5, ["as floats or whole numbers, found bool"]),
        (lambda a, y: {}, ["found no array"]),
        (lambda a, y: {"a": a, "b": a}, ["several arrays", "a (24, 1, 8, 8) float32", "--key"]),
        (lambda a, y: {"a": y, "b": y}, ["images of shape (n, 1, 8, 8)", "a (24,) int64"]),
        (lambda a, y: {"x_adv": a, "labels": y[::-1]}, ["its labels are not", "offset", "index"]),
        (lambda a, y: {"x_adv": a, "labels": y[:4]}, ["'labels': expected 24 whole numbers"]),
        (lambda a, y: {"x_adv": a, "clean_inputs": a[::-1]}, ["clean images are not", "npz:FILE"]),
        (lambda a, y: a[::-1], ["no example is within eps", "another order"]),
        (lambda a, y: [[[[[[[[[[a]]]]]]]]]], ["nested deeper"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_next_step(
    images: Any, change: Callable[[Any, Any], Any], fragments: list[str]
) -> None:
    x_adv = steepest(*images, 8 / 255)
    with pytest.raises(UserError) as refused:
        judged(images, change(x_adv, images[1]), "linf:8/255")
    assert all(fragment in str(refused.value) for fragment in fragments), refused.value


def test_an_unknown_key_names_the_nearest(images: Any) -> None:
    x_adv = steepest(*images, 8 / 255)
    with pytest.raises(UserError, match=r"did you mean 'x_adv'"):
        judged(images, {"x_adv": x_adv, "other": x_adv}, "linf:8/255", key="xadv")
    two = {"weak": images[0], "strong": x_adv}
    assert judged(images, two, "linf:8/255", key="strong").counts()["broken"] > 0


def test_predictions_of_the_file_are_held_against_the_model(images: Any) -> None:
    x_adv = steepest(*images, 8 / 255)
    for given in ({"x_adv": x_adv, "preds": preds(x_adv)}, (x_adv, preds(x_adv))):
        assert f"the model's on {N} of {N} examples" in repr(judged(images, given, "linf:8/255"))
    other = {"x_adv": x_adv, "preds": (preds(x_adv) + 1) % CLASSES}
    assert "0 of 24 examples: another model" in repr(judged(images, other, "linf:8/255"))


def test_a_stochastic_model_is_scored_on_fresh_draws(images: Any) -> None:
    """One lucky pass would prove a robust accuracy that the model does not have."""
    clean, options = images[0] / np.float32(255), {"model": Noisy(), "stochastic": True}
    found = judged(images, clean, n_draws=30, batch_size=12, **options)
    assert found.n_draws == 30 and "30 fresh draws" in repr(found)
    assert found.robust_accuracy().value == pytest.approx(1 / CLASSES, abs=0.08)
    assert found.cluster == "batch", "draws may be shared by a pass"
    assert judged(images, clean, n_draws=30, batch_size=12, **options).rows == found.rows


def test_a_batch_dependent_model_is_scored_in_its_batches(images: Any) -> None:
    x, y = images
    pixels = torch.from_numpy(x / np.float32(255))
    y = torch.cat([Batchwise()(part).argmax(1) for part in pixels.split(8)]).numpy()
    x_adv = steepest(x, y, 0.05)
    x_adv[9] = np.nan
    shown = torch.from_numpy(x_adv.copy())
    shown[9] = pixels[9]  # the clean image stands in, in its own place
    with torch.no_grad():
        wrong = [
            (Batchwise()(part).argmax(1) != label)
            for part, label in zip(shown.split(8), torch.from_numpy(y).split(8), strict=True)
        ]
    options = {"model": Batchwise(), "batch_dependent": True, "batch_size": 8}
    found = judged((x, y), x_adv, **options)
    assert found.robust_accuracy().value == pytest.approx(1 - torch.cat(wrong).double().mean())
    assert found.cluster == "batch" and "fixed batches of 8" in repr(found)
    single = judged((x, y), x_adv, **options, adversary="single")
    with torch.no_grad():
        for i, row in enumerate(single.rows):
            batch = pixels.split(8)[i // 8].clone()
            batch[i % 8] = shown[i]
            assert row.adv_pred == int(Batchwise()(batch).argmax(1)[i % 8])
    with pytest.raises(UserError, match="adversary: single is for models whose images share"):
        judged(images, x, adversary="single")


@pytest.mark.process
def test_the_probe_finds_out_what_the_model_is(images: Any) -> None:
    found = verify_examples(Noisy(), *images, images[0], "linf:0.05")
    assert found.n_draws == 20
    with pytest.raises(UserError, match="declared deterministic"):
        verify_examples(Noisy(), *images, images[0], "linf:0.05", stochastic=False)


def test_a_model_that_fails_on_a_batch_is_named(images: Any) -> None:
    class Fussy(Linear):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 5:
                raise ValueError("no batches of five")
            return super().forward(x)

    with pytest.raises(UserError, match=r"batch 0, of 5 images \(ValueError: no batches of five"):
        judged(images, images[0], model=Fussy(), batch_size=5)


# Files, and the command


def test_numpy_and_torch_files_are_read(images: Any, tmp_path: Path) -> None:
    x_adv = steepest(*images, 8 / 255)
    np.save(tmp_path / "a.npy", x_adv)
    np.savez(tmp_path / "b.npz", adversarial=x_adv, y=images[1])
    np.savez_compressed(tmp_path / "c.npz", x_adv=x_adv, index=np.arange(N))
    torch.save(torch.from_numpy(x_adv), tmp_path / "d.pt")
    torch.save({"run": {"x_adv": torch.from_numpy(x_adv)}}, tmp_path / "e.pth")
    for path in sorted(tmp_path.iterdir()):
        assert judged(images, path, "linf:8/255").counts()["wrong"] == sum(
            preds(x_adv) != images[1]
        )
    with pytest.raises(UserError, match="no such file"):
        judged(images, tmp_path / "none.pt")
    with pytest.raises(UserError, match=r"expected a file of arrays.*found '.csv'"):
        judged(images, tmp_path / "a.csv")


NET = """
from torch import nn


class Net(nn.Sequential):
    declares = {"size": 8, "channels": 1, "classes": 3}


def make():
    return Net(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 3))
"""


@pytest.fixture
def folder(tmp_path: Path, images: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with data, a model and a file of examples of the first 10 images."""
    x, y = images
    y[:CLASSES] = range(CLASSES)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    np.savez(tmp_path / "adv.npz", x_adv=steepest(x, y, 0.05)[:10], labels=y[:10])
    (tmp_path / "judged_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("judged_net", None)


def rbench(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["verify", *arguments, "--device", "cpu", "--trust-code"])


FILE = (
    "--model",
    "python:judged_net:make",
    "--data",
    "npz:data.npz",
    "--threat",
    "linf:0.05",
    "--x-adv",
    "adv.npz",
)


@pytest.mark.process
def test_the_command_judges_a_file(folder: Path) -> None:
    done = rbench(*FILE)
    assert done.exit_code == 0, done.exception
    assert (
        "within linf 0.05: valid" in done.output and "robust accuracy in %, at most" in done.output
    )
    found = json.loads(rbench(*FILE, "--json").stdout)
    assert found["counts"]["images"] == 10 and found["threat_model"]["eps"] == 0.05
    assert len(found["images"]) == 10
    halved = [one.replace("0.05", "0.025") for one in FILE]
    done = rbench(*halved)
    assert done.exit_code == 1 and "image 0: beyond eps: its distance is 0.05" in done.output


@pytest.mark.process
def test_the_command_takes_other_slices_and_positions(folder: Path) -> None:
    with np.load(folder / "data.npz") as data:
        x, y = data["x"], data["y"]
    some = np.array([20, 3, 11, 7])
    x_adv = steepest(x, y, 0.05)
    np.savez(folder / "adv.npz", x_adv=x_adv[some], index=some)
    found = json.loads(rbench(*FILE, "--json").stdout)
    assert [row["index"] for row in found["images"]] == some.tolist()
    np.savez(folder / "adv.npz", x_adv=x_adv[5:9], labels=y[5:9])
    wrong = rbench(*FILE)
    assert isinstance(wrong.exception, UserError)
    assert "offset" in str(wrong.exception)
    shifted = [one.replace("npz:data.npz", "{name: 'npz:data.npz', offset: 5}") for one in FILE]
    found = json.loads(rbench(*shifted, "--json").stdout)
    assert [row["index"] for row in found["images"]] == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("reports/x", "--model", "mine"), "RUN and --model do not go together"),
        (("reports/x", "--json"), "RUN and --json do not go together"),
        ((), "--model, --data, --x-adv, --threat missing"),
        (FILE[:-2], "--x-adv missing"),
        ((*FILE, "--adversary", "single"), "adversary: single is for"),
        ((*FILE, "--stats", "batches"), "batch"),
        ((*FILE, "--key", "nope"), "no array is called 'nope'"),
        ((*FILE[:3], "{name: x, offst: 1}", *FILE[4:]), "--data: offst: unknown key"),
        ((*FILE[:5], "linf", *FILE[6:]), "threat: expected for example linf:8/255"),
    ],
)
def test_misuse_of_the_command_names_the_way_out(
    folder: Path, arguments: tuple[str, ...], fragment: str
) -> None:
    refused = rbench(*arguments)
    assert isinstance(refused.exception, UserError), refused.output
    assert fragment in str(refused.exception)


def test_more_examples_than_images_are_refused(folder: Path, images: Any) -> None:
    x_adv = np.concatenate([steepest(*images, 0.05)] * 2)
    np.save(folder / "adv.npy", x_adv)
    refused = rbench(*FILE[:-1], "adv.npy")
    assert "found 48 for 24 images" in str(refused.exception)


@pytest.mark.process
def test_batch_statistics_are_scored_in_batches(folder: Path) -> None:
    found = json.loads(rbench(*FILE, "--stats", "batch", "--batch-size", "5", "--json").stdout)
    assert found["batch_size"] == 5
    assert {row["batch"] for row in found["images"]} == {0, 1}

"""Common corruptions: what each does, how strong it is, and the published files as they are."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.errors import UserError
from bench.data.corruptions import COMMON, EXTRA, FILES_ONLY, corrupt, read_published

MADE = [name for name in (*COMMON, *EXTRA) if name not in FILES_ONLY]


def photo(seed: int = 0, channels: int = 3, size: int = 32) -> np.ndarray:
    """A smooth image with edges, 8 bits a value."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, size)
    waves = [np.sin(6 * (a * at[:, None] + b * at[None]) + c) for a, b, c in rng.random((3, 3)) * 2]
    x = 0.5 + 0.3 * np.stack(waves[:channels])
    x[:, size // 4 : size // 2, size // 3 : size // 2] = rng.random((channels, 1, 1))
    return np.asarray(np.round(x * 255) / 255, np.float32)


def error(name: str, severity: int, n: int = 6, **photos: int) -> float:
    """The root mean square change of some photos."""
    images = [photo(seed, **photos) for seed in range(n)]
    made = [corrupt(x, name, severity, seed) for seed, x in enumerate(images)]  # type: ignore[arg-type]
    return float(np.sqrt(np.mean((np.stack(made) - np.stack(images)) ** 2)))


@pytest.mark.process
@pytest.mark.parametrize("name", MADE)
def test_images_are_of_8_bits_repeat_and_grow_worse(name: str) -> None:
    x = photo()
    one = corrupt(x, name, 3, 7)  # type: ignore[arg-type]
    assert one.shape == x.shape and one.dtype == np.float32
    assert one.min() >= 0 and one.max() <= 1
    assert np.allclose(one * 255, np.round(one * 255), atol=1e-4)
    assert (corrupt(x, name, 3, 7) == one).all()  # type: ignore[arg-type]
    changes = [error(name, severity) for severity in (1, 2, 3, 4, 5)]
    if name == "saturate":  # 1 and 2 take colour away, 3 to 5 add some
        assert changes[1] > changes[0] and changes[4] > changes[3] > changes[2]
    elif name in ("elastic_transform", "glass_blur", "pixelate"):  # they differ in kind
        assert min(changes) > 0.01
    else:
        assert changes[4] > 1.2 * changes[0], changes
        assert all(b > 0.8 * a for a, b in pairwise(changes)), changes


def test_noises_have_the_published_size() -> None:
    gray = np.full((3, 64, 64), 0.5, np.float32)
    for severity, scale in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        noise = corrupt(gray, "gaussian_noise", severity, 0) - 0.5
        assert noise.std() == pytest.approx(scale, rel=0.03)
    for severity, photons in enumerate((500, 250, 100, 75, 50), start=1):
        noise = corrupt(gray, "shot_noise", severity, 0) - 0.5
        assert noise.var() == pytest.approx(0.5 / photons, rel=0.06)
    for severity, share in enumerate((0.01, 0.02, 0.03, 0.05, 0.07), start=1):
        made = corrupt(gray, "impulse_noise", severity, 0)
        assert ((made == 0) | (made == 1)).mean() == pytest.approx(share, rel=0.25)
        assert (made == 0).mean() == pytest.approx((made == 1).mean(), abs=0.012)
    for severity, scale in enumerate((0.06, 0.1, 0.12, 0.16, 0.2), start=1):
        noise = corrupt(gray, "speckle_noise", severity, 0) - 0.5
        assert noise.std() == pytest.approx(0.5 * scale, rel=0.03)


def test_contrast_brightness_and_saturation_follow_their_formulas() -> None:
    x = photo(1)
    mean = x.mean((1, 2), keepdims=True)
    for severity, factor in enumerate((0.75, 0.5, 0.4, 0.3, 0.15), start=1):
        expected = (x - mean) * factor + mean
        assert np.abs(corrupt(x, "contrast", severity, 0) - expected).max() < 5e-3
    for severity, more in enumerate((0.05, 0.1, 0.15, 0.2, 0.3), start=1):
        value = corrupt(x, "brightness", severity, 0).max(0)
        assert np.abs(value - np.minimum(x.max(0) + more, 1)).max() < 5e-3
    for severity, (factor, more) in enumerate([(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)]):
        made = corrupt(x, "saturate", severity + 1, 0)
        share = 1 - x.min(0) / x.max(0)
        wanted = np.clip(share * factor + more, 0, 1)
        assert np.abs((1 - made.min(0) / made.max(0)) - wanted).max() < 0.05
        assert np.abs(made.max(0) - x.max(0)).max() < 5e-3, "the value stays"


def test_jpeg_and_pixels_are_those_of_pillow() -> None:
    x = photo(2)
    image = Image.fromarray(np.moveaxis(np.round(x * 255), 0, -1).astype(np.uint8))
    for severity, quality in enumerate((80, 65, 58, 50, 40), start=1):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        expected = np.moveaxis(np.asarray(Image.open(file)), -1, 0)
        assert (np.round(corrupt(x, "jpeg_compression", severity, 0) * 255) == expected).all()
    for severity, share in enumerate((0.95, 0.9, 0.85, 0.75, 0.65), start=1):
        small = image.resize((int(32 * share),) * 2, Image.Resampling.BOX)
        expected = np.moveaxis(np.asarray(small.resize((32, 32), Image.Resampling.BOX)), -1, 0)
        assert (np.round(corrupt(x, "pixelate", severity, 0) * 255) == expected).all()


def test_blurs_keep_flat_images_and_spread_a_point_as_far_as_they_say() -> None:
    flat = np.full((1, 33, 33), 0.4, np.float32)
    point = np.zeros((1, 33, 33), np.float32)
    point[0, 16, 16] = 1
    at = np.arange(33) - 16.0
    for name in ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "glass_blur"):
        assert np.abs(corrupt(flat, name, 5, 0) - 0.4).max() < 2 / 255, name  # type: ignore[arg-type]
    step = np.broadcast_to(at > 0, (1, 33, 33)).astype(np.float32)
    for severity, sigma in enumerate((0.4, 0.6, 0.7, 0.8, 1), start=1):
        slope = np.diff(corrupt(step, "gaussian_blur", severity, 0)[0, 16])
        taps = np.exp(-(at**2) / (2 * sigma**2))
        assert np.abs(slope - (taps / taps.sum())[:-1]).max() < 1.5 / 255, "of an edge"
    line = corrupt(point, "motion_blur", 5, 3)[0]
    rows, columns = np.nonzero(line > 0.02)
    assert columns.min() >= 15 and columns.max() >= 19, "to one side, mostly along the row"
    assert np.ptp(rows) <= np.ptp(columns) + 1, "within 45 degrees of it"
    wide = np.ones((1, 33, 33), np.float32)
    wide[0, 16, 16] = 0
    hole = 1 - corrupt(wide, "defocus_blur", 5, 0)[0]
    assert (hole > 0.05).sum() == 9 and hole.sum() == pytest.approx(1, abs=0.1), "a disk"


def test_fog_whitens_and_elastic_moves_no_further_than_it_says() -> None:
    dark = np.full((3, 32, 32), 0.2, np.float32)
    dark[:, 0, 0] = 1
    foggy = corrupt(dark, "fog", 5, 0)
    top, density = 1.0, 1.5
    assert foggy[:, 1:].min() >= 0.2 * top / (top + density) - 0.01
    assert foggy[:, 1:].max() <= (0.2 + density) * top / (top + density) + 0.01
    assert foggy[0].std() > 0.05, "clouds"
    ramp = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32), (1, 32, 32)).copy()
    for severity, share in enumerate((0.08, 0.07, 0.06, 0.05, 0.03), start=1):
        moved = np.abs(corrupt(ramp, "elastic_transform", severity, 0) - ramp)[0, 8:24, 8:24].max()
        assert 0.001 < moved < 4 * share + 0.1


def test_gray_images_are_corrupted_too_and_colours_need_some() -> None:
    for name in MADE:
        if name == "saturate":
            with pytest.raises(UserError, match="the image is gray; leave it out"):
                corrupt(photo(channels=1, size=28), name, 1, 0)
        else:
            made = corrupt(photo(channels=1, size=28), name, 5, 0)  # type: ignore[arg-type]
            assert made.shape == (1, 28, 28) and (made != photo(channels=1, size=28)).any(), name


@pytest.mark.parametrize("name", FILES_ONLY)
def test_what_cannot_be_made_here_names_the_files(name: str) -> None:
    with pytest.raises(UserError, match="folder: CIFAR-10-C"):
        corrupt(photo(), name, 1, 0)  # type: ignore[arg-type]


# --- the published files


def published(folder: Path, n: int = 8, name: str = "fog") -> tuple[np.ndarray, np.ndarray]:
    """Writes files of the form of CIFAR-10-C's, n images of each severity."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (5 * n, 32, 32, 3), dtype=np.uint8)
    y = np.tile(rng.integers(0, 10, n, dtype=np.uint8), 5)
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", x)
    np.save(folder / "labels.npy", y)
    return x, y


def test_published_files_are_read_as_they_are(tmp_path: Path) -> None:
    x, y = published(tmp_path / "C")
    for severity in (1, 3, 5):
        found = read_published(str(tmp_path / "C"), "fog", severity)
        index = np.array([6, 0, 3])
        images = found.take(index, y[index].astype(np.int64))
        block = x[8 * (severity - 1) :][:8][index]
        assert images.dtype == np.float32 and images.shape == (3, 3, 32, 32)
        assert (np.round(images * 255) == np.moveaxis(block, -1, 1)).all()
    hashes = {read_published(str(tmp_path / "C"), "fog", s).sha256() for s in (1, 2, 3, 4, 5)}
    assert len(hashes) == 5


def test_published_files_are_found_under_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(tmp_path / "CIFAR-10-C")
    monkeypatch.setenv("RBENCH_DATA", str(tmp_path))
    assert len(read_published("CIFAR-10-C", "fog", 2).x) == 8


def test_files_of_other_images_are_refused(tmp_path: Path) -> None:
    _, y = published(tmp_path / "C")
    found = read_published(str(tmp_path / "C"), "fog", 1)
    wrong = (y[:3].astype(np.int64) + 1) % 10
    with pytest.raises(UserError, match="its labels are not those of the images, first at"):
        found.take(np.arange(3), wrong)
    with pytest.raises(UserError, match="an image at position 8, found 8"):
        found.take(np.array([8]), np.array([0]))


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fog.npy: no such file; give params folder"):
        read_published(str(tmp_path), "fog", 1)
    published(tmp_path / "C")
    for name, array, said in (
        ("fog", np.zeros((7, 32, 32, 3), np.uint8), r"expected uint8 images \(5 n, h, w, c\)"),
        ("fog", np.zeros((10, 32, 32, 3), np.float32), "found float32"),
        ("labels", np.zeros(3, np.uint8), "expected 40 whole numbers"),
    ):
        published(tmp_path / "C")
        np.save(tmp_path / "C" / f"{name}.npy", array)
        with pytest.raises(UserError, match=said):
            read_published(str(tmp_path / "C"), "fog", 1)
    np.save(tmp_path / "C" / "fog.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match="not a readable"):
        read_published(str(tmp_path / "C"), "fog", 1)

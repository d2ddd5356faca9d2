"""Batches from memory and from files: the same for the same seed, complete, and never hanging."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF  # noqa: N812

from bench.core.errors import UserError
from bench.data.folder import FileImages, Geometry, scan_folder
from bench.train import source as module
from bench.train.recipe import Augment
from bench.train.source import DeviceSource, Source, StreamSource, augment_batch, random_box

CPU = torch.device("cpu")
SIZE = 16


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collect(
    source: Source, order: Tensor, batch_size: int = 8, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    return list(source.batches(order, batch_size, generator(seed)))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> FileImages:
    """20 images in 4 classes, each of one colour: red tells the position, blue the class."""
    root = tmp_path_factory.mktemp("colours")
    for position in range(20):
        folder = root / f"class{position // 5}"
        folder.mkdir(exist_ok=True)
        colour = (10 * position, 0, 60 * (position // 5))
        Image.new("RGB", (20 + position, 30), colour).save(folder / f"{position:02}.png")
    return scan_folder(root, Geometry(3, SIZE, SIZE))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> FileImages:
    """70 images of noise, of different sizes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for position in range(70):
        folder = root / f"class{position % 2}"
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (20 + position % 7, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{position:02}.png")
    return scan_folder(root, Geometry(3, SIZE, SIZE))


def test_images_in_memory_come_in_the_asked_order_and_random_stream() -> None:
    x = torch.randint(0, 256, (10, 3, 8, 8), generator=generator(), dtype=torch.uint8)
    y = torch.arange(10)
    augment = Augment(pad=2, flip=True)
    order = torch.tensor([7, 1, 9, 0, 4])
    for source in (DeviceSource(x, y, augment, CPU), DeviceSource(x / 255, y, augment, CPU)):
        stream, drawn = generator(3), generator(3)
        sizes = []
        for rows, (images, labels) in zip(
            ([7, 1], [9, 0], [4]), source.batches(order, 2, drawn), strict=True
        ):
            expected = augment_batch(x[rows].float() / 255, augment, stream)
            assert images.dtype == torch.float32
            assert torch.equal(images, expected) and labels.tolist() == rows
            # What the caller draws between two batches (the attack's start) is in the stream.
            assert torch.equal(torch.rand(3, generator=drawn), torch.rand(3, generator=stream))
            sizes.append(len(images))
        assert sizes == [2, 2, 1] and len(source) == 10


def test_every_file_comes_once_with_its_own_label(colours: FileImages) -> None:
    source = StreamSource(colours, SIZE, True, CPU, n_workers=0)
    order = torch.randperm(20, generator=generator(1))
    batches = collect(source, order)
    assert len(source) == 20 and [len(x) for x, _ in batches] == [8, 8, 4]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert x.shape == (20, 3, SIZE, SIZE) and x.dtype == torch.float32
    assert torch.equal((x[:, 0] * 25.5).round(), order.view(-1, 1, 1).expand(20, SIZE, SIZE))
    assert torch.equal(y, order // 5) and torch.equal((x[:, 2, 0, 0] * 255 / 60).round().long(), y)


@pytest.mark.process
def test_workers_change_nothing(photos: FileImages) -> None:
    before = torch.get_rng_state()
    order = torch.randperm(70, generator=generator(1))
    alone, again, helped, other = (
        collect(StreamSource(photos, SIZE, True, CPU, n), order, 40, seed)
        for n, seed in ((0, 5), (0, 5), (2, 5), (0, 6))
    )
    for (x, y), *rest in zip(alone, again, helped, strict=True):
        assert all(torch.equal(x, x_2) and torch.equal(y, y_2) for x_2, y_2 in rest)
    assert not torch.equal(alone[0][0], other[0][0])
    assert torch.equal(torch.get_rng_state(), before), "the global generator moved"


def test_a_crop_depends_on_neither_batch_nor_order(photos: FileImages) -> None:
    source = StreamSource(photos, SIZE, False, CPU, n_workers=0)
    together = collect(source, torch.arange(70), 70)[0][0]
    order = torch.tensor([66, 3, 41])
    apart = torch.cat([x for x, _ in collect(source, order, 1)])
    assert torch.equal(apart, together[order])


def test_crops_are_those_of_the_usual_recipe(photos: FileImages) -> None:
    """Torchvision's transform is the independent reference, pixel for pixel."""
    source = StreamSource(photos, SIZE, False, CPU, n_workers=0)
    images = collect(source, torch.arange(6), 6, seed=9)[0][0]
    seeds = torch.randint(2**62, (70,), generator=generator(9)).tolist()
    for path, seed, found in zip(photos.paths, seeds, images, strict=False):
        torch.manual_seed(seed)
        expected = RandomResizedCrop(SIZE)(Image.open(path))
        assert torch.equal(found, TF.pil_to_tensor(expected) / 255)


@pytest.mark.process
@pytest.mark.parametrize(("width", "height"), [(500, 375), (30, 90), (900, 100), (100, 900)])
def test_boxes_are_torchvisions(width: int, height: int) -> None:
    image = Image.new("L", (width, height))
    for seed in range(200):
        box = random_box(width, height, generator(seed))
        torch.manual_seed(seed)
        top, left, h, w = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        assert box == (left, top, left + w, top + h)


def test_half_of_the_files_are_flipped(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))  # rises to the right
    (tmp_path / "only").mkdir()
    for position in range(40):
        Image.fromarray(pixels).save(tmp_path / "only" / f"{position:02}.png")
    images = scan_folder(tmp_path, Geometry(1, 8, 8))
    for flip in (False, True):
        x, _ = collect(StreamSource(images, 8, flip, CPU, n_workers=0), torch.arange(40), 40)[0]
        rising = (x[:, 0, :, 7] > x[:, 0, :, 0]).all(1)
        falling = (x[:, 0, :, 7] < x[:, 0, :, 0]).all(1)
        assert x.shape == (40, 1, 8, 8) and bool((rising ^ falling).all())
        assert 8 < int(falling.sum()) < 32 if flip else bool(rising.all())


@pytest.mark.process
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_damaged_file_is_named(colours: FileImages, tmp_path: Path, n_workers: int) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(colours.paths[0].read_bytes()[:40])
    paths = (*colours.paths[:10], broken, *colours.paths[11:])
    damaged = FileImages(paths, colours.y, colours.class_names, colours.geometry)
    source = StreamSource(damaged, SIZE, True, CPU, n_workers)
    batches = source.batches(torch.arange(20), 8, generator())
    assert len(next(batches)[0]) == 8
    with pytest.raises(UserError) as error:
        next(batches)
    assert str(error.value).startswith(f"{broken}: not a readable image")
    assert "Traceback" not in str(error.value)
    assert not multiprocessing.active_children(), "workers outlive the error"


@pytest.mark.process
def test_an_abandoned_epoch_leaves_no_worker(photos: FileImages) -> None:
    batches = StreamSource(photos, SIZE, True, CPU, 2).batches(torch.arange(70), 8, generator())
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert not multiprocessing.active_children()


@pytest.mark.process
@pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="a patched worker has to be forked"
)
def test_a_killed_worker_is_an_error_and_no_hang(
    photos: FileImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, channels: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(module, "read_image", die)
    with pytest.raises(UserError, match="2 workers that decode training images was killed"):
        collect(StreamSource(photos, SIZE, True, CPU, 2), torch.arange(8))
    assert not multiprocessing.active_children()


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="file size limits are a matter of POSIX")
def test_a_lack_of_shared_memory_is_an_error_and_no_hang(photos: FileImages) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # shared memory is a file, too
    try:
        with pytest.raises(UserError, match="no shared memory is left"):
            collect(StreamSource(photos, SIZE, True, CPU, 1), torch.arange(8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_cores_are_shared_among_the_processes_of_a_machine(
    colours: FileImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = StreamSource(colours, SIZE, True, CPU).n_workers
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert alone >= StreamSource(colours, SIZE, True, CPU).n_workers == 1

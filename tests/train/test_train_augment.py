from __future__ import annotations

import torch
from torch import Tensor

from bench.train.recipe import Augment
from bench.train.source import augment_batch


def images(n: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, 2, 5, 4), generator=generator, dtype=torch.uint8)


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """Shifts an image (c, h, w), pixel by pixel; what comes from outside is 0."""
    out = torch.zeros_like(image)
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            if 0 <= i + down < image.shape[1] and 0 <= j + right < image.shape[2]:
                out[:, i, j] = image[:, i + down, j + right]
    return out


def test_each_image_is_shifted_and_flipped_on_its_own() -> None:
    x = images()
    y = augment_batch(x, Augment(pad=1, flip=True), torch.Generator().manual_seed(1))
    assert y.shape == x.shape and y.dtype == x.dtype
    seen = set()
    for before, after in zip(x, y, strict=True):
        options = {
            (down, right, flip): shifted(before, down, right).flip(2) if flip
            else shifted(before, down, right)
            for down in (-1, 0, 1) for right in (-1, 0, 1) for flip in (False, True)
        }  # fmt: skip
        matches = [key for key, option in options.items() if torch.equal(option, after)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 10, "40 draws of 18 choices"


def test_nothing_asked_nothing_done() -> None:
    x = images()
    assert torch.equal(augment_batch(x, Augment(), torch.Generator()), x)


def test_the_generator_decides() -> None:
    x, spec = images(), Augment(pad=2, flip=True)
    first, again, other = (
        augment_batch(x, spec, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)

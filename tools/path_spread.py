"""How far one scoring path of RNA scatters: ``python -m tools.path_spread``.

The RNA paper attacks one path and scores another, both held for a batch. This attacks one path of
a batch with PGD-20 and scores 50 others, and prints the mean and the standard deviation of the
batch's accuracy over them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.core.cell import DataSpec
from bench.data.slice import take_slice
from bench.norms import find_paths, pinned
from bench.zoo import open_checkpoint

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
EPS, ALPHA, N_ITER, BATCH, N_BATCHES, N_PATHS = 0.1, 0.025, 20, 128, 4, 50


def pgd(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the last iterate (b, c, h, w) of PGD in linf, from a random start."""
    x_adv = x + (2 * torch.rand(x.shape, generator=generator) - 1) * EPS
    for _ in range(N_ITER):
        x_adv = x_adv.clamp(0, 1).requires_grad_()
        loss = cross_entropy(model(x_adv), y, reduction="sum")
        step = ALPHA * torch.autograd.grad(loss, x_adv)[0].sign()
        x_adv = x + (x_adv.detach() + step - x).clamp(-EPS, EPS)
    return x_adv.clamp(0, 1)


def main() -> None:
    model = open_checkpoint(CHECKPOINTS / "fmnist-resnet20-rna-at").load().eval()
    where = DataSpec(name="fashion-mnist", limit=BATCH * N_BATCHES, seed=0, stratified=True)
    data = take_slice(where)
    sizes, generator = torch.tensor(find_paths(model).sizes), torch.Generator().manual_seed(0)

    def path() -> Tensor:
        return (torch.rand(len(sizes), generator=generator) * sizes).long()

    print("| batch | mean accuracy, % | standard deviation, points |\n| --: | --: | --: |")
    for i in range(N_BATCHES):
        x = torch.from_numpy(data.x[i * BATCH :][:BATCH])
        y = torch.from_numpy(data.y[i * BATCH :][:BATCH])
        with pinned(model, path()):
            x_adv = pgd(model, x, y, generator)
        found = []
        for _ in range(N_PATHS):
            with torch.no_grad(), pinned(model, path()):
                found.append((model(x_adv).argmax(1) == y).double().mean())
        scores = 100 * torch.stack(found)
        print(f"| {i + 1} | {scores.mean():.1f} | {scores.std():.1f} |", flush=True)


if __name__ == "__main__":
    main()

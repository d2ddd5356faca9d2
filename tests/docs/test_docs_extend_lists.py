"""The lists of docs/extend.md, each followed literally in a copy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doc_blocks import ROOT

from bench.attacks import get_attack

pytestmark = pytest.mark.slow

NORM = '''"""Scale normalization: divides each image by its root mean square."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScaleNorm(nn.Module):
    """Divides each image (c, h, w) by its root mean square, with a learned scale per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes (b, c, h, w); same shape out."""
        size = x.square().mean((1, 2, 3), keepdim=True).add(1e-5).sqrt()
        return x / size * self.weight.view(1, -1, 1, 1)
'''

NORM_EDITS = {
    "bench/core/norm_spec.py": (
        '    "ln": Family("layer normalization"),\n',
        '    "sn": Family("scale normalization"),\n',
    ),
    "bench/norms/build.py": (
        '        "ln": lambda: layer_norm(channels),\n',
        '        "sn": lambda: ScaleNorm(channels),\n',
    ),
    "CHANGELOG.md": ("- Checkpoints as safetensors", "- Norm `sn`.\n"),
}
"""The other files of the list: where a line is added, after which one."""

USES_NORM = """
import torch
from bench.core.model_spec import ModelSpec
from bench.core.norm_spec import NormSpec
from bench.models import build_model

io = dict(arch="resnet20", channels=1, size=28, classes=10, mean=(0.0,), std=(1.0,))
for norm in ("sn", {"name": "rna", "pool": ["bn", "sn"]}):
    model = build_model(ModelSpec.model_validate({**io, "norm": norm})).eval()
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
spec = NormSpec(name="sn")
assert not spec.batch_dependent and not spec.stochastic and spec.inference_stats is None
try:
    NormSpec.model_validate({"name": "sn", "groups": 2})
except ValueError as error:
    assert "takes no groups" in str(error)
else:
    raise AssertionError("a parameter of other norms is taken")
"""

FORMAT = '''"""``parquet:PATH``: grey images and labels in a Parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bench.data.images import Dataset, Images, own_dataset
from bench.data.roots import locate


def open_parquet(name: str, path: str, root: Path) -> Dataset:
    """Opens ``parquet:PATH``."""

    def read(split: str) -> Images:
        table = pq.read_table(locate(path, split, root))
        x = np.array(table["x"].to_pylist(), np.uint8)
        size = round(x.shape[1] ** 0.5)
        return Images(x.reshape(-1, 1, size, size), np.array(table["y"].to_pylist(), np.int64))

    test = read("test")
    classes = int(test.y.max()) + 1
    return own_dataset(name, path, classes, 1, test.x.shape[2], (), test, lambda: read("train"))
'''

ATTACK = '''"""Random corners of the ball."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.attacks.ball import ball_of
from bench.attacks.base import Budget
from bench.attacks.common import Best
from bench.attacks.declared import CornersParams
from bench.oracle import Oracle, cross_entropy


def corners(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: CornersParams, seed: int
) -> Tensor:
    """Returns the corners (b, c, h, w) with the highest loss of ``n_trials``."""
    generator = torch.Generator().manual_seed(seed)
    ball, best = ball_of(budget), Best(x, oracle.coupled)
    for _ in range(params.n_trials):
        signs = torch.sign(torch.randn(x.shape, generator=generator)).to(x)
        x_adv = ball.project(x + signs * ball.radius(x), x)
        best.offer(x_adv, oracle.query(x_adv, y, cross_entropy, grad=False).loss)
    return best.x_adv
'''

ATTACK_PARAMS = '''class CornersParams(Spec):
    """Parameters of random corners.

    Attributes:
        n_trials: Corners tried.
    """

    n_trials: Count = 5


'''
ATTACK_ENTRY = """    Attack(
        name="corners",
        version=1,
        kind="bounded",
        norms=("linf",),
        params=CornersParams,
        run=Deferred("bench.attacks.corners:corners"),
        summary="random corners of the ball",
        url="",
        passes=lambda params: float(params.n_trials),
        traits=Traits(gradients="never"),
    ),
"""

USES_ATTACK = """
import torch
from torch import nn
from bench import evaluate

x, y = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
result = evaluate(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), x, y, "linf:0.1",
                  [("corners", {"n_trials": 2})])
assert "corners" in str(result)
"""

THREAT_FACTS = """    "l3": NormFacts(
        order=3.0, capital="L3", per_pixel=False, steepest="root of the gradient"
    ),
"""
BALL = '''class _L3Ball(Ball):
    """The cubes of the perturbation's absolute values add up to at most eps cubed."""

    norm = "l3"

    @property
    def step_radius(self) -> float:
        return min(self.eps)

    def surface_step(self, x: Tensor) -> Tensor | float:
        return self.step_radius

    def relative_radii(self, x: Tensor) -> Tensor:
        return torch.ones_like(self.radius(x))

    def ascent_direction(self, grad: Tensor) -> Tensor:
        along = self.along(grad.flatten(1), grad)
        return (along / self.size(along, along).clamp(min=1e-30)[:, None]).view_as(grad)

    def random_point(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.project(x + torch.randn(x.shape, generator=generator).to(x), x)

    def excess(self, delta: Tensor) -> Tensor:
        return self.size(delta.flatten(1), delta) - self.step_radius * (1 + 1e-5)

    def relative_size(self, delta: Tensor) -> Tensor:
        return self.size(delta.flatten(1), delta) / self.step_radius

    def size(self, delta: Tensor, radii: Tensor) -> Tensor:
        return torch.as_tensor(delta.norm(3, dim=-1))

    def dual_norm(self, w: Tensor, radii: Tensor) -> Tensor:
        return torch.as_tensor(w.norm(1.5, dim=-1))

    def along(self, w: Tensor, radii: Tensor) -> Tensor:
        return w.sign() * w.abs().sqrt()

    def rise(self, dual: Tensor) -> Tensor:
        return dual**1.5

    def step_to_plane(self, x: Tensor, w: Tensor, gap: Tensor, radii: Tensor) -> Tensor:
        return step_to_plane(x, w, gap, w.abs().sqrt())

    def orthogonal_directions(self, grad: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return self.along(grad, grad), torch.where(grad == 0, draws, 0)

    def _within(self, delta: Tensor) -> Tensor:
        length = self.size(delta.flatten(1), delta).clamp(min=1e-12)
        return delta * (self.step_radius / length).clamp(max=1).view(-1, 1, 1, 1)


'''

USES_THREAT_NORM = """
import torch
from torch import nn
from bench import evaluate

generator = torch.Generator().manual_seed(0)
x = 0.4 + 0.2 * torch.rand(64, 1, 4, 4, generator=generator)
linear = nn.Linear(16, 2, bias=False)
with torch.no_grad():
    linear.weight.copy_(torch.randn(2, 16, generator=generator))
logits = linear(x.flatten(1)).detach()
y, w = logits.argmax(1), linear.weight[0] - linear.weight[1]
reach = (logits[:, 0] - logits[:, 1]).abs() / w.abs().pow(1.5).sum().pow(2 / 3)
eps = round(float(reach.median()), 4)
clear = (reach / eps - 1).abs() > 0.1  # 20 steps from a random point come this near
x, y, stands = x[clear], y[clear], reach[clear] > eps
assert 5 < int(stands.sum()) < len(x) - 5
net = nn.Sequential(nn.Flatten(), linear)
for attack in ("fgsm", "pgd"):
    found = evaluate(net, x, y, f"l3:{eps}", [attack]).robust_accuracy(attack).value
    assert abs(found - float(stands.float().mean())) < 1e-6, (attack, found)
try:
    evaluate(net, x, y, "l3:0.3", ["square"])
except Exception as error:
    assert "l3" in str(error), error
else:
    raise AssertionError("an attack of other norms is taken")
"""


def copied(folder: Path) -> Path:
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "CHANGELOG.md", folder)
    return folder


def add_line(file: Path, before: str, line: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    place = text.index(before)
    place += len(before) if before.endswith("\n") else 0
    file.write_text(text[:place] + line + text[place:], encoding="utf-8")


def replace_once(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_norm_touches_four_files(tmp_path: Path) -> None:
    place = copied(tmp_path)
    (place / "bench/norms/scale.py").write_text(NORM, encoding="utf-8")
    assert 1 + len(NORM_EDITS) <= 4
    for file, (before, line) in NORM_EDITS.items():
        add_line(place / file, before, line)
    build = place / "bench/norms/build.py"
    imported = "from bench.norms.plain import"
    add_line(build, imported, "from bench.norms.scale import ScaleNorm\n")
    run(place, "-c", USES_NORM)
    assert "scale normalization" in run(place, "-m", "bench", "list", "norms")


def test_a_data_set_format_touches_two_files(tmp_path: Path) -> None:
    place = copied(tmp_path)
    (place / "bench/data/parquet.py").write_text(FORMAT, encoding="utf-8")
    forms = place / "bench/data/path_forms.py"
    add_line(forms, '    "npz": open_npz,\n', '    "parquet": open_parquet,\n')
    add_line(forms, "PATH_FORMS: dict", "from bench.data.parquet import open_parquet\n\n")
    draw = np.random.default_rng(0)
    for split, n in (("test", 6), ("train", 9)):
        x = [row.tolist() for row in draw.integers(0, 256, (n, 64))]
        table = pa.table({"x": x, "y": [i % 3 for i in range(n)]})
        pq.write_table(table, place / f"made-{split}.parquet")
    script = """
from bench.data.named import get_dataset
from bench.data.path_forms import is_path_form
from bench.data.slice import load_split
name = "parquet:made-{split}.parquet"
found = get_dataset(name)
assert is_path_form(name) and (found.classes, found.channels, found.size) == (3, 1, 8)
assert len(load_split(name, "test").y) == 6 and len(load_split(name, "train").y) == 9
try:
    get_dataset("mnits")
except Exception as error:
    assert "parquet:PATH" in str(error), error
"""
    run(place, "-c", script)


def test_an_attack_touches_three_files(tmp_path: Path) -> None:
    place = copied(tmp_path)
    (place / "bench/attacks/corners.py").write_text(ATTACK, encoding="utf-8")
    declared = place / "bench/attacks/declared.py"
    add_line(declared, "LP_NORMS = ", ATTACK_PARAMS)
    add_line(declared, "ATTACKS: tuple[Attack, ...] = (\n", ATTACK_ENTRY)
    add_line(place / "CHANGELOG.md", "- Checkpoints as safetensors", "- Attack `corners`.\n")
    run(place, "-c", USES_ATTACK)
    assert "random corners of the ball" in run(place, "-m", "bench", "list", "attacks")


def test_a_norm_of_the_threat_model_touches_three_files(tmp_path: Path) -> None:
    place = copied(tmp_path)
    facts, balls = place / "bench/core/ball.py", place / "bench/attacks/ball.py"
    replace_once(facts, 'Literal["linf", "l2", "l1"]', 'Literal["linf", "l2", "l1", "l3"]')
    add_line(facts, "_FACTS: dict[str, NormFacts] = {\n", THREAT_FACTS)
    add_line(balls, "BALLS: dict", BALL)
    replace_once(balls, "(_LinfBall, _L2Ball, _L1Ball)", "(_LinfBall, _L2Ball, _L1Ball, _L3Ball)")
    declared = place / "bench/attacks/declared.py"
    for attack in ("fgsm", "pgd"):
        version = get_attack(attack).version
        named = (
            f'name="{attack}",\n        version={version},\n        kind="bounded",\n        norms='
        )
        replace_once(declared, f"{named}LP_NORMS", f'{named}(*LP_NORMS, "l3")')
    run(place, "-c", USES_THREAT_NORM)

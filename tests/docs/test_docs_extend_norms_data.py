"""docs/extend.md's lists for a norm and for a data-set format, followed literally in a copy."""

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

"""What a cell needs to know of a model, whoever made it."""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.attacks.base import Attack
from bench.core.errors import UserError
from bench.core.host import installed, processor
from bench.models import Classifier
from bench.norms import find_paths
from bench.norms.on_batch import shares_statistics


@dataclass(frozen=True)
class Target:
    """A model with what an evaluation must know of it.

    Attributes:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes); in eval mode.
        std: Per-channel standard deviation (c,) that it divides by, which turns an eps in
            normalized units into pixels; ones where it is not known.
        classes: Number of classes.
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
    """

    model: nn.Module
    std: tuple[float, ...]
    classes: int
    stochastic: bool = False
    batch_dependent: bool = False

    @classmethod
    def of(cls, model: Classifier) -> Target:
        """Returns a model, with the statistics that are now in force."""
        spec = model.spec
        declared = "batch-dependent" in spec.norm.declares
        of_plugin = spec.norm.of_plugin and spec.norm.batch_dependent
        shares = declared or of_plugin or shares_statistics(model)
        return cls(model, spec.std, spec.classes, spec.norm.stochastic, shares)

    @property
    def device(self) -> torch.device:
        """Where its tensors lie."""
        return device_of(self.model)

    @property
    def shares_draws(self) -> bool:
        """Whether the images of a pass may share a draw.

        Paths of this project's RNA layers are drawn for each image, unless images share
        statistics anyway; how another model draws is not known.
        """
        return self.stochastic and find_paths(self.model) is None


def device_of(model: nn.Module) -> torch.device:
    """Returns where a model's first parameter or buffer lies; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


_DRIVERS = ("libcuda.so.1", "/dev/kfd")
"""What CUDA, and what torch for AMD, cannot do without on Linux: NVIDIA's library, and a device."""


def no_tf32() -> None:
    """Turns TF32 off in this process: what the verifier calls fp32 has to be fp32."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def pick_device(name: str) -> str:
    """Returns a torch device name; ``auto`` is CUDA where there is one. On CUDA, turns TF32 off.

    Raises:
        UserError: When the device does not exist here.
    """
    kind, _, number = name.partition(":")
    if name != "auto" and (kind not in ("cpu", "cuda") or (number and not number.isdigit())):
        raise UserError(f"--device: expected cpu, cuda, cuda:N or auto, found '{name}'")
    if kind == "cpu":
        return name
    found = _n_gpus()
    if name == "auto":
        name = "cuda" if found else "cpu"
    elif int(number or 0) >= found:
        raise UserError(
            f"--device {name}: this machine has {found} CUDA device(s); use --device cpu"
        )
    if found:
        no_tf32()
    return name


def _n_gpus() -> int:
    """Returns how many GPUs torch can use; it is asked only where there may be one."""
    if sys.platform == "linux" and not any(map(_is_there, _DRIVERS)):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _is_there(driver: str) -> bool:
    if driver.startswith("/"):
        return Path(driver).exists()
    try:
        ctypes.CDLL(driver)
    except OSError:
        return False
    return True


def machine(device: torch.device) -> str:
    """Names the device in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s) a cell"


def versions(attack: Attack) -> dict[str, str]:
    """Returns the versions of python, torch, rbench, and the attack's library and plugin."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return found | installed("rbench", attack.library, attack.distribution)

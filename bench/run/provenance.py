"""On what a number was made: device and versions, in words."""

from __future__ import annotations

import platform

import torch

from bench.attacks.base import Attack
from bench.core.host import installed, processor


def machine(device: torch.device) -> str:
    """Names the device in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s) a cell"


def versions(attack: Attack) -> dict[str, str]:
    """Returns the versions of python, torch, rbench, and the attack's library and plugin."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return found | installed("rbench", attack.library, attack.distribution)

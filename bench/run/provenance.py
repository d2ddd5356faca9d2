"""On what a number was made: device and versions, in words."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from bench.attacks.base import Attack
from bench.core.host import processor


def machine(device: torch.device) -> str:
    """Names the device in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s) a cell"


def versions(attack: Attack) -> dict[str, str]:
    """Returns the versions of python, torch, rbench, and the attack's library and plugin."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    packages = ("rbench", attack.library, attack.distribution)
    return found | {name: version_of(name) for name in packages if name}


def version_of(package: str) -> str:
    """Returns the version of an installed distribution, or says that there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"

"""Which device models run on. A machine without a GPU is recognized without importing torch."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from bench.core.errors import UserError

_DRIVERS = ("libcuda.so.1", "/dev/kfd")
"""What torch needs on Linux for CUDA (NVIDIA's library) and for ROCm (a device file)."""


def no_tf32() -> None:
    """Turns TF32 off in this process, since the verifier promises float32."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def pick_device(name: str, option: str = "--device ") -> str:
    """Returns a torch device; ``auto`` is CUDA if there is a GPU. On a GPU, turns TF32 off.

    Args:
        name: The device asked for.
        option: What a caller writes before it, for messages.

    Raises:
        UserError: When the device does not exist here.
    """
    kind, _, number = name.partition(":")
    if name != "auto" and (kind not in ("cpu", "cuda") or (number and not number.isdigit())):
        key = option.rstrip(" =")
        raise UserError(f"{key}: expected cpu, cuda, cuda:N or auto, found '{name}'")
    if kind == "cpu":
        return name
    found = _n_gpus()
    if name == "auto":
        name = "cuda" if found else "cpu"
    elif int(number or 0) >= found:
        raise UserError(
            f"{option}{name}: this machine has {found} CUDA device(s); use {option}cpu, or "
            f"{option}auto for what there is"
        )
    if found:
        no_tf32()
    return name


def _n_gpus() -> int:
    """Returns how many GPUs torch can use; torch is imported only where there may be one."""
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

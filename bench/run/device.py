"""Which device to use."""

from __future__ import annotations

import torch

from bench.core.errors import UserError


def no_tf32() -> None:
    """Turns TF32 off in this process: what the verifier calls fp32 has to be fp32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def pick_device(name: str) -> str:
    """Returns a torch device name; ``auto`` is CUDA where there is one. Turns TF32 off.

    Raises:
        UserError: When the device does not exist here.
    """
    no_tf32()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UserError(f"--device: expected cpu, cuda, cuda:N or auto, found '{name}'")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA device(s)"
        raise UserError(f"--device {name}: this machine has {found}; use --device cpu")
    return name

"""Too little memory, as the devices say it."""

from __future__ import annotations

import torch


def out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def give_back(device: torch.device) -> None:
    """Returns memory that is held but not used to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()

"""The machine that a speed table was made on."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from bench.core.host import abilities, has_bfloat16, today, usable_cores
from bench.evaluation.model import machine


def describe_host(device: str, packages: tuple[str, ...] = ("rbench", "torch")) -> str:
    """Returns processor, instruction sets, cores, threads, versions and date on one line."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    where = machine(torch.device(device)).partition(",")[0]
    cores, threads = usable_cores(), torch.get_num_threads()
    able = ", ".join(abilities()) or "instructions not known"
    host = f"{where} ({able}), {cores} cores, {threads} torch thread(s)"
    python = f"Python {platform.python_version()}"
    return f"{host}, {python}, {versions}, {today()}"


def kind_of(device: str) -> str:
    """Returns the kind of processor, on which relative speeds depend.

    A CPU is of one of two kinds, with or without instructions for bfloat16; a GPU goes by its name.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return "CPU with bfloat16" if has_bfloat16() else "CPU without bfloat16"

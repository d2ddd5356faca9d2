"""Which device a command uses; there is no GPU here, so torch is asked about made-up ones."""

from __future__ import annotations

import pytest
import torch

from bench.core.errors import UserError
from bench.evaluation import device
from bench.evaluation.device import pick_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes torch tell of two GPUs, and their driver be there."""
    monkeypatch.setattr(device, "_DRIVERS", ("/dev/null",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)


def test_a_gpu_is_used_without_tf32(gpus: None) -> None:
    assert pick_device("auto") == "cuda" and not torch.backends.cudnn.allow_tf32


def test_a_gpu_may_be_named(gpus: None) -> None:
    assert pick_device("cuda:1") == "cuda:1" and not torch.backends.cudnn.allow_tf32
    with pytest.raises(UserError, match=r"cuda:2: this machine has 2 CUDA device"):
        pick_device("cuda:2")


@pytest.mark.parametrize("drivers", [(), ("/dev/no such device", "libno-such-library.so.1")])
def test_without_a_driver_torch_is_not_asked(
    drivers: tuple[str, ...], gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_DRIVERS", drivers)
    assert pick_device("auto") == "cpu"
    with pytest.raises(UserError, match="this machine has 0 CUDA device"):
        pick_device("cuda")


def test_a_library_counts_as_a_driver(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVERS", ("libc.so.6",))
    assert pick_device("auto") == "cuda"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:x", ""])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected cpu, cuda, cuda:N or auto"):
        pick_device(name)

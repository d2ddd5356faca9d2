"""State of the process that third-party attacks use: global generators and the trace function."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_RANDOM_STATE = np.random.RandomState


class _FromGlobal(np.random.RandomState):
    """A generator that draws its seed from the global one, where it is given none."""

    def __init__(self, seed: Any = None) -> None:
        super().__init__(np.random.randint(2**31) if seed is None else seed)


def reseed(seed: int) -> None:
    """Seeds torch's, numpy's and Python's global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's, numpy's and Python's global generators, and restores them on leaving.

    Generators that numpy would seed by chance (``RandomState()``, as three attacks of ART have
    them) take their seed from the global one meanwhile.
    """
    cuda = list(range(torch.cuda.device_count()))
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=cuda):
        reseed(seed)
        try:
            np.random.RandomState = _FromGlobal  # type: ignore[misc]
            yield
        finally:
            np.random.RandomState = _RANDOM_STATE  # type: ignore[misc]
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextmanager
def tracing_kept() -> Iterator[None]:
    """Restores the trace function, which pyautoattack's check for dynamic defences removes.

    A debugger or the measurement of coverage would end there.
    """
    tracer = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(tracer)

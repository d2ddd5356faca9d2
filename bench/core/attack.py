"""An attack with its parameters, as suites and cells see it, without its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bench.core.errors import UserError

AttackKind = Literal["none", "bounded", "minimum-norm"]


class ParamsError(UserError):
    """Unknown or bad parameters of an attack, each with its own message.

    Args:
        problems: Pairs of a parameter's name and what is wrong with it.
    """

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{name}: {message}" for name, message in problems))


@dataclass(frozen=True)
class AttackInfo:
    """An attack with its parameters filled in.

    Attributes:
        version: Of the attack's code.
        library: The library or plugin that it comes from, with its version; empty for native code.
        params: Every parameter, defaults included, as plain JSON values.
        kind: ``none`` (the clean image), ``bounded`` or ``minimum-norm``.
        keeps_batch: Whether it always passes the whole batch to the model, in order.
        may_be_fast: Whether it may search in low precision.
        passes_per_image: Forward plus backward passes that it spends on an image; ``None`` where
            that cannot be known beforehand.
    """

    version: int
    library: str
    params: dict[str, Any]
    kind: AttackKind
    keeps_batch: bool
    may_be_fast: bool
    passes_per_image: float | None

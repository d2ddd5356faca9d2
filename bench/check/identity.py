"""Whether two cells are comparable, and whether two checkpoints come from one training."""

from __future__ import annotations

from collections.abc import Iterator

from bench.check.record import Record
from bench.core.cell import CellSpec
from bench.core.checkpoint import CheckpointFacts
from bench.core.result import Cluster
from bench.core.weight_sketch import SAME_TRAINING, cosine

SUBJECT = ("checkpoint", "sha256", "library")
"""Fields of ``CellSpec`` that may differ between baseline and run: their effect is what a check
tests. All others must match."""

_CLUSTER: dict[Cluster, str] = {
    "batch": "images of a batch share statistics or draws, which they did not before",
    "sample": "images are independent, and those of a batch shared statistics or draws before",
}

UNKNOWN_RELATION = (
    "its weights changed, and nothing is known of how they are related to those before"
)


def differences(before: Record, now: Record) -> tuple[str, ...]:
    """Returns the differences in how two cells were measured, for example ``n_iter 20, was 40``.

    Empty if at most the model differs, so that their numbers are comparable.
    """
    found = list(_of_specs(before.spec, now.spec))
    if before.cluster != now.cluster:
        found.append(_CLUSTER[now.cluster])
    if before.index != now.index and not found:
        found.append("the images or their order")
    return tuple(found)


def _of_specs(before: CellSpec, now: CellSpec) -> Iterator[str]:
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    for part in dict.fromkeys((*old, *new)):  # what is not given may be left out
        then, now_ = old.get(part), new.get(part)
        if part in SUBJECT or then == now_:
            continue
        if part == "adaptive":
            yield f"attack {_brought(now)}, was {_brought(before)}"
        elif isinstance(then, dict) and isinstance(now_, dict):
            yield from _of_parts(part, then, now_)
        else:
            yield f"{part} {_shown(now_)}, was {_shown(then)}"


def _brought(spec: CellSpec) -> str:
    """Says what an adaptive attack brings, with the first digits of its hashes."""
    adaptive = spec.adaptive
    if adaptive is None:
        return "not adaptive"
    found = [one for one in (adaptive.gradient_model, adaptive.loss) if one is not None]
    hashes = ", ".join(one.sha256[:12] for one in found)
    return f"with {' and '.join(adaptive.words())} (sha256 {hashes})"


def _of_parts(part: str, old: dict[str, object], new: dict[str, object]) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            where = name if part == "attack_params" else f"{part}.{name}"
            yield f"{where} {_shown(new.get(name))}, was {_shown(old.get(name))}"


def _shown(value: object) -> str:
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def trained_apart(before: CheckpointFacts | None, now: CheckpointFacts | None) -> str:
    """Returns why two checkpoints with different weights are two trainings; empty if they are not.

    Each training is one random draw, so a difference between two networks says little about a
    change of code or recipe, and their cells are never called the same.

    Args:
        before: Facts about the older checkpoint, if known.
        now: Facts about the newer one.
    """
    if before is None or now is None:
        return UNKNOWN_RELATION
    pairs = {
        "architecture": (before.arch, now.arch),
        "norm": (before.norm, now.norm),
        "norm's parameters": (before.norm_spec or None, now.norm_spec or None),
        "training": (before.training, now.training),
        "seed of the training": (before.seed, now.seed),
        "recipe": (before.recipe or None, now.recipe or None),
    }
    for what, (old, new) in pairs.items():
        if old != new and None not in (old, new):
            shown = f" {now.norm}, was {before.norm}" if what == "norm" else ""
            shown = f" {new}, was {old}" if what == "seed of the training" else shown
            return f"another training: another {what}{shown}"
    likeness = cosine(before.sketch, now.sketch)
    if likeness is None:
        return UNKNOWN_RELATION
    if likeness < SAME_TRAINING:
        return f"another training: its weights have a cosine of about {likeness:.2f} with before"
    return ""

"""Every field that a run stores. Accuracies are floats in [0, 1], distances in pixel units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from bench.core.attack import AttackKind, Traits, target_text
from bench.core.cell import CellSpec
from bench.core.spec import Spec

Status = Literal["ok", "beyond_eps", "out_of_ball", "out_of_box", "not_finite"]
"""What the verifier says of one x_adv. ``ok``: inside ball and box. ``beyond_eps``: of a
minimum-norm attack, farther than eps, so the adversary plays the clean image. The rest are
violations by a bounded attack: the image is not scored and the cell is incomplete."""

VIOLATIONS: tuple[Status, ...] = ("out_of_ball", "out_of_box", "not_finite")

Cluster = Literal["sample", "batch"]
"""What is independent of what: every sample, or only whole batches."""


DISTANCES = ("linf", "l2")
"""Fields of ``Row`` that record the size of the perturbation, whatever the threat model's norm."""


@dataclass(frozen=True)
class Row:
    """One image of one cell.

    Attributes:
        index: Position in the data set's split.
        label: True class.
        clean_pred: Predicted class of the clean image (majority over draws if stochastic).
        clean_correct: Whether it is right: 0 or 1, or the fraction of draws.
        adv_pred: The same of x_adv; -1 where the verifier found a violation.
        adv_correct: The same of x_adv; ``None`` where the verifier found a violation.
        robust: Score of the image that the adversary plays: 0 or 1, or the fraction of fresh
            draws that are right; ``None`` where the verifier found a violation.
        played: ``adv`` or ``clean``: the adversary plays the clean image where that is wrong
            already, or where x_adv is beyond eps. A batch-dependent model's batch is played whole.
        linf: Largest absolute pixel difference between x_adv and x.
        l2: Euclidean norm of the difference.
        status: The verifier's word.
        batch: Number of the batch in which the image was attacked and scored.
        forwards: Forward passes spent on the image (mean over its batch where the attack does
            not tell images apart).
        backwards: The same for backward passes.
        choice: The score again, on draws of their own, by which a worst case over attacks chooses
            one: chosen by ``robust``, the luckiest would count. ``None`` for a deterministic
            model, and in stores from before it was recorded.
        target: The class that a targeted attack brings the image to; ``None`` for an untargeted
            one. Then ``robust`` and ``choice`` are the fractions of draws that are not this class:
            success is the target, and another wrong class is none.
    """

    index: int
    label: int
    clean_pred: int
    clean_correct: float
    adv_pred: int
    adv_correct: float | None
    robust: float | None
    played: str
    linf: float
    l2: float
    status: Status
    batch: int
    forwards: float
    backwards: float
    choice: float | None = None
    target: int | None = None


class CellInfo(Spec):
    """What is stored beside a cell's rows.

    Attributes:
        cell_id: Equal to ``spec.cell_id``.
        spec: The identity.
        complete: Whether every image has a verified score.
        error: Why not, in one line; empty for a complete cell.
        attack_kind: ``none``, ``bounded``, ``minimum-norm`` or ``corruption``.
        traits: How the attack searches; ``None`` in stores from before it was recorded.
        cluster: What is independent of what: ``sample``, or ``batch`` where the images of a batch
            share statistics or a path.
        whole_batches: Whether the adversary plays x_adv on all images of a batch or on none, as
            they share statistics and all of them are attacked.
        zero_gradients: How many of the images that it left right have a gradient of zero at x_adv;
            ``None`` where that was not looked at.
        alarms: Reasons to doubt the number, in plain words.
        seconds: Wall-clock time of the cell.
        precision: Of the attack's passes: ``float32``, or for example
            ``bfloat16, channels-last``.
        machine: Device and threads.
        versions: Of python, torch, rbench and the attack's library.
        date: Of the run, ISO 8601, UTC.
    """

    cell_id: str
    spec: CellSpec
    complete: bool
    error: str = ""
    attack_kind: AttackKind
    traits: Traits | None = None
    cluster: Cluster
    whole_batches: bool = False
    zero_gradients: int | None = Field(default=None, ge=0)
    alarms: tuple[str, ...] = ()
    seconds: float = Field(ge=0)
    precision: str = "float32"
    machine: str
    versions: dict[str, str]
    date: str


def does_not_average(info: CellInfo) -> bool:
    """Says whether a white-box attack followed single draws of a stochastic model's gradient."""
    spec = info.spec
    single = spec.n_draws > 1 and spec.eot_iter == 1 and spec.eot == "plain"
    follows = info.attack_kind != "none" and (
        info.traits is None or info.traits.gradients != "never"
    )
    return single and follows and spec.protocol == "white_box"


MINIMUM_NORM = "†"
"""Mark of a minimum-norm attack beside bounded ones."""

MINIMUM_NORM_TEXT = (
    "minimum-norm attack: it is not told eps and succeeds only within eps, so it is no equal of "
    "the bounded attacks"
)


def standing_beyond(rows: Iterable[Row]) -> tuple[int, int]:
    """Returns how many images that an attack left right lie beyond eps, and how many it left right.

    Where most do, a minimum-norm attack went farther than it may, and the number says little about
    the ball.
    """
    left = [row for row in rows if (row.robust or 0) > 0.5]
    return sum(row.status == "beyond_eps" for row in left), len(left)


def minimum_norm_note(beyond: int, standing: int) -> str:
    """Says what the mark of a minimum-norm attack means, with the counts of ``standing_beyond``."""
    counts = f"; {beyond} of {standing} standing images lie beyond eps" if standing else ""
    return MINIMUM_NORM_TEXT + counts


NOT_AVERAGED = (
    "an adversary who does not average: each gradient is of one draw (eot_iter 1) of a model that "
    "draws at random, so the number may be too high"
)


def targeted_note(info: CellInfo) -> str:
    """Says what the number of a targeted attack means; empty for any other."""
    if info.spec.y_target is None:
        return ""
    return (
        f"targeted ({target_text(info.spec.y_target)}): success is a prediction of the target, so "
        "the number is the share of images that are not brought to it, no accuracy and no part of "
        "a worst case"
    )


def notes_of(info: CellInfo) -> tuple[str, ...]:
    """Returns what every table says of a cell's attack, beside its name."""
    averages = () if not does_not_average(info) else (NOT_AVERAGED,)
    aimed = tuple(filter(None, (targeted_note(info),)))
    return (*aimed, *averages, *adaptive_notes([info]))


def adaptive_notes(infos: Iterable[CellInfo]) -> tuple[str, ...]:
    """Returns what a number that rests on several cells says of adaptive attacks among them."""
    found = (info.spec.adaptive for info in infos)
    return tuple(dict.fromkeys(adaptive.note() for adaptive in found if adaptive is not None))


def cluster_of(infos: Iterable[CellInfo]) -> Cluster:
    """Returns what is independent of what in a number that rests on several cells."""
    return "batch" if any(info.cluster == "batch" for info in infos) else "sample"


def alarms_of(infos: Iterable[CellInfo]) -> tuple[str, ...]:
    """Returns the alarms of cells in their order, each once."""
    return tuple(dict.fromkeys(alarm for info in infos for alarm in info.alarms))


def violations(rows: Sequence[Row]) -> str:
    """Says how many images violate ball or box, or are not finite; empty if none."""
    counts = {s: sum(r.status == s for r in rows) for s in VIOLATIONS}
    found = [f"{n} of {len(rows)} {s.replace('_', ' ')}" for s, n in counts.items() if n]
    return "the attack's images fail verification: " + ", ".join(found) if found else ""

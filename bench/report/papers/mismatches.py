"""Whether a published and a measured number come from the same experiment, decided from data."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.attacks.registry import traits_of
from bench.core.checkpoint import CheckpointFacts
from bench.core.norm_spec import uses_batch
from bench.core.result import CellInfo
from bench.core.threat import ThreatModel
from bench.published import AttackSetting, Setting, share_of_eps
from bench.report.text import STATS_TEXT, protocol_text

NOT_NOTED = "unknown"
"""Architecture and training in stores from before they were recorded."""

OF_ATTACKS = ("attack", "attack's parameters", "success")
"""Things in which experiments differ attack by attack."""


@dataclass(frozen=True)
class Mismatch:
    """One thing in which two experiments differ.

    Attributes:
        what: A noun: ``data``, ``architecture``, ``images``, ``training``, ``statistics``,
            ``batch size``, ``threat model``, ``protocol``, ``attack`` or ``success``.
        here: What was measured here.
        there: What was published.
    """

    what: str
    here: str
    there: str

    def __str__(self) -> str:
        return f"{self.what} ({self.here} here, {self.there} there)"


def mismatches(
    info: CellInfo, n: int, facts: CheckpointFacts | None, theirs: Setting
) -> tuple[Mismatch, ...]:
    """Returns everything in which a stored cell differs from a published number's setting.

    What the paper leaves open is taken to be the same.

    Args:
        info: About the cell.
        n: Number of its images.
        facts: Its checkpoint; ``None`` where the store does not say.
        theirs: The published number's setting.
    """
    return (
        *_about_model(info, facts, theirs),
        *_about_data(info, n, theirs),
        *_about_attack(info, facts, theirs),
    )


def _about_model(
    info: CellInfo, facts: CheckpointFacts | None, theirs: Setting
) -> Iterator[Mismatch]:
    """Finds other networks, trained otherwise or with other statistics in force."""
    for what, here, there in (
        ("architecture", facts.arch if facts else NOT_NOTED, theirs.arch),
        ("training", facts.training if facts else NOT_NOTED, theirs.training),
    ):
        if there and here != there:
            yield Mismatch(what, here or "unknown", there)
    if theirs.stats and info.spec.stats != theirs.stats:
        here = STATS_TEXT.get(info.spec.stats or "", "a norm without the choice")
        yield Mismatch("statistics", here, STATS_TEXT[theirs.stats])
    shares = uses_batch(info.spec.stats)
    if shares and theirs.batch_size and info.spec.batch_size != theirs.batch_size:
        yield Mismatch("batch size", str(info.spec.batch_size), str(theirs.batch_size))


def _about_data(info: CellInfo, n: int, theirs: Setting) -> Iterator[Mismatch]:
    data = info.spec.data
    if theirs.dataset and not _same_data(data.name, theirs.dataset):
        yield Mismatch("data", data.name, theirs.dataset)
    elif data.split != "test":
        yield Mismatch("data", f"{data.split} split", "test split")
    if theirs.n_images and n != theirs.n_images:
        yield Mismatch("images", f"{n:,}", f"{theirs.n_images:,}, the whole test set")


def _same_data(ours: str, theirs: str) -> bool:
    """Says whether a data set's name, or the file that it is read from, begins with a name."""
    if ours == theirs:
        return True
    _, colon, path = ours.partition(":")
    return bool(colon) and re.split(r"[-_.]", Path(path).name.lower())[0] == theirs


def _about_attack(
    info: CellInfo, facts: CheckpointFacts | None, theirs: Setting
) -> Iterator[Mismatch]:
    """Finds other balls, protocols, attacks and steps; a clean image knows none of them."""
    spec = info.spec
    if info.attack_kind == "none":
        return
    if theirs.eps is not None:
        there = ThreatModel(norm=theirs.norm, eps=theirs.eps, eps_space=theirs.eps_space)
        ours = spec.threat_model
        alike = math.isclose(ours.eps, there.eps, rel_tol=1e-6)
        if not alike or (ours.norm, ours.eps_space) != (there.norm, there.eps_space):
            yield Mismatch("threat model", ours.describe(), there.describe())
    # Where nothing is drawn there is but one path.
    one_path = theirs.protocol == "fixed_path" and spec.n_draws == 1
    protocol = "white_box" if one_path else theirs.protocol
    other = protocol and (spec.protocol != protocol or spec.adversary == "single")
    made_for_it = spec.adaptive is not None or spec.y_target is not None
    if other or made_for_it:  # no paper's table is of attacks on one defence
        yield Mismatch("protocol", protocol_text(spec), protocol or "the attack alone")
    if theirs.attack is not None:
        yield from _about_steps(info, facts, theirs, theirs.attack)


def _about_steps(
    info: CellInfo, facts: CheckpointFacts | None, theirs: Setting, attack: AttackSetting
) -> Iterator[Mismatch]:
    if traits_of(info).family != attack.attack:
        yield Mismatch("attack", info.spec.attack, attack.attack)
        return
    differ = [
        (key, here, there)
        for key, stated in attack.params.items()
        for here, there in [_pair(key, stated, info, facts, theirs)]
        if here is not None and not _alike(here, there)
    ]
    if differ:
        here, there = (", ".join(f"{d[0]} {_shown(d[0], d[i])}" for d in differ) for i in (1, 2))
        yield Mismatch("attack's parameters", here, there)
    if not attack.bounded and info.attack_kind == "minimum-norm":
        yield Mismatch("success", "only within eps", "at any distance")


def _pair(
    key: str, stated: object, info: CellInfo, facts: CheckpointFacts | None, theirs: Setting
) -> tuple[object, object]:
    """Returns a parameter here and there; the first is ``None`` where it cannot be compared."""
    params, share = info.spec.attack_params, share_of_eps(stated)
    if share is None:
        return params.get(key), stated
    if key == "alpha":
        return _alpha_of_eps(info, facts), share
    return params.get(key), share * (theirs.eps or 0)


def _alpha_of_eps(info: CellInfo, facts: CheckpointFacts | None) -> float | str | None:
    """Returns the step size as a share of the radius; words where only the library knows it."""
    spec = info.spec
    alpha, n_iter = spec.attack_params.get("alpha"), spec.attack_params.get("n_iter")
    if alpha is None:
        library, colon, _ = spec.attack.partition(":")
        if not colon:
            return 2.5 / n_iter if n_iter else None
        return 0.25 if library == "torchattacks" else f"{library}'s default"
    if spec.threat_model.eps_space == "normalized" and facts is None:
        return None
    radii = spec.threat_model.pixel_eps(facts.std if facts else (1.0,))
    return float(alpha) / max(radii) if max(radii) else None


def _alike(here: object, there: object) -> bool:
    if isinstance(here, int | float) and isinstance(there, int | float):
        return math.isclose(here, there, rel_tol=1e-3)
    return here == there


def _shown(key: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g} eps" if key == "alpha" else f"{value:.3g}"


def asides(settings: Iterable[Setting], stochastic: bool, noted: bool) -> list[str]:
    """Returns differences too small to make another experiment: the box, the scoring draws.

    Args:
        settings: Settings of the published numbers.
        stochastic: Whether any model draws at random.
        noted: Whether the store says what its checkpoints are.
    """
    settings = list(settings)
    found = list(dict.fromkeys(one.caveat for one in settings if one.caveat))
    if not noted:
        found.append("this store does not say what its checkpoints are; run the suite again for it")
    if box := next((one.box for one in settings if one.box), ""):
        found.append(f"images are clipped to [0, 1] here, there to {box}")
    if stochastic:
        found.append("scored on several fresh draws here, on one there: in expectation the same")
    return found

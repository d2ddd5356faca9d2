"""From a model in memory and images to the cells of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor, nn

from bench.alarms.rules import find_alarms
from bench.alarms.sentinel import SecondLook, weak_attack_alarms
from bench.alarms.shared import CellResult, alarms_by_cell, trusts_own_gradients
from bench.attacks.base import Attack
from bench.attacks.registry import attack_info
from bench.core.attack import AttackInfo, YTarget
from bench.core.cell import (
    BATCH_SIZE,
    Adversary,
    CellModel,
    CellSpec,
    DataSpec,
    Eot,
    Manner,
    RefusedCellError,
    Search,
    check_eot,
    default_batch_size,
    make_cell,
)
from bench.core.errors import UserError, key_path, our_words
from bench.core.threat import ThreatModel, union_faults
from bench.data.slice import Slice, first_images
from bench.evaluation.adaptive import (
    adaptive_of,
    aids_for,
    stand_in_mode,
    try_out,
)
from bench.evaluation.cell import run_cell
from bench.evaluation.in_memory import (
    Declared,
    as_slice,
    as_target,
    changes,
    evaluation_mode,
    mode_notes,
    state_hash,
)
from bench.evaluation.model import Target
from bench.evaluation.result import AttackResult, EvaluationResult
from bench.evaluation.sentinel import NEEDLESS_FOR_BATCHES, second_look
from bench.evaluation.targets import check_targets
from bench.models import Classifier
from bench.norms import find_paths
from bench.probe.findings import ABOUT_GRADIENTS
from bench.probe.subject import copied
from bench.suite.spec import AttackEntry, in_each_ball, repeated_labels

IN_MEMORY = "in-memory"
"""Name of checkpoint and data set in the cells of an evaluation without files."""

NOT_LOOKED = "no sentinel was asked for: nothing looked behind these numbers"
"""Note of a result without a sentinel."""

AttackLike = str | tuple[str, Mapping[str, Any]] | Mapping[str, Any]
"""A name, a name with parameters, or ``{"attack": ..., "params": ..., "label": ...}`` with the
keys of an attack in a suite; those for a suite's reports are refused."""

REPORT_KEYS = ("series", "varied", "published")
"""Keys of an attack entry that only the reports of a suite use."""

ThreatLike = str | tuple[str, float | str] | ThreatModel | Mapping[str, Any]
"""A ball, as ``evaluate`` takes it."""

ThreatsLike = ThreatLike | list[ThreatLike]
"""A ball, or a list of balls whose union is the threat model."""


def evaluate(
    model: nn.Module,
    x: Any,
    y: Any,
    threat: ThreatsLike = "linf:8/255",
    attacks: Sequence[AttackLike] = ("pgd", "autoattack"),
    *,
    stochastic: bool | None = None,
    batch_dependent: bool | None = None,
    probe: bool = True,
    sentinel: bool = True,
    protocol: Literal["white_box", "fixed_path"] = "white_box",
    adversary: Adversary = "joint",
    batch_size: int | None = None,
    eot_iter: int = 1,
    eot: Eot = "plain",
    n_draws: int = 20,
    search: Search = "fast",
    seed: int = 0,
    device: str | None = None,
    gradient_model: nn.Module | None = None,
    loss: Callable[..., Tensor] | None = None,
) -> EvaluationResult:
    """Attacks a model and returns verified, per-image results, as a suite would store them.

    The model is evaluated in eval mode. Where it is in eval mode already, layers in train mode are
    taken as meant, as those of Monte Carlo dropout are. Afterwards every layer is in the mode it
    was in, and buffers, such as running means, are as they were; so are the images.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes); it normalizes its own
            input.
        x: Images (n, c, h, w), tensor or array: uint8 in 0..255, or floats in [0, 1].
        y: Labels (n,), whole numbers from 0.
        threat: ``"linf:8/255"``, ``"l2:0.5"``, ``("linf", 8 / 255)``, or a threat model as suites
            have it. A list of them is their union: each attack without an eps of its own is run in
            every ball whose norm it serves, and the worst case is of all.
        attacks: Names, ``(name, params)``, or ``{"attack", "params", "label", "eps", "limit",
            "norm", "eot_iter", "eot", "y_target"}``, which mean what they mean in a suite: an
            ``eps`` (and ``norm``) of its own in place of the threat model's, the first ``limit``
            images only, a target class (``least_likely``, ``random``, a class, a list of one each).
            An attack at a larger eps than the threat model's, in another norm, or on some of the
            images, is no part of the worst case.
        stochastic: Whether passes draw at random; ``None`` to find out from a few images.
        batch_dependent: Whether images of a batch share statistics; ``None`` to find out the same
            way. Such a model is attacked and scored in fixed batches.
        probe: Whether to look at the model with a few images first. What is wrong with it becomes
            an alarm of every cell, ``probe_...``. ``False`` takes the two above as they are given.
        sentinel: Whether a short ``auto`` looks again at up to 32 images that all attacks left
            right, unless one of them is as strong. Where it breaks many of them, the attacks
            carry the alarm ``weak_attack``.
        protocol: ``white_box``, or ``fixed_path`` for a model with RNA layers: one path attacked,
            others scored.
        adversary: ``joint`` or ``single``: what an attack may perturb of a batch whose images
            share statistics.
        batch_size: Images that are attacked and scored together. ``None`` for 128, or for a twelfth
            of the images where those of a pass may share a draw: batches are the clusters of such
            a model's intervals, and few of them show nothing.
        eot_iter: Draws over which gradients are averaged, at least 1, for a stochastic model.
        eot: How, for a model with layers that draw a path at random (rna): over ``plain`` draws,
            over ``stratified`` ones in which a layer's branches occur equally often, or not at all
            but in one pass through the model's ``mean_field``, a surrogate.
        n_draws: Fresh draws that score each image of a stochastic model.
        search: ``fast``: attacks may search in low precision where the device gains by it, with
            what they find confirmed in float32. ``exact``: float32 throughout. Scores are exact.
        seed: Of everything random; the model's own draws are seeded too, where they come from the
            global generators.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``; ``None`` stays where the model is.
        gradient_model: Gives attacks their gradients in place of the model, whose logits they see
            nevertheless (BPDA); for a model that cuts or masks its gradients. Attacks that follow
            no gradient pass it over.
        loss: ``loss(logits, y)``, one value (b,) for each image, higher for a more harmful one, is
            climbed in place of the attack's own; by fgsm, bim, mim, pgd and apgd. With an attribute
            ``loss.outputs``, names of layers of the model, it is called
            ``loss(logits, y, outputs)`` with what they return.

    Raises:
        UserError: When an argument does not fit; when the probe finds the model to be other than
            declared; when an attack drops images from the batch of a batch-dependent model. An
            attack that fails is no error: its cell is incomplete.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model: expected an nn.Module, found {type(model).__name__}")
    balls = threats_for(model, threat)
    ball = balls[0]
    entries = _entries(attacks, balls)
    infos = _infos(entries, ball.norm)
    adaptive, aids = adaptive_of(gradient_model, loss, model, infos)
    data = as_slice(x, y)
    declared = Declared(stochastic, batch_dependent, probe)
    with (
        evaluation_mode(model, device) as settled,
        stand_in_mode(gradient_model, model, device),
    ):
        before = copied(model) if probe else None
        target, doubts = as_target(model, data, declared, seed, ball, batch_size or BATCH_SIZE)
        asked: dict[str, Any]
        asked = {"protocol": protocol, "adversary": adversary, "eot_iter": eot_iter, "eot": eot}
        asked |= {"batch_size": batch_size, "n_draws": n_draws, "search": search, "seed": seed}
        asked |= {"adaptive": adaptive}
        planned = _plan(entries, infos, _cell_model(target), data, ball, asked, target.classes)
        try_out(target, data, aids)
        cells = [
            CellResult(*run_cell(spec, target, part, aids=aids_for(spec, aids)))
            for spec, part in planned
        ]
        doubts = (*doubts, *changes(target, before, data, seed))
        behind = [[cell for cell in cells if _whole(cell.spec, data, one)] for one in balls]
        looks = [second_look(target, data, some, aids) if sentinel else None for some in behind]
    raised = list(find_alarms(cells, target.classes))
    for some, look in zip(behind, looks, strict=True):
        raised += weak_attack_alarms(some, look)
    alarms = alarms_by_cell(raised)
    results = {
        entry.label: AttackResult(
            cell.info.model_copy(
                update={
                    "alarms": (
                        *(
                            f"probe_{doubt.code}: {doubt.text}"
                            for doubt in doubts
                            if doubt.code not in ABOUT_GRADIENTS
                            or trusts_own_gradients(cell, cells)
                        ),
                        *alarms.get(cell.info.cell_id, ()),
                    )
                }
            ),
            tuple(cell.rows),
        )
        for entry, cell in zip(entries, cells, strict=True)
    }
    apart = frozenset(entry.label for entry in entries if not entry.in_worst_case(*balls))
    note = _seen(balls, looks) or NEEDLESS_FOR_BATCHES * target.batch_dependent
    seen = note if sentinel else NOT_LOOKED
    return EvaluationResult(results, ball, apart, seen, mode_notes(settled), balls[1:])


def _seen(balls: Sequence[ThreatModel], looks: Sequence[SecondLook | None]) -> str:
    """Says what the sentinels found, of several balls in each."""
    several = len(balls) > 1
    pairs = [(ball, look) for ball, look in zip(balls, looks, strict=True) if look is not None]
    return "; ".join(f"{ball.describe()}: " * several + str(look) for ball, look in pairs)


def threats_for(model: nn.Module, threat: ThreatsLike) -> tuple[ThreatModel, ...]:
    """Returns the threat model, or those of a union, as ``evaluate`` takes them.

    Raises:
        UserError: When one is none, or they are no union.
    """
    if not isinstance(threat, list):
        return (threat_for(model, threat),)
    balls = tuple(threat_for(model, one) for one in threat)
    for k, message in union_faults(balls):
        raise UserError(f"threat[{k}]: {message}")
    return balls


def threat_for(model: nn.Module, threat: ThreatLike) -> ThreatModel:
    """Returns a threat model as ``evaluate`` takes it.

    Raises:
        UserError: When it is none, or is not defined for the model.
    """
    ball = threat_model(threat)
    if ball.eps_space == "normalized" and not isinstance(model, Classifier):
        raise UserError("threat: eps in normalized units needs the model's std; give it in pixels")
    return ball


def threat_model(threat: ThreatLike) -> ThreatModel:
    """Returns a ball; norms may be spelled as in AutoAttack (``Linf``)."""
    if isinstance(threat, str):
        norm, colon, eps = threat.partition(":")
        if not colon:
            raise UserError(f"threat: expected for example linf:8/255 or l2:0.5, found '{threat}'")
        threat = (norm, eps)
    if isinstance(threat, tuple) and len(threat) == 2 and ":" not in str(threat):
        threat = {"norm": threat[0], "eps": threat[1]}
    if isinstance(threat, Sequence):  # a tuple: a list is taken apart before
        raise UserError(
            f"threat: expected one ball, for example 'linf:8/255', found {threat!r}; for several "
            "eps of one norm, give the attacks an eps of their own ({'attack': 'pgd', 'eps': "
            "'2/255', 'label': 'pgd 2/255'}); a list of balls of different norms is their union"
        )
    try:
        if not isinstance(threat, ThreatModel):
            threat = ThreatModel.model_validate(_spelled(threat))
        return threat.for_all()
    except ValidationError as error:
        raise UserError(f"threat: {_first(error)}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"threat: {error}") from None


def _spelled(threat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a threat model with its norm in small letters."""
    fields = dict(threat)
    norm = fields.get("norm")
    if isinstance(norm, str):
        norm = norm.strip().lower()
        fields["norm"] = "linf" if norm == "inf" else norm
    return fields


def _entries(attacks: Sequence[AttackLike], balls: Sequence[ThreatModel]) -> list[AttackEntry]:
    if isinstance(attacks, str) or not isinstance(attacks, Sequence) or not attacks:
        raise UserError(f"attacks: expected a list such as ['pgd'], found {attacks!r}")
    entries = []
    for i, one in enumerate(attacks):
        if not isinstance(one, str | tuple | Mapping | AttackEntry):
            raise UserError(f"attacks[{i}]: {_no_entry(one)}")
        if isinstance(one, tuple):
            if len(one) != 2 or not isinstance(one[1], Mapping):
                raise UserError(
                    f"attacks[{i}]: expected (name, parameters), for example ('pgd', "
                    f"{{'n_iter': 40}}), found {one!r}"
                )
            one = {"attack": one[0], "params": dict(one[1])}
        try:
            entry = AttackEntry.model_validate(one)
        except ValidationError as error:
            raise UserError(f"attacks[{i}]: {_first(error)}") from None
        _refuse_keys(f"attacks[{i}]", entry, balls[0])
        entries += in_each_ball(entry, balls)
    for later, first in repeated_labels(entries):
        raise UserError(
            f"attacks[{later}]: '{entries[later].label}' is the label of attacks[{first}] too; "
            "give it a label of its own"
        )
    return entries


def _refuse_keys(where: str, entry: AttackEntry, ball: ThreatModel) -> None:
    """Raises ``UserError`` for a key without an effect here, and an eps that the norm cannot have.

    Args:
        where: Place of the entry.
        entry: The attack.
        ball: The evaluation's.
    """
    for key in REPORT_KEYS:
        if getattr(entry, key):
            raise UserError(
                f"{where}.{key}: is for the reports of a suite, and evaluate() writes none; "
                "remove it"
            )
    try:
        entry.threat_model(ball)
    except ValidationError as error:
        raise UserError(f"{where}.eps: {_first(error).removeprefix('eps: ')}") from None


def _no_entry(attack: object) -> str:
    """Says how to give an attack's declaration, a library's object, or a function."""
    if isinstance(attack, Attack):
        return (
            f"expected a name, found an Attack; register it, ATTACKS.add('{attack.name}', attack), "
            f"and give '{attack.name}'"
        )
    kind = attack if isinstance(attack, type) else type(attack)
    library = kind.__module__.partition(".")[0]
    prefix = _PREFIXES.get(library)
    if prefix is not None:
        return (
            f"expected a name, found a {kind.__name__} of {library}; give '{prefix}:"
            f"{kind.__name__}' with its parameters, as ('{prefix}:{kind.__name__}', {{...}})"
        )
    what = "a function" if callable(attack) else f"a {kind.__name__}"
    return (
        f"expected a name, (name, parameters) or a mapping, found {what}; an attack of your own is "
        "declared as an Attack and registered: ATTACKS.add(name, Attack(name=name, run=...)), "
        "see docs/extend.md"
    )


_PREFIXES = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "adv_lib": "advlib",
    "art": "art",
}
"""Prefixes of attacks by the package that their classes are in."""


def _infos(entries: Sequence[AttackEntry], norm: str) -> list[AttackInfo]:
    """Returns the attacks with their parameters filled in; errors name the argument to change."""
    infos = []
    for i, entry in enumerate(entries):
        try:
            infos.append(attack_info(entry.attack, entry.params, entry.norm or norm))
        except UserError as error:
            raise UserError(f"attacks[{i}]: {error}") from None
    return infos


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = key_path(first)
    text = our_words(first).replace("Input should be", "expected")
    simple = isinstance(first["input"], str | int | float) and "found" not in text
    return f"{where}: " * bool(where) + text + f", found {first['input']!r}" * simple


def _whole(spec: CellSpec, data: Slice, ball: ThreatModel) -> bool:
    """Says whether a cell is of all images, in the ball of the evaluation."""
    return spec.data_hash == data.sha256 and spec.threat_model == ball


def _plan(
    entries: Sequence[AttackEntry],
    infos: Sequence[AttackInfo],
    model: CellModel,
    data: Slice,
    ball: ThreatModel,
    asked: Mapping[str, Any],
    classes: int,
) -> list[tuple[CellSpec, Slice]]:
    """Returns each attack's cell with its images; errors name the argument to change."""
    planned = []
    for i, (entry, info) in enumerate(zip(entries, infos, strict=True)):
        n = len(data.y) if entry.limit is None else entry.limit
        if n > len(data.y):
            raise UserError(f"attacks[{i}].limit: expected at most {len(data.y)} images, found {n}")
        part = data if n == len(data.y) else first_images(data, n)
        own = entry.model_dump(include={"eot", "eot_iter", "y_target"}, exclude_none=True)
        size = asked["batch_size"]
        if size is None:
            size = default_batch_size(n, shared_draws=model.shares_draws)
        manner = _manner({**asked, "batch_size": size}, own)
        where = DataSpec(name=IN_MEMORY, limit=n)
        own_ball = entry.threat_model(ball)
        try:
            spec = make_cell(model, info, where, part.sha256, own_ball, manner)
        except RefusedCellError as refusal:
            of_attack = refusal.aspect == "attack" or refusal.aspect in own
            key = f"attacks[{i}]." * of_attack + refusal.aspect
            raise UserError(f"{key}: {refusal}") from None
        if entry.y_target is not None:
            _check_targets(f"attacks[{i}]", entry.y_target, part, classes)
        planned.append((spec, part))
    return planned


def _check_targets(where: str, y_target: YTarget, data: Slice, classes: int) -> None:
    try:
        check_targets(y_target, data.y.tolist(), classes)
    except UserError as error:
        raise UserError(f"{where}.{error}") from None


def _manner(asked: Mapping[str, Any], own: Mapping[str, Any]) -> Manner:
    """Returns the evaluation's manner with an attack's own draws."""
    if asked["protocol"] not in ("white_box", "fixed_path"):
        found = asked["protocol"]
        raise UserError(f"protocol: expected 'white_box' or 'fixed_path', found {found!r}")
    try:
        manner = Manner(**{**asked, **own}, asked=frozenset({"eot", "adversary"}))
        if own.keys() - {"y_target"} != {"eot"}:  # else it overrules the evaluation's draws
            check_eot(manner.eot, manner.eot_iter)
    except ValidationError as error:
        raise UserError(_first(error)) from None
    except ValueError as error:
        raise UserError(str(error)) from None
    return manner


def _cell_model(target: Target) -> CellModel:
    return CellModel(
        checkpoint=IN_MEMORY,
        sha256=state_hash(target.model),
        stats=target.stats,
        stochastic=target.stochastic,
        draws_paths=find_paths(target.model) is not None,
        batch_dependent=target.batch_dependent,
        called="the model",
    )

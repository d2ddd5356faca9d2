"""From a model in memory and images to the cells of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from pydantic import ValidationError
from torch import Tensor, nn

from bench.alarms.rules import find_alarms
from bench.alarms.sentinel import SecondLook, weak_attack_alarms
from bench.alarms.shared import CellResult, alarms_by_cell, trusts_own_gradients
from bench.attacks.base import Attack
from bench.attacks.from_function import AttackCallable, FunctionAttack, function_attack
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
from bench.core.threat import ThreatModel, joined, union_faults
from bench.data.slice import Slice, first_images
from bench.evaluation.adaptive import (
    adaptive_of,
    aids_for,
    stand_in_mode,
    try_out,
)
from bench.evaluation.cells import Cells, Ran, Work, kept_in
from bench.evaluation.grid import Evaluations
from bench.evaluation.in_memory import (
    IN_MEMORY,
    Declared,
    as_slice,
    as_target,
    changes,
    evaluation_mode,
    mode_notes,
    state_hash,
)
from bench.evaluation.memory import Memory
from bench.evaluation.model import Target
from bench.evaluation.progress import UNKNOWN, Progress
from bench.evaluation.result import AttackResult, EvaluationResult
from bench.evaluation.saved import SUITE, Book, check_one_norm
from bench.evaluation.sentinel import NEEDLESS_FOR_BATCHES, second_look
from bench.evaluation.targets import check_targets
from bench.models import Classifier
from bench.norms import Settled, find_paths
from bench.oracle import Aids
from bench.probe.findings import ABOUT_GRADIENTS, Finding
from bench.probe.subject import copied
from bench.suite.spec import AttackEntry, in_each_ball, repeated_labels

NOT_LOOKED = "no sentinel was asked for: nothing looked behind these numbers"
"""Note of a result without a sentinel."""

AttackLike = (
    str | AttackCallable | tuple[str | AttackCallable, Mapping[str, Any]] | Mapping[str, Any]
)
"""A name, or a function ``f(model, x, y, eps) -> x_adv``; either with parameters; or ``{"attack":
..., "params": ..., "label": ...}`` with the keys of an attack in a suite (those for a suite's
reports are refused), of a function also ``identity``."""

REPORT_KEYS = ("series", "varied", "published")
"""Keys of an attack entry that only the reports of a suite use."""

ThreatLike = str | tuple[str, float | str] | ThreatModel | Mapping[str, Any]
"""A ball, as ``evaluate`` takes it."""

ThreatsLike = ThreatLike | list[ThreatLike] | list[str]
"""A ball; or a list: balls of different norms are their union, balls of one norm several eps."""

PROBE = 2000
"""Passes of a probe, about."""

SENTINEL = 480 * 32
"""Passes of a second look, about."""


class Options(TypedDict, total=False):
    """The keyword arguments of ``evaluate``, for type checkers."""

    stochastic: bool | None
    batch_dependent: bool | None
    probe: bool
    sentinel: bool
    protocol: Literal["white_box", "fixed_path"]
    adversary: Adversary
    batch_size: int | None
    eot_iter: int
    eot: Eot
    n_draws: int
    search: Search
    seed: int
    device: str | None
    gradient_model: nn.Module | None
    loss: Callable[..., Tensor] | None
    out: str | Path | None
    save_adv: bool
    progress: bool


@overload
def evaluate(
    model: nn.Module,
    x: Any,
    y: Any,
    threat: ThreatLike = ...,
    attacks: Sequence[AttackLike] = ...,
    **options: Unpack[Options],
) -> EvaluationResult: ...


@overload
def evaluate(
    model: nn.Module,
    x: Any,
    y: Any,
    threat: list[ThreatLike] | list[str],
    attacks: Sequence[AttackLike] = ...,
    **options: Unpack[Options],
) -> EvaluationResult | Evaluations: ...


@overload
def evaluate(
    model: Mapping[str, nn.Module] | list[nn.Module],
    x: Any,
    y: Any,
    threat: ThreatsLike = ...,
    attacks: Sequence[AttackLike] = ...,
    **options: Unpack[Options],
) -> Evaluations: ...


def evaluate(
    model: nn.Module | Mapping[str, nn.Module] | list[nn.Module],
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
    out: str | Path | None = None,
    save_adv: bool = True,
    progress: bool = True,
) -> EvaluationResult | Evaluations:
    """Attacks a model and returns verified, per-image results, as a suite would store them.

    The model is evaluated in eval mode. Where it is in eval mode already, layers in train mode are
    taken as meant, as those of Monte Carlo dropout are. Afterwards every layer is in the mode it
    was in, and buffers, such as running means, are as they were; so are the images.

    A second call for the same model does not probe it again, nor time its passes, nor run the same
    sentinel: what is known of a model holds as long as its weights, code, modes and plain
    attributes do.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes); it normalizes its own
            input. Several, as ``{label: model}`` or a list, give ``Evaluations``.
        x: Images (n, c, h, w), tensor or array: uint8 in 0..255, or floats in [0, 1].
        y: Labels (n,), whole numbers from 0.
        threat: ``"linf:8/255"``, ``"l2:0.5"``, ``("linf", 8 / 255)``, or a threat model as suites
            have it. A list of balls of different norms is their union: each attack without an eps
            of its own is run in every ball whose norm it serves, and the worst case is of all. A
            list of balls of one norm gives ``Evaluations``, one result for each.
        attacks: Names, ``(name, params)``, or ``{"attack", "params", "label", "eps", "limit",
            "norm", "eot_iter", "eot", "y_target"}``, which mean what they mean in a suite: an
            ``eps`` (and ``norm``) of its own in place of the threat model's, the first ``limit``
            images only, a target class (``least_likely``, ``random``, a class, a list of one each).
            An attack at a larger eps than the threat model's, in another norm, aimed at a target,
            or on some of the images, is no part of the worst case. In place of a name, a function
            ``f(model, x, y, eps, **params) -> x_adv``: ``model`` returns logits with gradients, and
            counts passes; ``x`` (b, c, h, w) is a batch, ``eps`` the radius in pixels. What it
            returns is judged as any attack's. It is not told the norm, so that in a union it needs
            a ball of its own.
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
        out: A folder that keeps what is done, batch by batch, as runs do: after a kill, the same
            call goes on, and what is stored is not run again. ``rbench report FOLDER`` writes its
            tables, which are those of the latest call; ``rbench.load_result(FOLDER)`` reads the
            result. A model is told by weights, code and plain attributes, an attack that is a
            function by its code and what that names, or by ``{"attack": f, "identity": TEXT}``.
        save_adv: Whether the result, and the folder, keep adversarial examples.
        progress: Whether progress and the time left are shown on stderr.

    Raises:
        UserError: When an argument does not fit; when the probe finds the model to be other than
            declared; when an attack drops images from the batch of a batch-dependent model; when
            something to be stored cannot be told from another of its kind. An attack that fails is
            no error: its cell is incomplete.
    """
    models = _models(model)
    unions = _unions(threat)
    several = len(unions) > 1 or not isinstance(model, nn.Module)
    asked = [_asked(attacks, balls) for balls in unions]
    if gradient_model is not None and len(models) > 1:
        raise UserError("gradient_model: is for one model; evaluate the others without it")
    manner: dict[str, Any]
    manner = {"protocol": protocol, "adversary": adversary, "eot_iter": eot_iter, "eot": eot}
    manner |= {"batch_size": batch_size, "n_draws": n_draws, "search": search, "seed": seed}
    data = as_slice(x, y)
    declared = Declared(stochastic, batch_dependent, probe)
    total = sum(_cost(one, len(data.y), eot_iter) for some in asked for one in some)
    total += PROBE * probe + SENTINEL * sentinel * sum(map(len, unions))
    with (
        kept_in(out, SUITE) as store,
        Progress(len(models) * total, shown=progress) as shown,
    ):
        if store is not None:
            _refuse_unknown(asked)
            check_one_norm([balls[0] for balls in unions])
        cells = Cells(store, save_adv, shown)
        entries = [[one.entry for one in some] for some in asked]
        book = Book(store, unions, entries, manner, data, several)
        found: dict[str, list[EvaluationResult]] = {}
        for label, net in models.items():
            subject = _Subject(label, net, gradient_model, loss, device, list(models))
            try:
                found[label] = _evaluate_one(
                    subject, data, unions, asked, declared, manner, cells, book, sentinel=sentinel
                )
            except UserError as error:
                if len(models) == 1:
                    raise
                raise UserError(f"model '{label}': {error}") from error
            book.write(found)
    if not several:
        return next(iter(found.values()))[0]
    return Evaluations.of(found)


@dataclass(frozen=True)
class _Asked:
    """An attack that is asked for.

    Attributes:
        where: Its argument, ``attacks[0]``; in a union, several are of one.
        entry: Its keys.
        info: With its parameters filled in.
        function: Where it is a function.
    """

    where: str
    entry: AttackEntry
    info: AttackInfo
    function: FunctionAttack | None = None


@dataclass(frozen=True)
class _Subject:
    """A model to evaluate, with what attacks on it bring."""

    label: str
    net: nn.Module
    gradient_model: nn.Module | None
    loss: Callable[..., Tensor] | None
    device: str | None
    labels: Sequence[str]


def _evaluate_one(
    subject: _Subject,
    data: Slice,
    unions: Sequence[Sequence[ThreatModel]],
    asked: Sequence[Sequence[_Asked]],
    declared: Declared,
    manner: dict[str, Any],
    cells: Cells,
    book: Book,
    *,
    sentinel: bool,
) -> list[EvaluationResult]:
    """Returns the result of a model in each ball, or in each union of balls."""
    net = subject.net
    for balls in unions:
        for ball in balls:
            threat_for(net, ball)
    infos = [one.info for some in asked for one in some]
    adaptive, aids = adaptive_of(subject.gradient_model, subject.loss, net, infos)
    memory = Memory(net)
    size = manner["batch_size"] or BATCH_SIZE
    parts: list[_Part] = []
    with (
        evaluation_mode(net, subject.device) as settled,
        stand_in_mode(subject.gradient_model, net, subject.device),
    ):
        before = copied(net) if declared.probe else None
        largest = max((balls[0] for balls in unions), key=lambda ball: ball.eps)
        with cells.progress.part(f"{subject.label}: probe", PROBE * declared.probe):
            target, doubts = as_target(net, data, declared, manner["seed"], largest, size, memory)
        stateful = any(doubt.code in ("stateful", "state_changes") for doubt in doubts)
        known = None if stateful or target.stochastic else memory
        model = _stored_model(target, memory, cells)
        tried = False
        how = {**manner, "adaptive": adaptive}
        for balls, some in zip(unions, asked, strict=True):
            planned = _plan(some, model, data, balls[0], how, target.classes)
            book.plan(subject.labels, subject.label, balls[0], [spec for spec, _ in planned])
            if not tried:
                try_out(target, data, aids)
                tried = True
            parts.append(_Part(balls, some))
            for one, (spec, images) in zip(some, planned, strict=True):
                function = None if one.function is None else one.function.attack
                cost = _cost(one, len(images.y), manner["eot_iter"])
                work = Work(spec, images, cost, function, aids_for(spec, aids))
                name = f"{subject.label}: {one.entry.label}"
                parts[-1].ran.append(cells.run(name, work, target))

            def behind(spec: CellSpec, images: Slice, brought: Aids | None) -> CellResult:
                work = Work(spec, images, SENTINEL, None, brought)
                return cells.again(f"{subject.label}: sentinel", work, target, known)

            for ball in balls if sentinel else ():
                whole = parts[-1].whole(data, ball)
                parts[-1].looks[ball] = second_look(target, data, whole, aids, behind)
        doubts = (*doubts, *changes(target, before, data, manner["seed"]))
    everything = [ran.result for part in parts for ran in part.ran]
    raised = [*find_alarms(everything, target.classes)]
    for part in parts:
        for ball in part.balls:
            raised += weak_attack_alarms(part.whole(data, ball), part.looks.get(ball))
    alarms = alarms_by_cell(dict.fromkeys(raised))
    results = [
        part.result(subject.label, everything, doubts, alarms, target, settled, sentinel=sentinel)
        for part in parts
    ]
    for result in results:
        for cell in result.cells.values():
            cells.write(cell.info, cell.rows)
    return results


@dataclass
class _Part:
    """The attacks on a model in one ball or one union, and what became of them."""

    balls: Sequence[ThreatModel]
    asked: Sequence[_Asked]
    ran: list[Ran] = field(default_factory=list)
    looks: dict[ThreatModel, SecondLook | None] = field(default_factory=dict)

    def whole(self, data: Slice, ball: ThreatModel) -> list[CellResult]:
        """Returns the cells of all images, in one of the balls."""
        results = [ran.result for ran in self.ran]
        return [one for one in results if _whole(one.spec, data, ball)]

    def seen(self) -> str:
        """Says what the sentinels found, of several balls in each."""
        several = len(self.balls) > 1
        pairs = [(ball, look) for ball, look in self.looks.items() if look is not None]
        return "; ".join(f"{ball.describe()}: " * several + str(look) for ball, look in pairs)

    def result(
        self,
        label: str,
        everything: Sequence[CellResult],
        doubts: Sequence[Finding],
        alarms: Mapping[str, tuple[str, ...]],
        target: Target,
        settled: Settled,
        *,
        sentinel: bool,
    ) -> EvaluationResult:
        """Returns the result, its cells with their alarms."""
        cells = {}
        for one, ran in zip(self.asked, self.ran, strict=True):
            cell = ran.result
            mine = [
                f"probe_{doubt.code}: {doubt.text}"
                for doubt in doubts
                if doubt.code not in ABOUT_GRADIENTS or trusts_own_gradients(cell, everything)
            ]
            raised = (*mine, *alarms.get(cell.info.cell_id, ()))
            info = cell.info.model_copy(update={"alarms": raised})
            cells[one.entry.label] = AttackResult(info, tuple(cell.rows), ran.x_adv)
        entries = [one.entry for one in self.asked]
        apart = frozenset(one.label for one in entries if not one.in_worst_case(*self.balls))
        note = self.seen() or NEEDLESS_FOR_BATCHES * target.batch_dependent
        seen = note if sentinel else NOT_LOOKED
        first, *union = self.balls
        notes = mode_notes(settled)
        return EvaluationResult(cells, first, apart, seen, notes, label, tuple(union))


def _models(
    model: nn.Module | Mapping[str, nn.Module] | Sequence[nn.Module],
) -> dict[str, nn.Module]:
    """Returns models by label."""
    if isinstance(model, nn.Module):
        return {type(model).__name__: model}
    if isinstance(model, Mapping):
        found = {str(label): one for label, one in model.items()}
    elif isinstance(model, list | tuple):
        kinds = [type(one).__name__ for one in model]
        found = {
            kind if kinds.count(kind) == 1 else f"{kind} {i}": one
            for i, (kind, one) in enumerate(zip(kinds, model, strict=True), 1)
        }
    else:
        raise UserError(
            f"model: expected an nn.Module, found {type(model).__name__}; one by name is "
            "load_model(NAME)"
        )
    for label, one in found.items():
        if not isinstance(one, nn.Module):
            raise UserError(f"model '{label}': expected an nn.Module, found {type(one).__name__}")
        if not label.strip() or not label.isprintable():
            raise UserError(f"model: expected labels of one printable line, found {label!r}")
    if not found:
        raise UserError("model: expected at least one model, found none")
    return found


def _unions(threat: ThreatsLike) -> list[tuple[ThreatModel, ...]]:
    """Returns the balls of each result: several eps of one norm apart, several norms as a union.

    Raises:
        UserError: When one is none, one occurs twice, or they are neither.
    """
    if not isinstance(threat, list):
        return [(threat_model(threat),)]
    balls = tuple(threat_model(one) for one in threat)
    names = [ball.describe() for ball in balls]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"threat: {name} occurs twice")
    n_norms = len({ball.norm for ball in balls})
    if n_norms == 1:
        return [(ball,) for ball in balls]
    if 1 < n_norms < len(balls):
        raise UserError(
            f"threat: expected one ball of each norm, which is their union, or several eps of one "
            f"norm, found {joined(balls)}; keep the largest ball of each norm, or evaluate the eps "
            "of each norm by themselves"
        )
    for k, message in union_faults(balls):
        raise UserError(f"threat[{k}]: {message}")
    return [balls]


def _stored_model(target: Target, memory: Memory, cells: Cells) -> CellModel:
    """Returns the model as cells see it; in a folder, told by its code and attributes too."""
    model = _cell_model(target)
    if cells.store is None:
        return model
    if memory.told is None:
        raise UserError(
            "out: the model holds no tensors that could be reached, so that nothing tells it from "
            "another whose weights differ; keep them as parameters or buffers, or leave out= out"
        )
    return replace(model, sha256=memory.told)


def _refuse_unknown(asked: Sequence[Sequence[_Asked]]) -> None:
    """Raises ``UserError`` for a function that cannot be told from another version of it."""
    for one in asked[0]:
        if one.function is not None and one.function.unknown:
            raise UserError(
                f"{one.where}: to be stored, '{one.entry.label}' must be told from other versions "
                f"of itself, and {one.function.unknown}; vouch for it by a text that you change "
                "with it: {'attack': f, 'identity': 'v1'}"
            )


def _cost(one: _Asked, n: int, eot_iter: int) -> float:
    """Returns the estimated passes over single images of an attack on n images."""
    each = one.info.passes_per_image
    limit = n if one.entry.limit is None else min(n, one.entry.limit)
    return limit * (1 + (UNKNOWN if each is None else each) * max(1, eot_iter))


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
    if isinstance(threat, list):
        raise UserError(f"threat: expected one ball, for example 'linf:8/255', found {threat!r}")
    if isinstance(threat, Sequence):
        raise UserError(
            f"threat: expected one ball, for example 'linf:8/255', found {threat!r}; several are a "
            "list, ['linf:2/255', 'linf:8/255'] for a result of each; a list of balls of different "
            "norms is their union"
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


def _asked(attacks: Sequence[AttackLike], balls: Sequence[ThreatModel]) -> list[_Asked]:
    """Returns the attacks that are asked for, in a union each in the balls that it serves.

    Errors name the argument to change.
    """
    if isinstance(attacks, str) or not isinstance(attacks, Sequence) or not attacks:
        raise UserError(f"attacks: expected a list such as ['pgd'], found {attacks!r}")
    asked = []
    for i, one in enumerate(attacks):
        where = f"attacks[{i}]"
        keys, function = _keys(where, one)
        try:
            entry = AttackEntry.model_validate(keys)
        except ValidationError as error:
            raise UserError(f"{where}: {_first(error)}") from None
        _refuse_keys(where, entry, balls[0])
        if function is not None:
            _check_ball(where, entry, balls)
            asked.append(_Asked(where, entry, function.info, function))
            continue
        try:
            for each in in_each_ball(entry, balls):
                info = attack_info(each.attack, each.params, each.norm or balls[0].norm)
                asked.append(_Asked(where, each, info))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    entries = [one.entry for one in asked]
    for later, first in repeated_labels(entries):
        raise UserError(
            f"{asked[later].where}: '{entries[later].label}' is the label of {asked[first].where} "
            "too; "
            "give it a label of its own"
        )
    return asked


def _check_ball(where: str, entry: AttackEntry, balls: Sequence[ThreatModel]) -> None:
    """Raises ``UserError`` for a function that would be run in balls of several norms."""
    if len(balls) > 1 and entry.eps is None:
        raise UserError(
            f"{where}: a function is not told the norm, so that in a union of {joined(balls)} it "
            f"needs a ball of its own: {{'attack': {entry.label}, 'norm': '{balls[1].norm}', "
            f"'eps': {balls[1].eps:g}}}"
        )


def _keys(where: str, one: Any) -> tuple[Any, FunctionAttack | None]:
    """Returns the keys of an attack's entry, and the attack where it is a function."""
    if isinstance(one, AttackEntry):
        return one, None
    if isinstance(one, tuple):
        if len(one) != 2 or not isinstance(one[1], Mapping):
            raise UserError(
                f"{where}: expected (name, parameters), for example ('pgd', "
                f"{{'n_iter': 40}}), found {one!r}"
            )
        one = {"attack": one[0], "params": dict(one[1])}
    elif _is_function(one):
        one = {"attack": one}
    if not isinstance(one, str | Mapping):
        raise UserError(f"{where}: {_no_entry(one)}")
    if isinstance(one, str) or isinstance(one.get("attack"), str):
        return one, None
    if not _is_function(one.get("attack")):
        if "attack" not in one:
            return one, None
        raise UserError(f"{where}: {_no_entry(one['attack'])}")
    given = dict(one)
    identity, params = given.pop("identity", ""), given.pop("params", {})
    if not isinstance(identity, str) or not isinstance(params, Mapping):
        raise UserError(f"{where}: expected an identity that is a text, and params by name")
    try:
        function = function_attack(given.pop("attack"), params, identity)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return {**given, "attack": function.info.name, "params": function.info.params}, function


def _is_function(one: object) -> bool:
    """Says whether an object can be an attack by being called, and is no library's attack."""
    if not callable(one) or isinstance(one, type | nn.Module | Attack | AttackEntry):
        return False
    kind = type(one)
    of_library = kind.__module__.partition(".")[0] in _PREFIXES
    return not of_library


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
    what = f"the class {attack.__name__}" if isinstance(attack, type) else f"a {kind.__name__}"
    return (
        f"expected a name, (name, parameters), a mapping, or a function f(model, x, y, eps) that "
        f"returns x_adv, found {what}"
    )


_PREFIXES = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "adv_lib": "advlib",
    "art": "art",
}
"""Prefixes of attacks by the package that their classes are in."""


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
    some: Sequence[_Asked],
    model: CellModel,
    data: Slice,
    ball: ThreatModel,
    asked: Mapping[str, Any],
    classes: int,
) -> list[tuple[CellSpec, Slice]]:
    """Returns each attack's cell with its images; errors name the argument to change."""
    planned = []
    for one in some:
        entry, info, argument = one.entry, one.info, one.where
        n = len(data.y) if entry.limit is None else entry.limit
        if n > len(data.y):
            raise UserError(f"{argument}.limit: expected at most {len(data.y)} images, found {n}")
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
            key = f"{argument}." * of_attack + refusal.aspect
            raise UserError(f"{key}: {refusal}") from None
        if entry.y_target is not None:
            _check_targets(argument, entry.y_target, part, classes)
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

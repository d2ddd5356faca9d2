"""Runs one cell: attack batch by batch, let the verifier decide, say what went wrong."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bench.attacks import get_attack, parse_params
from bench.attacks.base import Attack, Budget
from bench.attacks.randomness import seeded
from bench.core.adaptive import Adaptive
from bench.core.cell import CellSpec, Surrogate
from bench.core.errors import UserError, one_line, place_of
from bench.core.host import now
from bench.core.result import CellInfo, Row, violations
from bench.core.spec import Spec, digest
from bench.data.slice import Slice
from bench.evaluation.model import Target, machine, versions
from bench.evaluation.targets import targets_of
from bench.norms import find_paths, pinned
from bench.oracle import EXACT, Aids, Memo, Oracle, Passes, QueryRules, frozen, margin
from bench.verify import ModelGuard, Scoring, check_candidate, verify_batch


@dataclass(frozen=True)
class Batch:
    """One fixed batch of a slice: images (b, c, h, w), labels (b,), positions (b,), its number."""

    x: Tensor
    y: Tensor
    index: list[int]
    number: int


def batches(
    data: Slice, size: int, device: torch.device, first: int = 0, last: int | None = None
) -> Iterator[Batch]:
    """Cuts a slice into batches of ``size`` images in the slice's order; the last may be short.

    Args:
        data: The slice.
        size: Images in a batch.
        device: Where they are put.
        first: Number of the first batch that is wanted.
        last: Number of the one after the last; ``None`` for all that there are.
    """
    starts = range(0, len(data.y), size)
    for number in range(len(starts))[first:last]:
        rows = slice(starts[number], starts[number] + size)
        # Copies: a slice that came from another machine may not be written.
        x, y = torch.tensor(data.x[rows]).to(device), torch.tensor(data.y[rows]).to(device)
        yield Batch(x, y, data.index[rows].tolist(), number)


def batch_seed(seed: int, number: int, *purpose: str) -> int:
    """Returns the seed of a batch, below 2**32.

    Args:
        seed: Seed of the cell or analysis.
        number: Number of the batch.
        purpose: Names an independent stream of draws.
    """
    return int(digest([seed, number, *purpose], 8), 16)


PIXELS = 4_000_000
"""Limit on the pixels of all cached batches: a memo keeps a few tensors of its batch's size, of 4
bytes a pixel."""

_MEMOS: OrderedDict[tuple[object, ...], tuple[int, Memo]] = OrderedDict()


def memo_of(
    model: CellSpec | Surrogate,
    spec: CellSpec,
    x: Tensor,
    number: int,
    adaptive: Adaptive | None = None,
) -> Memo | None:
    """Returns the cache of a batch and a model in this process; ``None`` for a batch too large.

    A cell's rows are the same with it and without: passes that another cell made count here too.

    Args:
        model: The model that the attack is crafted on, or the one that is scored.
        spec: The cell.
        x: The batch (b, c, h, w).
        number: Its number in the cell's slice.
        adaptive: What the attack brings, which changes the answers that it gets.
    """
    if x.numel() > PIXELS:
        return None
    of_model = (model.sha256, model.stats, adaptive)
    key = (*of_model, spec.data_hash, spec.batch_size, number, str(x.device))
    _, memo = _MEMOS.setdefault(key, (x.numel(), Memo()))
    _MEMOS.move_to_end(key)
    while sum(pixels for pixels, _ in _MEMOS.values()) > PIXELS:
        _MEMOS.popitem(last=False)
    return memo


class AttackError(Exception):
    """The attack failed on a batch: it raised, or what it returned is not an image batch."""


def run_cell(
    spec: CellSpec,
    target: Target,
    data: Slice,
    surrogate: Target | None = None,
    *,
    share: bool = False,
    first: int = 0,
    last: int | None = None,
    keep: Callable[[Tensor], None] | None = None,
    aids: Aids | None = None,
    attack: Attack | None = None,
) -> tuple[CellInfo, list[Row]]:
    """Attacks, verifies and scores a cell, or some of its batches.

    An attack that raises, returns something that is not a batch of images, or changes the model
    makes the cell incomplete, and so does a model that raises, while it is attacked or while it is
    scored; it never counts for or against robustness. Models that draw from
    the global generators of torch, numpy or Python are seeded, and score on other draws than
    they were attacked on.

    Args:
        spec: The cell.
        target: The model that is scored, with the cell's statistics in force.
        data: The cell's slice.
        surrogate: The model of ``spec.surrogate``, which the attack is crafted on. The ball stays
            the target's.
        share: Whether cells of the same checkpoint, batch and process share what they can; never
            for a model whose weights do not tell all of it.
        first: Number of the first batch to run.
        last: Number of the one after the last; ``None`` for all. Rows of a batch do not depend on
            which others are run (``bench.run.chunks`` puts them together).
        keep: Called with the x_adv (b, c, h, w) of each batch that has rows.
        aids: What ``spec.adaptive`` names: the attack sees it, the verifier does not.
        attack: The attack that ``spec`` names, where it is in no registry, as a function is not.

    Raises:
        ValueError: When there is a surrogate, or an aid, that the cell does not name, or the
            reverse.
    """
    if (spec.surrogate is None) != (surrogate is None):
        raise ValueError("a cell is run with a surrogate if, and only if, its spec names one")
    if _aids_of(spec) != _given(aids):
        raise ValueError("a cell is run with the gradient_model and the loss that its spec names")
    started = time.monotonic()
    attack = attack or get_attack(spec.attack)
    params = parse_params(attack, spec.attack_params)
    source = surrogate or target
    budget = Budget.of(spec.threat_model, target.std)
    rows: list[Row] = []
    error, precision = "", str(EXACT)
    flat: int | None = 0 if _looks_at_gradients(spec, attack, target) else None
    with frozen(source.model), _frozen_aids(aids):
        guard = ModelGuard(source.model)
        for batch in batches(data, spec.batch_size, target.device, first, last):
            try:
                memos = _memos(spec, batch) if share else (None, None)
                goals = _goals(spec, target, batch)
                x_adv, oracle = _craft(
                    spec,
                    attack,
                    params,
                    source,
                    guard,
                    batch if goals is None else replace(batch, y=goals),
                    budget,
                    len(data.y),
                    memos[0],
                    aids,
                )
                precision = str(EXACT if oracle.engine.exact else oracle.engine)
                scored = _score(spec, attack, target, batch, x_adv, oracle.passes, budget, memos[1])
                rows += scored
                flat = None if flat is None else _add_flat(flat, target, batch, x_adv, scored)
                if keep is not None:
                    keep(x_adv)
            except AttackError as failure:
                error = f"batch {batch.number}: {failure}"
                break
            except UserError:  # a caller's mistake, not a failure of the model
                raise
            except Exception as failure:  # foreign code: whatever a model raises is its failure
                error = (
                    f"batch {batch.number}: the model failed on {len(batch.y)} images: "
                    f"{one_line(failure)}{place_of(failure)}"
                )
                break
    error = error or violations(rows)
    info = CellInfo(
        cell_id=spec.cell_id,
        spec=spec,
        complete=not error,
        error=error,
        attack_kind=attack.kind,
        traits=attack.traits_under(spec.attack_params),
        cluster="batch" if _clustered(spec, target, source) else "sample",
        whole_batches=target.batch_dependent and spec.adversary == "joint",
        zero_gradients=flat,
        seconds=round(time.monotonic() - started, 3),
        precision=precision,
        machine=machine(target.device),
        versions=versions(attack),
        date=now(),
    )
    return info, rows


def _aids_of(spec: CellSpec) -> tuple[bool, tuple[str, ...] | None]:
    """Says whether a cell names a gradient_model, and which layers its loss takes."""
    adaptive = spec.adaptive
    if adaptive is None:
        return False, None
    outputs = None if adaptive.loss is None else adaptive.loss.outputs
    return adaptive.gradient_model is not None, outputs


def _given(aids: Aids | None) -> tuple[bool, tuple[str, ...] | None]:
    """Says the same of what is at hand."""
    if aids is None:
        return False, None
    return aids.gradient_model is not None, None if aids.loss is None else aids.loss.outputs


def _frozen_aids(aids: Aids | None) -> AbstractContextManager[None]:
    """Returns the context in which a gradient_model's parameters have no gradients."""
    model = None if aids is None else aids.gradient_model
    return nullcontext() if model is None else frozen(model)


def _looks_at_gradients(spec: CellSpec, attack: Attack, target: Target) -> bool:
    """Says whether the gradients at the end of an attack tell anything: of one that needs them."""
    if spec.threat_model.eps == 0:
        return False
    plain = not (target.stochastic or target.batch_dependent) and spec.surrogate is None
    plain = plain and spec.adaptive is None  # which climbs no gradient of this margin
    plain = plain and spec.y_target is None  # nor does this
    return plain and spec.protocol == "white_box" and attack.traits.gradients != "never"


def _add_flat(
    before: int, target: Target, batch: Batch, x_adv: Tensor, rows: list[Row]
) -> int | None:
    """Adds the number of images left right whose margin has no gradient at x_adv.

    An attack has no way to go on from there: the model may cut its gradient.
    """
    left = torch.tensor([i for i, row in enumerate(rows) if row.robust and row.played == "adv"])
    if not len(left):
        return before
    x = x_adv[left].detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            loss = margin(torch.as_tensor(target.model(x)), batch.y[left]).sum()
            (grad,) = torch.autograd.grad(loss, x)
    except Exception:  # no gradient reaches the input, or it does not take so few images
        return None
    return before + int((grad.flatten(1) == 0).all(1).sum())


def _memos(spec: CellSpec, batch: Batch) -> tuple[Memo | None, Memo | None]:
    """Returns the caches for crafting and for scoring."""
    sources = (spec.surrogate or spec, spec)
    crafting, scoring = (
        memo_of(model, spec, batch.x, batch.number, adaptive)
        for model, adaptive in zip(sources, (spec.adaptive, None), strict=True)
    )
    return crafting, scoring


def _clustered(spec: CellSpec, target: Target, source: Target) -> bool:
    """Whether images of a batch share statistics, a path or a draw, in crafting or in scoring."""
    shared = any(model.batch_dependent or model.shares_draws for model in (target, source))
    return shared or spec.protocol == "fixed_path"


def _craft(
    spec: CellSpec,
    attack: Attack,
    params: Spec,
    source: Target,
    guard: ModelGuard,
    batch: Batch,
    budget: Budget,
    n_images: int,
    memo: Memo | None = None,
    aids: Aids | None = None,
) -> tuple[Tensor, Oracle]:
    """Returns the attack's candidates for a batch, and the oracle that they were found through.

    ``n_images`` are all of the cell's, in all its batches.
    """
    seed = batch_seed(spec.seed, batch.number)
    rules = QueryRules(
        stochastic=source.stochastic,
        batch_dependent=source.batch_dependent,
        eot_iter=spec.eot_iter,
        eot=spec.eot,
        adversary=spec.adversary,
        seed=seed,
        fast=spec.search == "fast",
        passes_ahead=(attack.passes(params) if attack.passes else 0) * n_images * spec.eot_iter,
        targeted=spec.y_target is not None,
        index=tuple(batch.index),
        cell_seed=spec.seed,
    )
    try:
        oracle = Oracle(source.model, batch.x, source.classes, rules, memo, aids)
    except UserError as error:  # the loss names a layer that is not there
        if aids is None:
            raise
        raise AttackError(str(error)) from error
    with seeded(seed), _held_path(spec, source.model, seed):
        x_adv = _propose(attack, oracle, batch, budget, params, seed)
        changes = guard.changes()
    if changes:
        shown = ", ".join(changes[:3]) + (", ..." if len(changes) > 3 else "")
        raise AttackError(f"the attack changed the model ({shown}); restored")
    return x_adv, oracle


def craft_batch(spec: CellSpec, source: Target, batch: Batch, n_images: int) -> Tensor:
    """Returns the proposal of a cell's attack for a batch of a model, crafted as in ``run_cell``.

    Args:
        spec: The cell.
        source: The model, with the statistics that the attack is to see.
        batch: Of the cell's slice.
        n_images: All of the slice's.

    Raises:
        AttackError: When the attack fails or changes the model.
    """
    attack = get_attack(spec.attack)
    params = parse_params(attack, spec.attack_params)
    budget = Budget.of(spec.threat_model, source.std)
    with frozen(source.model):
        guard = ModelGuard(source.model)
        goals = _goals(spec, source, batch)
        aimed = batch if goals is None else replace(batch, y=goals)
        return _craft(spec, attack, params, source, guard, aimed, budget, n_images)[0]


def _score(
    spec: CellSpec,
    attack: Attack,
    target: Target,
    batch: Batch,
    x_adv: Tensor,
    passes: Passes,
    budget: Budget,
    memo: Memo | None = None,
) -> list[Row]:
    """Returns the verified rows of a batch, with the passes that were spent on it."""
    known = None if memo is None or target.shares_draws else memo.predictions
    rows = judge_batch(spec, attack, target, batch, x_adv, budget, known)
    spent = zip(passes.forwards.tolist(), passes.backwards.tolist(), strict=True)
    return [
        replace(row, forwards=forwards, backwards=backwards)
        for row, (forwards, backwards) in zip(rows, spent, strict=True)
    ]


def judge_batch(
    spec: CellSpec,
    attack: Attack,
    target: Target,
    batch: Batch,
    x_adv: Tensor,
    budget: Budget,
    known: dict[object, Tensor] | None = None,
) -> list[Row]:
    """Returns the verified rows of a batch's x_adv (b, c, h, w), with no passes spent.

    The same arguments give the same rows: draws follow from the cell's seed.
    """
    scoring, goals = _scoring(spec, target, batch), _goals(spec, target, batch)
    if attack.kind == "corruption":  # nobody chooses to decline it
        scoring = replace(scoring, may_decline=False)
    with seeded(batch_seed(spec.seed, batch.number, "score")):
        rows = verify_batch(
            target.model, batch.x, batch.y, x_adv, budget, attack.kind, scoring, known, goals
        )
    return [
        replace(row, index=i, batch=batch.number) for row, i in zip(rows, batch.index, strict=True)
    ]


def _scoring(spec: CellSpec, target: Target, batch: Batch) -> Scoring:
    """Returns how a batch is scored."""
    return Scoring(
        n_draws=spec.n_draws,
        seed=batch_seed(spec.seed, batch.number),
        stochastic=target.stochastic,
        batch_dependent=target.batch_dependent,
        adversary=spec.adversary,
        may_decline=spec.protocol == "white_box",
    )


def _goals(spec: CellSpec, target: Target, batch: Batch) -> Tensor | None:
    """Returns the target classes (b,) of a batch under a targeted attack.

    Raises:
        AttackError: When a given class does not fit an image.
    """
    if spec.y_target is None:
        return None
    first, scoring = batch.number * spec.batch_size, _scoring(spec, target, batch)
    try:
        return targets_of(spec, target, batch.x, batch.y, batch.index, first, scoring)
    except UserError as error:
        raise AttackError(str(error)) from None


def _propose(
    attack: Attack, oracle: Oracle, batch: Batch, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Calls the attack on copies; any failure of it becomes an ``AttackError``.

    In a ball of radius 0 there is nothing to search: it holds the clean image.
    """
    if max(budget.eps) == 0:
        return batch.x.clone()
    try:
        proposed = attack.run(oracle, batch.x.clone(), batch.y.clone(), budget, params, seed)
        return check_candidate(batch.x, proposed)
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:  # an attack is foreign code: whatever it raises is its failure
        raise AttackError(f"{attack.name} failed: {type(error).__name__}: {error}") from error


@contextmanager
def _held_path(spec: CellSpec, source: nn.Module, seed: int) -> Iterator[None]:
    """Under ``fixed_path``, holds one drawn path while the batch is attacked."""
    paths = find_paths(source)
    if paths is None or spec.protocol != "fixed_path":
        yield
        return
    with pinned(source, paths.sample(None, torch.Generator().manual_seed(seed))):
        yield

"""How good a checkpoint is: clean accuracy and a quick PGD-20, measured, and checked later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.attacks.registry import attack_info
from bench.core.cell import CellSpec, DataSpec, Manner, make_cell
from bench.core.errors import UserError
from bench.core.model_spec import ClassifierSpec, height_width
from bench.core.threat import ThreatModel
from bench.data.slice import Slice, open_split, take_slice
from bench.evaluation.cell import run_cell
from bench.evaluation.model import Target
from bench.metrics import robust_accuracy
from bench.models import Classifier
from bench.norms import find_paths, pinned
from bench.train.source import to_pixels
from bench.untrusted.spec_file import check_spec
from bench.zoo import Card, Checkpoint, CleanAccuracy, RobustAccuracy, open_checkpoint
from bench.zoo.audit import Audit, judge
from bench.zoo.card import write_card
from bench.zoo.checkpoint import CARD, WEIGHTS, verify_hash

SCORING_DRAWS = 5
SCORING_BATCH = 128


def score_clean(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    split: str,
    *,
    batch_size: int = SCORING_BATCH,
    n_draws: int = SCORING_DRAWS,
) -> CleanAccuracy:
    """Measures the clean accuracy of a card, in fp32, on the model's device.

    Args:
        model: In eval mode.
        x: Images (n, c, h, w), uint8, or float in [0, 1]; they go to the device batch by batch.
        y: Labels (n,).
        split: Name of the images in the card.
        batch_size: Images that are scored together.
        n_draws: Draws for each image, if the model is stochastic.
    """
    norm = model.spec.norm
    n_draws = n_draws if norm.stochastic else 1
    whole = norm.batch_dependent
    value = clean_accuracy(model, x, y, batch_size, n_draws, whole_batch=whole)
    return CleanAccuracy(
        value=round(value, 6),
        n=len(y),
        split=split,
        batch_size=batch_size if whole else None,
        n_draws=n_draws,
    )


def clean_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    n_draws: int = 1,
    seed: int = 0,
    whole_batch: bool = False,
) -> float:
    """Returns the accuracy in [0, 1] on images (n, c, h, w) of a model in eval mode, in fp32.

    Images are uint8, or float in [0, 1], on any device.

    Batches are taken in order, so that a batch-dependent model is scored in fixed batches.
    A stochastic model gets ``n_draws`` fresh paths per image, and the expectation is returned;
    with ``whole_batch``, for a batch-dependent model, the images of a batch share a path unless
    the model draws one per sample.
    """
    paths = find_paths(model)
    shared = paths is not None and whole_batch and paths.per == "batch"
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(x), batch_size):
            images = to_pixels(x[start : start + batch_size].to(device))
            labels = y[start : start + batch_size].to(device)
            for _ in range(n_draws):
                if paths is None:
                    logits = model(images)
                else:
                    n = None if shared else len(images)
                    with pinned(model, paths.sample(n, generator)):
                        logits = model(images)
                correct += int((logits.argmax(1) == labels).sum())
    return correct / (len(x) * n_draws)


QUICK_EPS: Mapping[str, float] = {
    "mnist": 0.3,
    "fashion-mnist": 0.1,
    "cifar10": 8 / 255,
    "cifar100": 8 / 255,
    "imagenet": 4 / 255,
}
"""Radius (linf, pixels) of the quick attack on each data set, the one that is usual for it: from
Madry et al. 2018 for MNIST and from the RNA paper for CIFAR and ImageNet; 0.1 for Fashion-MNIST is
what this project trains with. Naturally trained models meet it too, so that one number tells all
models of a data set apart. A model that was trained against another ball is asked about its own."""

QUICK_N = 512
"""Images of the quick attack: four whole batches."""
SAMPLED_N = 128
"""Of these, how many a checkpoint is checked on unless more are asked for: one whole batch."""
QUICK_ITER = 20
QUICK_EOT = 5
"""Draws a gradient is averaged over; one leaves RNA 1.7 points more (``rna_eot``)."""
QUICK_DRAWS = 20


def scoring_split(card: Card) -> DataSpec:
    """Returns the images that a card's clean accuracy is of, from its ``NAME test``.

    Raises:
        UserError: When the card words it otherwise.
    """
    name, _, split = card.clean_accuracy.split.rpartition(" ")
    if not name or split not in ("test", "train"):
        raise UserError(
            f"expected a split such as 'fashion-mnist test', found '{card.clean_accuracy.split}'"
        )
    return check_spec({"name": name, "split": split}, DataSpec, "split")


def score_slice(
    model: Classifier,
    data: Slice,
    split: str,
    *,
    batch_size: int = SCORING_BATCH,
    n_draws: int = SCORING_DRAWS,
) -> CleanAccuracy:
    """Measures clean accuracy on a slice; arguments as for ``score_clean``.

    Raises:
        UserError: When the images do not fit the model.
    """
    check_images(model.spec, data, split)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    return score_clean(model, x, y, split, batch_size=batch_size, n_draws=n_draws)


def check_images(spec: ClassifierSpec, data: Slice, split: str) -> None:
    """Raises ``UserError`` unless images and labels fit a model."""
    expected, found = (spec.channels, *height_width(spec.size)), data.x.shape[1:]
    if found != expected:
        raise UserError(f"{split}: images are {found}, the model takes {expected}")
    if int(data.y.max()) >= spec.classes:
        raise UserError(f"{split}: has label {data.y.max()}, the model {spec.classes} classes")


def quick_threat(card: Card) -> ThreatModel:
    """Returns the ball of the quick attack: that of the card's training, else its data set's.

    Raises:
        UserError: When ``QUICK_EPS`` does not know the data set.
    """
    attack = card.recipe.get("attack")
    if isinstance(attack, Mapping) and "threat_model" in attack:
        where = f"{card.name}: recipe.attack.threat_model"
        return check_spec(attack["threat_model"], ThreatModel, where)
    if card.dataset not in QUICK_EPS:
        known = ", ".join(QUICK_EPS)
        raise UserError(f"no quick attack is defined for data set '{card.dataset}'; known: {known}")
    return ThreatModel(eps=QUICK_EPS[card.dataset])


def quick_pgd(
    checkpoint: Checkpoint, data_root: Path | None, n: int = QUICK_N, device: str = "cpu"
) -> RobustAccuracy:
    """Measures accuracy under PGD-20 from one random start, with steps of a quarter of eps.

    The images are the first ``n`` of the card's split, shuffled with seed 0. The attack searches in
    fp32, so that it finds the same again. The last iterate counts. Stochastic models are attacked
    through gradients averaged over ``QUICK_EOT`` draws and scored on fresh ones; batch-dependent
    ones in fixed batches, all images of which are perturbed.

    Args:
        checkpoint: The model.
        data_root: Where data sets lie; ``None`` for the defaults.
        n: Images; all of a smaller split.
        device: A torch device.

    Raises:
        UserError: When weights or images are missing or do not fit, no attack is defined for the
            data set, or it fails.
    """
    card, threat = checkpoint.card, quick_threat(checkpoint.card)
    model = checkpoint.load().to(device)
    target = Target.of(model)
    where = _first(scoring_split(card), n, data_root)
    data = take_slice(where, data_root)
    check_images(model.spec, data, card.clean_accuracy.split)
    spec = quick_cell(checkpoint, where, data.sha256)
    info, rows = run_cell(spec, target, data)
    if not info.complete:
        raise UserError(f"{card.name}: PGD-{QUICK_ITER} is incomplete: {info.error}")
    found = robust_accuracy(rows, info.cluster)
    return RobustAccuracy(
        value=round(found.value, 6),
        low=None if found.low is None else round(found.low, 6),
        high=None if found.high is None else round(found.high, 6),
        n=found.n,
        attack=f"PGD-{QUICK_ITER}, {threat.describe()}, alpha {spec.attack_params['alpha']:.4g}",
        split=card.clean_accuracy.split,
        protocol=_protocol(target),
        interval=found.method,
    )


def quick_cell(checkpoint: Checkpoint, data: DataSpec, data_hash: str) -> CellSpec:
    """Returns the cell of the quick attack on a slice.

    Raises:
        UserError: When no attack is defined for the data set.
    """
    card, threat = checkpoint.card, quick_threat(checkpoint.card)
    alpha = max(threat.pixel_eps(card.model.std)) / 4
    attack = attack_info("pgd", {"n_iter": QUICK_ITER, "alpha": alpha, "keep": "last"}, threat.norm)
    manner = Manner(eot_iter=QUICK_EOT, batch_size=SCORING_BATCH, n_draws=QUICK_DRAWS)
    model = checkpoint.facts().cell_model(card.name)
    return make_cell(model, attack, data, data_hash, threat, manner)


def _first(data: DataSpec, n: int, data_root: Path | None) -> DataSpec:
    """Returns the first ``n`` images of a shuffled split, or the whole of a smaller one.

    Some data sets come sorted by class, so the first of an unshuffled one would not do.
    """
    n = min(n, len(open_split(data.name, data.split, data_root).y))
    return data.model_copy(update={"limit": n, "seed": 0})


def _protocol(target: Target) -> str:
    words = ["white_box"]
    if target.stochastic:
        words += [f"EOT {QUICK_EOT}", f"{QUICK_DRAWS} fresh draws"]
    if target.batch_dependent:
        words.append(f"joint in batches of {SCORING_BATCH}")
    return ", ".join(words)


@dataclass(frozen=True)
class AuditOptions:
    """How checkpoints are checked.

    Attributes:
        data_root: Where data sets lie; ``None`` for the defaults.
        device: A torch device.
        limit: Measures on so many images of the shuffled split only.
        quick: Leaves the attack out.
        update: Writes numbers that are missing or differ into the card.
        n_attacked: Images of the attack; ``None`` for ``SAMPLED_N`` of the card's, and under
            ``update``, or where the card has no number, for the card's number, else ``QUICK_N``.
    """

    data_root: Path | None = None
    device: str = "cpu"
    limit: int | None = None
    quick: bool = False
    update: bool = False
    n_attacked: int | None = None


def audit_cost(folder: Path, options: AuditOptions) -> float:
    """Returns about how many passes a check takes, 0 where the card does not tell."""
    try:
        card = open_checkpoint(folder).card
    except UserError:
        return 0.0
    clean = card.clean_accuracy
    scored = clean.n if options.limit is None else min(clean.n, options.limit)
    draws = QUICK_EOT if clean.n_draws > 1 else 1
    attacked = 0 if options.quick else _n_attacked(card, options)
    return float(scored * clean.n_draws + attacked * 2 * QUICK_ITER * draws)


def audit_checkpoint(folder: Path, options: AuditOptions) -> Audit:
    """Hashes, loads and scores a checkpoint, and compares it with its card.

    Raises:
        UserError: When ``update`` is asked for on part of the images.
    """
    if options.update and options.limit is not None:
        raise UserError("--update writes numbers of all images, so it takes no --limit")
    name = folder.name
    try:
        checkpoint = open_checkpoint(folder)
    except UserError as error:
        return Audit(name, "differs", notes=(str(error),))
    try:
        verify_hash(folder / WEIGHTS, checkpoint.card)
    except UserError as error:
        return Audit(name, "differs", "differs", notes=(str(error),))
    try:
        model = checkpoint.load().to(options.device)
        if checkpoint.card.name != name:
            raise UserError(f"the card is that of '{checkpoint.card.name}'")
    except UserError as error:
        return Audit(name, "differs", "ok", notes=(str(error),))
    return _scored(checkpoint, model, options)


def _scored(checkpoint: Checkpoint, model: Classifier, options: AuditOptions) -> Audit:
    card, name = checkpoint.card, checkpoint.folder.name
    known = (card.clean_accuracy, None), (card.robust_accuracy, None)
    try:
        where = scoring_split(card)
        if options.limit is not None:
            where = _first(where, options.limit, options.data_root)
        data = take_slice(where, options.data_root)
    except UserError as error:
        return Audit(name, "hash only", "ok", *known, notes=(str(error),))
    was = card.clean_accuracy
    size = was.batch_size or SCORING_BATCH
    try:
        clean = score_slice(model, data, was.split, batch_size=size, n_draws=was.n_draws)
        robust = None if options.quick else _attacked(checkpoint, options)
    except UserError as error:
        return Audit(name, "differs", "ok", *known, notes=(str(error),))
    before, limited = card.robust_accuracy, options.limit is not None
    partly = before is not None and _n_attacked(card, options) < before.n
    audit, changes = judge(name, card, clean, robust, partial=limited, partly_attacked=partly)
    if options.update and changes:
        write_card(checkpoint.folder / CARD, card.model_copy(update=changes))
        audit = replace(audit, verdict="updated")
    return audit


def _attacked(checkpoint: Checkpoint, options: AuditOptions) -> RobustAccuracy | str:
    """Returns the quick attack's number, or why there is none for this data set."""
    try:
        quick_threat(checkpoint.card)
    except UserError as error:
        return str(error)
    n = _n_attacked(checkpoint.card, options)
    return quick_pgd(checkpoint, options.data_root, n, options.device)


def _n_attacked(card: Card, options: AuditOptions) -> int:
    """Returns how many images the quick attack is asked for."""
    known = card.robust_accuracy
    n = QUICK_N if known is None else known.n
    if options.n_attacked is not None:
        n = options.n_attacked
    elif known is not None and not options.update:
        n = min(n, SAMPLED_N)
    return n if options.limit is None else min(n, options.limit)

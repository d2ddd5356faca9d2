"""``rbench probe``: what a checkpoint declares, and what the probe finds."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.model_uri import short_name
from bench.core.norm_spec import NormSpec
from bench.core.paths import checkpoints_folder
from bench.data import get_dataset, take_slice
from bench.evaluation.device import pick_device
from bench.models.external import ModelFacts, ModelLookup, Source
from bench.probe.findings import ProbeResult
from bench.probe.model import MAX_IMAGES, probe
from bench.zoo import Checkpoint, open_checkpoint, open_model

EXIT_FINDINGS = 1

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def probe_command(
    console: Console,
    checkpoint: str,
    checkpoints: Path | None,
    data_root: Path | None,
    device: str,
    *,
    data: str | None = None,
    trust_code: bool = False,
) -> int:
    """Probes a checkpoint with images of the data set it was trained on.

    Args:
        console: Where to print.
        checkpoint: A name in the folder of checkpoints, the path of a checkpoint's folder, or a
            URI.
        checkpoints: The folder of checkpoints; ``None`` for the default.
        data_root: Where data sets lie; ``None`` for the defaults.
        device: ``auto``, ``cpu``, ``cuda``, ...
        data: A data set in place of the one it was trained on.
        trust_code: Whether code that the URI names may be run.

    Returns:
        0, or 1 where the probe found errors or warnings.

    Raises:
        UserError: When the checkpoint or its data cannot be read, or what the checkpoint declares
            is not what the probe finds.
    """
    source = _open(checkpoint, ModelLookup(checkpoints_folder(checkpoints), trust_code))
    device, facts = pick_device(device), source.facts()
    images = take_slice(DataSpec(name=_data(checkpoint, facts, data), limit=MAX_IMAGES), data_root)
    model = source.load().to(device)
    x, y = torch.from_numpy(images.x).to(device), torch.from_numpy(images.y).to(device)
    result = probe(model, x, y, classes=facts.spec.classes)
    norm = facts.spec.norm
    console.print(_table(source, short_name(checkpoint), norm, result))
    for finding in result.findings:
        console.print(finding.severity, style=_STYLES[finding.severity], end=" ")
        line = f"{finding.code}: {finding.text}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    differs = result.disagreement(stochastic=norm.stochastic, batch_dependent=norm.batch_dependent)
    if differs:
        raise UserError(f"{checkpoint}: {differs}")
    grave = [finding for finding in result.findings if finding.severity != "note"]
    if not result.findings:
        console.print("nothing to object to", style="green")
    return EXIT_FINDINGS if grave else 0


def _open(checkpoint: str, shelf: ModelLookup) -> Source:
    path = Path(checkpoint)
    return open_checkpoint(path) if path.is_dir() else open_model(checkpoint, shelf)


def _data(checkpoint: str, facts: ModelFacts, given: str | None) -> str:
    """Returns the name of the data set whose images a model is shown, if they fit it."""
    name = given or facts.dataset
    if not name:
        raise UserError(f"{checkpoint}: what it was trained on is not known; give --data")
    found, spec = get_dataset(name), facts.spec
    has, takes = (
        (found.channels, found.size, found.classes),
        (
            spec.channels,
            spec.size,
            spec.classes,
        ),
    )
    if has != takes:
        words = "{} x {size} x {size} and {} classes"
        raise UserError(
            f"{checkpoint}: takes images of {words.format(takes[0], takes[2], size=takes[1])}, but "
            f"data '{name}' has {words.format(has[0], has[2], size=has[1])}; choose other --data"
        )
    return name


def _table(source: Source, name: str, norm: NormSpec, result: ProbeResult) -> Table:
    card = source.card if isinstance(source, Checkpoint) else None
    table = Table(
        title=f"{card.name if card else name}, {result.n_images} images", title_justify="left"
    )
    for name in ("property", "expected", "probed"):
        table.add_column(name)
    effect = "not measured" if result.batch_effect is None else f"{result.batch_effect:.1e}"
    slope = "not measured" if result.gradient_error is None else f"{result.gradient_error:.0%}"
    expected_accuracy = f"{card.clean_accuracy.value:.1%}" if card else "not known"
    batch = f"{_yes(result.batch_dependent)} ({effect})"
    rows: list[tuple[str, str, str]] = [
        ("stochastic", _yes(norm.stochastic), f"{_yes(result.stochastic)} ({result.noise:.1e})"),
        ("batch-dependent", _yes(norm.batch_dependent), batch),
        ("outputs", "logits", f"{result.outputs} (scale {result.logit_scale:.3g})"),
        ("clean accuracy", expected_accuracy, f"{result.clean_accuracy:.1%}"),
        ("layers in train mode", "0", str(len(result.train_mode))),
        ("branches that never run", "0", str(len(result.unused_branches))),
        ("changed by a forward pass", "nothing", ", ".join(result.state_changes) or "nothing"),
        ("autograd inside forward", "no", _yes(result.autograd_inside)),
        ("gradient reaches the input", "yes", _yes(result.differentiable)),
        ("gradient NaN or infinite", "0%", f"{result.nonfinite_gradient:.0%}"),
        ("gradient zero", "0%", f"{result.zero_gradient:.0%}"),
        ("cross-entropy saturated", "", f"{result.saturated:.0%}"),
        ("gradient is not the slope", "", slope),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"

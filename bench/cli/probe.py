"""``rbench probe``: what a checkpoint declares, and what the probe finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.cli import options as completing
from bench.cli.options import (
    Checkpoints,
    DataRoot,
    Device,
    TrustCode,
    console,
    say,
    where_of,
)
from bench.cli.working import Working
from bench.core.errors import UserError
from bench.core.model_spec import ClassifierSpec, size_text
from bench.core.model_uri import short_name
from bench.core.paths import Where

if TYPE_CHECKING:  # imported at every start
    from bench.core.checkpoint import ModelFacts
    from bench.core.norm_spec import NormSpec
    from bench.data.images import Dataset
    from bench.models.external.scheme import Source
    from bench.probe.findings import ProbeResult
    from bench.zoo import Card

EXIT_FINDINGS = 1

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def probe(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint name or folder, or a URI (rbench list schemes).",
            autocompletion=completing.checkpoints,
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", help="Data set to test with (default: the model's).")
    ] = None,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Test what a model is: stochastic, batch-dependent, gradient-masked, stateful."""
    where = where_of(checkpoints, data_root, device, trust_code)
    raise typer.Exit(probe_command(console, checkpoint, where, data))


def probe_command(console: Console, checkpoint: str, where: Where, data: str | None = None) -> int:
    """Probes a checkpoint, by default with images of the data set it was trained on.

    Args:
        console: Where to print.
        checkpoint: A name in the folder of checkpoints, the path of a checkpoint's folder, or a
            URI.
        where: Where checkpoints and data are found, and the device.
        data: A data set in place of the one it was trained on.

    Returns:
        0, or 1 if there are errors or warnings.

    Raises:
        UserError: When the checkpoint or its data cannot be read, or the model is not what its
            card declares.
    """
    with Working(f"probing {checkpoint}"):
        card, norm, result = _probed(checkpoint, where, data)
    clean = f"{card.clean_accuracy.value:.1%}" if card else "not known"
    console.print(_table(card.name if card else short_name(checkpoint), norm, clean, result))
    for finding in result.findings:
        console.print(finding.severity, style=_STYLES[finding.severity], end=" ")
        say(console, f"{finding.code}: {finding.text}")
    differs = result.disagreement(stochastic=norm.stochastic, batch_dependent=norm.batch_dependent)
    if differs:
        raise UserError(f"{checkpoint}: {differs}")
    if not result.findings:
        console.print("nothing to object to", style="green")
    return EXIT_FINDINGS if any(one.severity != "note" for one in result.findings) else 0


def _probed(
    checkpoint: str, where: Where, data: str | None
) -> tuple[Card | None, NormSpec, ProbeResult]:
    """Returns a checkpoint's card, if it has one, its norm, and what the probe found."""
    import torch

    from bench.core.cell import DataSpec
    from bench.data.slice import take_slice
    from bench.probe import model as probing
    from bench.zoo import Checkpoint, open_checkpoint, open_model

    path = Path(checkpoint)
    source: Source = open_checkpoint(path) if path.is_dir() else open_model(checkpoint, where)
    facts = source.facts()
    shown = DataSpec(name=_data(checkpoint, facts, data), limit=probing.MAX_IMAGES)
    images = take_slice(shown, where.data_root)
    model = source.load().to(where.device)
    x, y = (torch.from_numpy(part).to(where.device) for part in (images.x, images.y))
    result = probing.probe(model, x, y, classes=facts.spec.classes)
    card = source.card if isinstance(source, Checkpoint) else None
    return card, facts.spec.norm, result


def _data(checkpoint: str, facts: ModelFacts, given: str | None) -> str:
    """Returns the name of the data set that a model is probed with.

    Raises:
        UserError: When it is not known, or its images or classes do not fit the model.
    """
    from bench.data.named import get_dataset

    name = given or facts.dataset
    if not name:
        raise UserError(f"{checkpoint}: what it was trained on is not known; give --data")
    has, takes = get_dataset(name), facts.spec
    fits = has.classes <= takes.classes if has.part else has.classes == takes.classes
    if (has.channels, has.size) != (takes.channels, takes.size) or not fits:
        raise UserError(
            f"{checkpoint}: takes images of {_shape(takes)}, but data '{name}' has {_shape(has)}; "
            "choose other --data"
        )
    return name


def _shape(of: ClassifierSpec | Dataset) -> str:
    return f"{of.channels} x {size_text(of.size)} and {of.classes} classes"


def _table(name: str, norm: NormSpec, clean_accuracy: str, result: ProbeResult) -> Table:
    """Returns each property as it is declared and as it was found."""
    table = Table(title=f"{name}, {result.n_images} images", title_justify="left")
    for column in ("property", "expected", "probed"):
        table.add_column(column)
    effect = "not measured" if result.batch_effect is None else f"{result.batch_effect:.1e}"
    slope = "not measured" if result.gradient_error is None else f"{result.gradient_error:.0%}"
    batch = f"{_yes(result.batch_dependent)} ({effect})"
    rows: list[tuple[str, str, str]] = [
        ("stochastic", _yes(norm.stochastic), f"{_yes(result.stochastic)} ({result.noise:.1e})"),
        ("batch-dependent", _yes(norm.batch_dependent), batch),
        ("outputs", "logits", f"{result.outputs} (scale {result.logit_scale:.3g})"),
        ("clean accuracy", clean_accuracy, _accuracy(result)),
        ("layers in train mode", "0", str(len(result.train_mode) + len(result.unreached))),
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


def _accuracy(result: ProbeResult) -> str:
    """Returns the accuracy on the few images of a probe with its 95 % interval."""
    from bench.metrics import wilson

    n = result.n_images
    low, high = wilson(result.clean_accuracy * n, n)
    return f"{result.clean_accuracy:.1%} [{low:.1%}, {high:.1%}]"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"

"""``rbench probe``: what a checkpoint declares, and what the probe finds."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.norm_spec import NormSpec
from bench.data import take_slice
from bench.run.device import pick_device
from bench.run.paths import checkpoints_folder
from bench.verify.probe import MAX_IMAGES, probe
from bench.verify.probe_result import ProbeResult
from bench.zoo import Checkpoint, open_checkpoint

EXIT_FINDINGS = 1

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def probe_command(
    console: Console,
    checkpoint: str,
    checkpoints: Path | None,
    data_root: Path | None,
    device: str,
) -> int:
    """Probes a checkpoint with images of the data set it was trained on.

    Args:
        console: Where to print.
        checkpoint: A name in the folder of checkpoints, or the path of a checkpoint's folder.
        checkpoints: The folder of checkpoints; ``None`` for the default.
        data_root: Where data sets lie; ``None`` for the defaults.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        0, or 1 where the probe found errors or warnings.

    Raises:
        UserError: When the checkpoint or its data cannot be read, or what the checkpoint declares
            is not what the probe finds.
    """
    opened = _open(checkpoint, checkpoints)
    device = pick_device(device)
    data = take_slice(DataSpec(name=opened.card.dataset, limit=MAX_IMAGES), data_root)
    model = opened.load().to(device)
    x, y = torch.from_numpy(data.x).to(device), torch.from_numpy(data.y).to(device)
    result = probe(model, x, y, classes=opened.card.model.classes)
    norm = opened.card.model.norm
    console.print(_table(opened, norm, result))
    for finding in result.findings:
        console.print(finding.severity, style=_STYLES[finding.severity], end=" ")
        line = f"{finding.code}: {finding.text}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    differs = result.disagreement(stochastic=norm.stochastic, batch_dependent=norm.batch_dependent)
    if differs:
        raise UserError(f"{opened.folder}: {differs}")
    grave = [finding for finding in result.findings if finding.severity != "note"]
    if not result.findings:
        console.print("nothing to object to", style="green")
    return EXIT_FINDINGS if grave else 0


def _open(checkpoint: str, checkpoints: Path | None) -> Checkpoint:
    path = Path(checkpoint)
    return open_checkpoint(path if path.is_dir() else checkpoints_folder(checkpoints) / checkpoint)


def _table(opened: Checkpoint, norm: NormSpec, result: ProbeResult) -> Table:
    table = Table(title=f"{opened.card.name}, {result.n_images} images", title_justify="left")
    for name in ("property", "expected", "probed"):
        table.add_column(name)
    effect = "not measured" if result.batch_effect is None else f"{result.batch_effect:.1e}"
    slope = "not measured" if result.gradient_error is None else f"{result.gradient_error:.0%}"
    expected_accuracy = f"{opened.card.clean_accuracy.value:.1%}"
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

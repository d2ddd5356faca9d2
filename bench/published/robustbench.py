"""RobustBench's leaderboards as published tables, read from its ``model_info`` files.

Source: https://github.com/RobustBench/robustbench (MIT licence), ``model_info/DATA/NORM/*.json``.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.core import ball
from bench.core.errors import UserError, first_line
from bench.core.spec import parse_number
from bench.untrusted.yaml_text import read_limited

NORMS = {ball.norm_facts(norm).capital: norm for norm in ball.NORMS}
"""Norms by the names of RobustBench's folders."""

N_IMAGES = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 5_000}
"""Number of images in RobustBench's evaluations."""

_ARCHITECTURES = {
    ("ResNet-18", ""): "resnet18",
    ("WideResNet-34-10", ""): "wrn32",  # counted by the RNA paper without its two shortcuts
    ("ResNet-50", "imagenet"): "resnet50-bottleneck",
}
"""Names in rbench of RobustBench's architectures, some for one data set only."""

_ABOUT: dict[str, Any] = {
    "paper": "RobustBench",
    "protocol": "white_box",
    "test_images": N_IMAGES,
    "setting": {"eps_space": "pixel", "protocol": "white_box"},
    "attack_settings": {
        "natural": {"attack": "natural"},
        "autoattack": {
            "attack": "autoattack",
            "params": {"version": "standard", "n_iter": 100, "n_queries": 5000},
        },
    },
    "measured": (
        "RobustBench's evaluation: AutoAttack, version standard, by its authors' code on the first "
        "10,000 test images (ImageNet: 5,000 images of the validation set). A row that is marked "
        "unreliable, or has an external number below its own, was broken further by others."
    ),
    "attacks": "AutoAttack: APGD-CE, APGD-T, FAB-T, Square; 100 steps, 5,000 queries.",
    "training": "Not said in the files; additional_data says whether more than the data set.",
}


def import_model_info(folder: Path) -> tuple[str, list[str]]:
    """Converts every entry below a folder into one file of published tables.

    Args:
        folder: ``model_info``, or a folder in it; entries for corruptions are skipped.

    Returns:
        The text of the file, and the names of its tables, such as ``cifar10_linf``.

    Raises:
        UserError: When there is no entry, or an entry is invalid, naming file and field.
    """
    root = folder.resolve()
    paths = [path for path in sorted(root.rglob("*.json")) if path.parent.name in NORMS]
    if not paths:
        raise UserError(
            f"{folder}: expected RobustBench's model_info, or a folder in it such as "
            f"model_info/cifar10/Linf, with files *.json below a folder Linf or L2; found none"
        )
    tables: dict[str, dict[str, Any]] = {}
    for path in paths:
        entry = _read(path)
        dataset, norm = _text(path, entry, "dataset"), NORMS[path.parent.name]
        if dataset not in N_IMAGES:
            known = ", ".join(N_IMAGES)
            raise UserError(f"{path}: dataset: expected one of {known}, found '{dataset}'")
        table = tables.setdefault(f"{dataset}_{norm}", _table(dataset, norm))
        table["rows"].append(row := _row(path, entry, dataset))
        if caveat := _caveat(row):
            where = {"where": {"id": row["id"]}, "columns": ["autoattack"]}
            table["exceptions"].append({**where, "caveat": caveat})
    content = {**_ABOUT, "tables": dict(sorted(tables.items()))}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), sorted(tables)


def _table(dataset: str, norm: str) -> dict[str, Any]:
    return {
        "title": f"RobustBench, {dataset}, {norm}",
        "setting": {"dataset": dataset, "norm": norm},
        "exceptions": [],
        "columns": ["natural", "autoattack"],
        "rows": [],
    }


def _row(path: Path, entry: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Returns the row of an entry, whose id is the name of its file."""
    architecture = _text(path, entry, "architecture")
    row: dict[str, Any] = {
        "id": path.stem,
        "model": _ours(architecture, dataset),
        "eps": _eps(path, entry),
        "additional_data": bool(entry.get("additional_data")),
    }
    if entry.get("external") is not None:
        row["external"] = _percent(path, entry, "external")
    if entry.get("unreliable"):
        row["unreliable"] = True
    row["values"] = [_percent(path, entry, name) for name in ("clean_acc", "autoattack_acc")]
    return row


def _caveat(row: Mapping[str, Any]) -> str:
    """Returns RobustBench's own reservations about a number; empty if there are none."""
    parts = ["marked unreliable"] * ("unreliable" in row)
    if "external" in row:
        parts.append(f"evaluated to {row['external']:g} % by others")
    return f"RobustBench has {row['id']} {' and '.join(parts)}" if parts else ""


def _ours(architecture: str, dataset: str) -> str:
    known = _ARCHITECTURES.get((architecture, dataset))
    return known or _ARCHITECTURES.get((architecture, ""), architecture)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        entry = json.loads(read_limited(path, "an entry of RobustBench"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({first_line(error)})") from None
    if not isinstance(entry, dict):
        raise UserError(f"{path}: expected an object, as RobustBench's model_info has")
    return entry


def _text(path: Path, entry: Mapping[str, Any], field: str) -> str:
    """Returns a text field of an entry, without HTML."""
    value = entry.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{path}: {field}: expected a text, found {value!r}")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", value)).split())


def _eps(path: Path, entry: Mapping[str, Any]) -> float | str:
    """Returns the radius as written, for example ``8/255`` or ``0.5``."""
    value = entry.get("eps")
    try:
        number = parse_number(value)
    except ValueError as error:
        raise UserError(f"{path}: eps: {error}") from None
    return value if isinstance(value, str) and "/" in value else number


def _percent(path: Path, entry: Mapping[str, Any], field: str) -> float:
    value = entry.get(field)
    try:
        number = parse_number(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise UserError(f"{path}: {field}: expected a percentage from 0 to 100, found {value!r}")
    return number

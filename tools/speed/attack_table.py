"""The table of a race as Markdown: settings, machines, results, and what is not equal."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.untrusted.escape import markdown, one_line

HOW = (
    "All contenders attack the same model on the same images with the same parameters, in turns, "
    "in one process; a first run of each, with few steps, is not counted. "
    "**Seconds** (median over the rounds) run from images in memory to verdicts: the attack, and "
    "this project's verifier for everybody. **Times rbench's** is the median over the rounds of a "
    "contender's seconds over rbench's of the same round, with the least and the most. **Passes** "
    "are forward and backward passes an image, of the attack. **Robust** is the accuracy that the "
    "verifier finds, **agreement** the share of images on which it says the same as under rbench. "
    "**In the model** is the share of the attack's time that its forward and backward passes take: "
    "libraries are given a model that times itself, of rbench the oracle's passes and gradients "
    "are timed from outside. **Memory** is what an attack of few steps adds to a process that "
    "holds model and images. Libraries are called as their documentation does. `rbench` searches "
    "in the precision and layout that it finds fastest on this machine and confirms in float32; "
    "`rbench exact` runs in float32 throughout."
)


def race_markdown(
    table: pd.DataFrame,
    heads: Mapping[str, str],
    settings: Mapping[str, str],
    absent: Sequence[str],
    host: str,
    command: str,
    elsewhere: pd.DataFrame,
) -> str:
    """Returns the table as Markdown.

    Args:
        table: As ``tools.speed.standings.standings`` returns it.
        heads: Images and balls of each checkpoint.
        settings: Parameters of each attack, by title.
        absent: Attacks that contenders lack, one line per contender.
        host: The machine.
        command: The command that made the table.
        elsewhere: Rows measured on other kinds of processor, one column per kind.
    """
    parts = ["# How fast attacks are", "", HOW, ""]
    for checkpoint, rows in table.groupby("checkpoint", sort=False):
        parts += [f"## {checkpoint}", "", heads[str(checkpoint)], ""]
        parts += [_shown(rows, elsewhere).to_markdown(index=False, disable_numparse=True), ""]
        notes = list(_notes(rows))
        parts += [*notes, ""] if notes else []
    parts += ["## Parameters", ""]
    parts += [f"- {title}: {params}" for title, params in settings.items()]
    parts += ["", *(f"- {line}" for line in absent), ""] if absent else [""]
    here = f"{table['kind'].iloc[0]}: " if len(table) else ""
    parts += [f"Machine: {here}{host}. Command: `{command}`.", ""]
    for kind, rows in elsewhere.groupby("kind", sort=False):
        parts += [f'The column "{_date(rows)}, {kind}" holds ratios measured there earlier:', ""]
        parts += [*(f"- {line}" for line in _machines(rows)), ""]
    return "\n".join(parts)


def _shown(rows: pd.DataFrame, elsewhere: pd.DataFrame) -> pd.DataFrame:
    there = {
        f"{_date(found)}, {kind}": {
            tuple(row[key] for key in ("checkpoint", "attack", "contender")): row
            for row in found.to_dict("records")
        }
        for kind, found in elsewhere.groupby("kind", sort=False)
    }
    lines = []
    for row in rows.to_dict("records"):
        key = tuple(row[name] for name in ("checkpoint", "attack", "contender"))
        line = {
            "attack": markdown(str(row["attack"])),
            "contender": str(row["contender"]) + " †" * bool(row["note"]),
            "images": _number(row["images"], "{:.0f}"),
            "seconds": _number(row["seconds"], "{:.2f}"),
            "times rbench's": _ratio(row),
        }
        line |= {name: _ratio(found[key]) if key in found else "—" for name, found in there.items()}
        line |= {
            "passes": _passes(row),
            "robust": _percent(row["robust_accuracy"]),
            "agreement": _percent(row["agreement"]),
            "in the model": _percent(row["model_share"], 0),
            "memory, MiB": _number(row["peak_mb"], "{:.0f}"),
        }
        lines.append(line)
    return pd.DataFrame(lines)


def _date(rows: pd.DataFrame) -> str:
    """Returns the latest day on which rows were measured."""
    return max(str(line).rpartition(", ")[2] for line in rows["machine"])


def _machines(rows: pd.DataFrame) -> Iterator[str]:
    """Yields each machine with the attacks measured on it."""
    for machine, found in rows.groupby("machine", sort=False):
        images = sorted({int(n) for n in found["images"].dropna()})
        attacks = ", ".join(dict.fromkeys(found["attack"]))
        yield f"{machine}; {', '.join(map(str, images))} images: {attacks}"


def _number(value: float, form: str) -> str:
    return "—" if pd.isna(value) else form.format(value)


def _percent(value: float, digits: int = 1) -> str:
    return "—" if pd.isna(value) else f"{100 * value:.{digits}f} %"


def _ratio(row: Mapping[Hashable, Any]) -> str:
    if pd.isna(row["ratio"]):
        return "—"
    low, high = (f"{row[end]:.2f}" for end in ("ratio_low", "ratio_high"))
    return f"{row['ratio']:.2f}" + f" ({low} to {high})" * (low != high)


def _passes(row: Mapping[Hashable, Any]) -> str:
    if pd.isna(row["forwards"]):
        return "—"
    return f"{row['forwards']:,.1f} + {row['backwards']:,.1f}"


def _notes(rows: pd.DataFrame) -> Iterator[str]:
    """Yields each note once, with the attacks that it concerns."""
    noted = rows[rows["note"] != ""]
    for (contender, note), group in noted.groupby(["contender", "note"], sort=False):
        attacks = ", ".join(dict.fromkeys(group["attack"]))
        yield f"- † {contender} ({attacks}): {markdown(one_line(str(note)))}"

"""A check for other programs: GitHub annotations, JSON and JUnit XML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal
from xml.etree import ElementTree as ET

from bench.check.compare import Check, Checked
from bench.check.text import SHOWN, details, headline, line, sensitivity
from bench.untrusted.escape import one_line

Level = Literal["error", "warning", "notice"]

MOST_NOTES = 9
"""Annotations per level: GitHub shows ten per step, one of which it uses for the exit code."""

LONGEST_NOTE = 4_000
"""Characters of a message."""

JSON_VERSION = 1
"""Version of the JSON; raised by changes that affect its readers."""

_NUMBERS = re.compile(r"\[\n\s+([0-9]+(?:,\n\s+[0-9]+)*)\n\s+\]")
"""An indented array of integers."""


def to_annotations(check: Check) -> list[str]:
    """Returns GitHub workflow commands: one for the check, one for each changed cell, worst first.

    Regressions are errors, cells that leave the check incomplete are warnings, other changes are
    notices. Format and escapes: docs.github.com, "Workflow commands for GitHub Actions", and
    ``escapeData`` and ``escapeProperty`` in actions/toolkit, packages/core/src/command.ts.
    """
    found: dict[Level, list[Checked]] = {"error": [], "warning": [], "notice": []}
    for cell in check.cells:
        level = _level(cell)
        if level is not None:
            found[level].append(cell)
    whole: Level = "notice" if check.exit_code == 0 else "error"
    lines = [command(whole, f"rbench check {check.suite}", headline(check))]
    for level, cells in found.items():
        # The headline is one annotation of its level.
        room = MOST_NOTES - 1 if level == whole else MOST_NOTES
        lines += _of_level(level, cells, room, check.tested)
    return lines


def _level(cell: Checked) -> Level | None:
    if cell.fails:
        return "error"
    if cell.leaves_open or cell.verdict == "small drop":
        return "warning"
    return None if cell.verdict == "same" else "notice"


def _of_level(level: Level, cells: list[Checked], room: int, tested: int) -> Iterator[str]:
    shown = cells if len(cells) <= room else cells[: room - 1]
    for cell in shown:
        yield command(level, f"{cell.verdict}: {cell.name}", line(cell, tested))
    rest = cells[len(shown) :]
    if rest:
        names = ", ".join(cell.name for cell in rest[:SHOWN])
        more = ", ..." if len(rest) > SHOWN else ""
        yield command(level, f"{len(rest)} more cells", f"{names}{more}")


def command(level: Level, title: str, message: str) -> str:
    """Returns a workflow command.

    Args:
        level: The kind of annotation.
        title: Shown in bold above the message.
        message: Any text; control characters and line breaks are removed.
    """
    title = _escaped(one_line(title)[:200]).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escaped(one_line(message)[:LONGEST_NOTE])}"


def _escaped(text: str) -> str:
    # The percent sign first, as it starts the other escapes.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def to_json(check: Check) -> str:
    """Returns a whole check as JSON: accuracies and differences in [0, 1], images as positions.

    The text is ASCII, so that it survives any terminal or pipe.
    """
    value = {
        "schema_version": JSON_VERSION,
        "exit_code": check.exit_code,
        "headline": headline(check),
        "tested": check.tested,
        **asdict(check),
    }
    text = json.dumps(_plain(value), indent=1, sort_keys=True, allow_nan=False)
    # Strings contain no bare line feed, so only arrays match.
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _plain(value: Any) -> Any:
    """Returns a value as JSON can hold it: tuples as lists, non-finite numbers as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def to_junit(check: Check) -> str:
    """Returns a check as JUnit XML, which GitLab, Jenkins and most other CI systems show as tests.

    There is a test for each cell, by model (class) and attack (name).
    """
    kinds = [_junit_outcome(cell) for cell in check.cells]
    suite = ET.Element(
        "testsuite",
        {
            "name": _xml(f"rbench.check.{check.suite}"),
            "tests": str(len(kinds)),
            "failures": str(kinds.count("failure")),
            "errors": str(kinds.count("error")),
            "skipped": str(kinds.count("skipped")),
        },
    )
    known = {"run": check.run, "baseline": check.baseline, "result": headline(check)}
    known |= {"alpha": f"{check.alpha:g}", "min_drop": f"{check.min_drop:g}"}
    properties = ET.SubElement(suite, "properties")
    for name, value in known.items():
        ET.SubElement(properties, "property", {"name": name, "value": _xml(value)})
    for cell, kind in zip(check.cells, kinds, strict=True):
        _add_test(suite, cell, kind, check.tested)
    notes = [text for text in (sensitivity(check), *check.notes) if text]
    if notes:
        ET.SubElement(suite, "system-out").text = "\n".join(map(_xml, notes))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root, " ")
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _junit_outcome(cell: Checked) -> str:
    """Returns the element for a cell's outcome; empty if it passed.

    A cell that leaves the check incomplete is an error: its test could not be carried out. CI
    systems hide skipped tests among those that passed, but show errors beside the failures, so that
    the reason for a failed job is visible. A cell is skipped if it was not tested and that is
    accepted, as two trainings are on request.
    """
    if cell.fails:
        return "failure"
    if cell.leaves_open:
        return "error"
    return "skipped" if cell.verdict == "not comparable" else ""


def _add_test(suite: ET.Element, cell: Checked, kind: str, tested: int) -> None:
    names = {"classname": _xml(cell.model), "name": _xml(cell.attack)}
    test = ET.SubElement(suite, "testcase", names)
    if not kind:
        ET.SubElement(test, "system-out").text = _xml(line(cell, tested))
        return
    clauses = [_xml(clause) for clause in details(cell, tested)]
    outcome = ET.SubElement(test, kind, {"message": _xml(line(cell, tested))})
    if kind != "skipped":
        outcome.set("type", cell.verdict)
    outcome.text = "\n".join(clauses)


def _xml(text: str) -> str:
    # Removes all that XML 1.0 forbids: control characters, surrogates, U+FFFE and U+FFFF.
    return one_line(text)

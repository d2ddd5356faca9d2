"""A check as JUnit XML, which GitLab, Jenkins and most other CI systems show as tests."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench.check.compare import Check, Checked
from bench.check.say import details, headline, line, sensitivity
from bench.untrusted.escape import one_line


def to_junit(check: Check) -> str:
    """Returns a test suite with a test for each cell, by model (class) and attack (name)."""
    kinds = [_outcome(cell) for cell in check.cells]
    suite = ET.Element(
        "testsuite",
        {
            "name": _text(f"rbench.check.{check.suite}"),
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
        ET.SubElement(properties, "property", {"name": name, "value": _text(value)})
    for cell, kind in zip(check.cells, kinds, strict=True):
        _add(suite, cell, kind, check.tested)
    notes = [text for text in (sensitivity(check), *check.notes) if text]
    if notes:
        ET.SubElement(suite, "system-out").text = "\n".join(map(_text, notes))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root, " ")
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _outcome(cell: Checked) -> str:
    """Returns the element that says how a cell fared; empty for one that passed.

    What leaves the check open is an error: the test could not be carried out. CI systems fold
    skipped tests away among those that passed, and nobody would see why the job failed; an error is
    shown beside the failures. Skipped is what was not tested and is accepted, as two trainings are
    on request.
    """
    if cell.fails:
        return "failure"
    if cell.leaves_open:
        return "error"
    return "skipped" if cell.verdict == "not comparable" else ""


def _add(suite: ET.Element, cell: Checked, kind: str, tested: int) -> None:
    names = {"classname": _text(cell.model), "name": _text(cell.attack)}
    test = ET.SubElement(suite, "testcase", names)
    if not kind:
        ET.SubElement(test, "system-out").text = _text(line(cell, tested))
        return
    clauses = [_text(clause) for clause in details(cell, tested)]
    outcome = ET.SubElement(test, kind, {"message": _text(line(cell, tested))})
    if kind != "skipped":
        outcome.set("type", cell.verdict)
    outcome.text = "\n".join(clauses)


def _text(text: str) -> str:
    # What XML 1.0 forbids is a control character, half of a surrogate pair, or U+FFFE and U+FFFF,
    # all of which this removes.
    return one_line(text)

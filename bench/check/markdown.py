"""A check in GitHub's Markdown, for a comment on a pull request and for the summary of a job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.check.compare import EXIT_FINE, EXIT_REGRESSED, Check, Checked
from bench.check.text import (
    counts,
    explanation,
    flips,
    p_value,
    percent,
    points,
    seen,
    sensitivity,
)
from bench.untrusted import escape

LONGEST = 60_000
"""Characters of the comment; GitHub allows 65,536."""

LONGEST_TEXT = 1_000
"""Characters of a label or a reason."""

_BREAK = "&#8203;"  # a zero-width space
_LIVE = re.compile(
    r"@"  # a mention
    r"|\\#"  # a reference to an issue, which Markdown's escape does not prevent
    r"|:(?=//)"  # an address
    r"|\bgh(?=-\d)"  # a reference
    r"|\bwww(?=\.)"  # an address
    r"|:(?=(\\?[\w+-])+:)",  # an emoji, an underscore of which may be escaped
    re.IGNORECASE,
)


def safe(text: str) -> str:
    """Returns text that GitHub shows verbatim.

    GitHub turns plain text into links, mentions and references even where Markdown is escaped, and
    a mention sends mail. A zero-width space inside prevents that.
    """
    text = escape.one_line(text)
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}..."
    return _LIVE.sub(lambda match: f"{match[0]}{_BREAK}", escape.markdown(text))


def to_markdown(check: Check) -> str:
    """Returns a check as Markdown: a table of changes, unchanged cells folded away, then notes.

    Cells that do not fit in a comment are left out, those without a change first.
    """
    changed = [cell for cell in check.cells if cell.verdict != "same"]
    same = [cell for cell in check.cells if cell.verdict == "same"]
    parts = [
        f"### rbench check {safe(check.suite)}: {safe(counts(check))}",
        f"{_meaning(check)} Run {safe(check.run)} against baseline {safe(check.baseline)}.",
    ]
    ending = [_small_print(check)]
    # Starts with a word: a dash or a number at the start of an item would be Markdown.
    ending += ["\n".join(f"- Note: {safe(note)}" for note in check.notes)] if check.notes else []
    room = LONGEST - sum(len(part) + 2 for part in (*parts, *ending)) - 500
    if changed:
        columns = ("verdict", *COLUMNS, "why")
        rows = [_changed_row(cell) for cell in changed]
        parts.append(_table(columns, rows, room))
        room -= len(parts[-1])
    if same:
        noun = "cell shows" if len(same) == 1 else "cells show"
        columns = (*COLUMNS, "found from (points)", "flips")
        table = _table(columns, [_same_row(cell) for cell in same], room)
        summary = f"<summary>{len(same)} {noun} no change</summary>"
        parts.append(f"<details>{summary}\n\n{table}\n\n</details>")
    return "\n\n".join((*parts, *ending)) + "\n"


COLUMNS = ("model", "attack", "before", "now", "difference (points)", "p")


def _meaning(check: Check) -> str:
    if check.exit_code == EXIT_FINE:
        return "The check passes (exit code 0)."
    if check.exit_code == EXIT_REGRESSED:
        return "**The check fails: a regression (exit code 1).**"
    return f"**The check is incomplete (exit code {check.exit_code}).**"


def _small_print(check: Check) -> str:
    parts = ["Accuracies in percent; differences with 95 % intervals"]
    if check.tested > 1:
        parts.append(f"p after Holm over {check.tested} cells")
    parts.append(
        f"a check without any change fails with a probability of {100 * check.alpha:g} % at most"
    )
    if check.min_drop:
        parts.append(f"drops below {100 * check.min_drop:g} points do not fail it")
    least = sensitivity(check)
    text = "; ".join((*parts, least) if least else parts)
    return f"{safe(text)}."


def _numbers(cell: Checked) -> list[str]:
    return [
        safe(cell.model),
        safe(cell.attack),
        percent(cell.before),
        percent(cell.now),
        points(cell.difference),
        safe(p_value(cell.adjusted)),
    ]


def _changed_row(cell: Checked) -> list[str]:
    verdict = f"**{cell.verdict}**" if cell.fails or cell.leaves_open else cell.verdict
    known = cell.now or cell.before
    why = [f"n = {known.n:,}"] if known else []
    if cell.test and cell.adjusted is not None:
        why.append(cell.test)
    return [verdict, *_numbers(cell), "; ".join(map(safe, (*why, *explanation(cell))))]


def _same_row(cell: Checked) -> list[str]:
    return [*_numbers(cell), seen(cell), safe(flips(cell))]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> str:
    """Returns a table with as many rows as fit, and the number of rows left out."""
    words = ("verdict", "model", "attack", "why", "flips")
    marks = [":--" if column in words else "--:" for column in columns]
    lines = [_row(columns), _row(marks)]
    room -= sum(len(line) + 1 for line in lines)
    for number, row in enumerate(rows):
        room -= len(_row(row)) + 1
        if room < 0:
            left = len(rows) - number
            return "\n".join(lines) + f"\n\nThere was no room for {left} more; see --json."
        lines.append(_row(row))
    return "\n".join(lines)


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"

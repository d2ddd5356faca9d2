"""The texts of a check that all its outputs share; accuracies are in percent here."""

from __future__ import annotations

from functools import partial

from bench.check.compare import Check, Checked
from bench.metrics import Estimate
from bench.untrusted.escape import one_line

SHOWN = 10
"""Flipped images that are listed."""

FINE = 1_000
"""Number of images above which one image is less than a tenth of a point."""


def digits(n: int) -> int:
    """Returns the decimals of a percentage that ``n`` images can resolve."""
    return 1 if n <= FINE else 2


def percent(accuracy: Estimate | None) -> str:
    """Returns an accuracy as ``52.1``; empty without a number."""
    return "" if accuracy is None else f"{100 * accuracy.value:.{digits(accuracy.n)}f}"


def points(difference: Estimate | None) -> str:
    """Returns a difference in points with its interval, as ``-4.9 [-7.0, -2.8]``."""
    if difference is None:
        return ""
    return " ".join(difference.shown(partial(_signed, places=digits(difference.n))))


def _signed(share: float, places: int) -> str:
    value = round(100 * share, places)
    return f"{value:+.{places}f}" if value else f"{0:.{places}f}"


def p_value(p: float | None) -> str:
    """Returns a p-value as ``0.0003``; empty without a test."""
    if p is None:
        return ""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def test_text(cell: Checked, tested: int) -> str:
    """Returns a test as ``p = 0.0003 after Holm over 12 cells (McNemar, exact)``.

    Args:
        cell: The cell.
        tested: The number of tests over which the p-value is corrected.
    """
    text = p_value(cell.adjusted)
    if not text:
        return ""
    sign = "p " if text.startswith("<") else "p = "
    over = f" after Holm over {tested} cells" if tested > 1 else ""
    return f"{sign}{text}{over} ({cell.test})"


def flips(cell: Checked) -> str:
    """Returns flipped images as ``lost: images 17, 25, ... (34 in all); gained: 5 images``.

    Images that flipped in the direction of the accuracy are listed, the others counted.
    """
    fell = cell.difference is None or cell.difference.value <= 0
    lost = ("lost", cell.lost, fell or not cell.gained)
    gained = ("gained", cell.gained, not fell or not cell.lost)
    sides = (lost, gained) if fell else (gained, lost)
    return "; ".join(f"{word}: {_images(found, listed)}" for word, found, listed in sides if found)


def _images(found: tuple[int, ...], listed: bool) -> str:
    noun = "image" if len(found) == 1 else "images"
    if not listed:
        return f"{len(found):,} {noun}"
    text = f"{noun} {', '.join(map(str, found[:SHOWN]))}"
    return text if len(found) <= SHOWN else f"{text}, ... ({len(found):,} in all)"


def seen(cell: Checked) -> str:
    """Returns the smallest detectable drop in points; empty if unknown."""
    if cell.seen is None or cell.now is None:
        return ""
    return f"{100 * cell.seen:.{digits(cell.now.n)}f}"


def numbers(cell: Checked) -> str:
    """Returns both accuracies, their difference and n on one line."""
    known = cell.now or cell.before
    parts = []
    if cell.before is not None and cell.now is not None:
        parts.append(f"{percent(cell.before)} % before, {percent(cell.now)} % now")
    elif cell.before is not None:
        parts.append(f"{percent(cell.before)} % before, no number now")
    elif cell.now is not None:
        parts.append(f"{percent(cell.now)} % now, no number before")
    if cell.difference is not None:
        parts.append(f"{points(cell.difference)} points")
    if known is not None:
        parts.append(f"n = {known.n:,}")
    return ", ".join(parts)


def explanation(cell: Checked) -> list[str]:
    """Returns clauses about a cell beyond its numbers and its test."""
    least = seen(cell) if cell.verdict == "same" else ""
    found = f"a drop of {least} points would have been detected with probability 90 %"
    return [clause for clause in (flips(cell), least and found, *cell.reasons) if clause]


def details(cell: Checked, tested: int) -> list[str]:
    """Returns all clauses about a cell beyond its name and verdict; ``tested`` as above."""
    clauses = (numbers(cell), test_text(cell, tested))
    return [*(clause for clause in clauses if clause), *explanation(cell)]


def line(cell: Checked, tested: int) -> str:
    """Returns everything about a cell on one line, its name first; ``tested`` as above."""
    return one_line(f"{cell.name}: {'; '.join((cell.verdict, *details(cell, tested)))}")


def counts(check: Check) -> str:
    """Returns the verdicts as ``1 of 12 cells regressed, 2 are missing, 9 show no change``."""
    parts = [f"{check.count('regressed')} of {len(check.cells)} cells regressed"]
    if small := check.count("small drop"):
        parts.append(f"{small} fell by less than {100 * check.min_drop:g} points")
    for verdict, one, many in (
        ("missing", "is missing", "are missing"),
        ("not comparable", "is not comparable", "are not comparable"),
        ("improved", "improved", "improved"),
        ("new", "is new", "are new"),
        ("same", "shows no change", "show no change"),
    ):
        n = sum(cell.verdict == verdict for cell in check.cells)
        if n:
            parts.append(f"{n} {one if n == 1 else many}")
    return ", ".join(parts)


def headline(check: Check) -> str:
    """Returns the result as ``1 of 12 cells regressed, 2 are missing: exit code 1``."""
    return f"{counts(check)}: exit code {check.exit_code}"


def sensitivity(check: Check) -> str:
    """Returns the smallest detectable drops of the unchanged cells; empty if unknown."""
    same = [cell for cell in check.cells if cell.verdict == "same"]
    known = sorted(cell.seen for cell in same if cell.seen is not None)
    if not known:
        return ""
    places = max(digits(cell.now.n) for cell in same if cell.now is not None)
    least, most = (f"{100 * drop:.{places}f}" for drop in (known[0], known[-1]))
    drops = f"a drop of {least}" if least == most else f"drops of {least} to {most}"
    unknown = len(same) - len(known)
    cells = f"{unknown} cell{'s' * (unknown > 1)}"
    rest = f"; for {cells} the detectable drop could not be computed" if unknown else ""
    return (
        f"cells without a significant change: {drops} points would have been detected with "
        f"probability 90 %{rest}"
    )

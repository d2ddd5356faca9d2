"""What the documentation holds: pages, fenced blocks, commands, excerpts and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
NOTEBOOKS = tuple(sorted((ROOT / "docs").rglob("*.ipynb")))

RUNS, SLOWLY = "# runs", "# runs slowly"
"""The first line of a block that is run by the tests; the second by those marked slow."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```$", re.S | re.M)
_EXCERPT = re.compile(r"^<!-- excerpt of (?P<path>\S+) -->\n(?P<text>.*?)(?:\n\n|\Z)", re.S | re.M)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line that it begins in, its language and its code."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is marked to be run."""
        return self.code.startswith((f"{RUNS}\n", f"{SLOWLY}\n"))

    @property
    def slow(self) -> bool:
        """Whether that takes more than a few seconds."""
        return self.code.startswith(f"{SLOWLY}\n")


def blocks(page: Path) -> list[Block]:
    """Returns the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: m.start()].count("\n") + 1, m["language"], m["code"])
        for m in _FENCE.finditer(text)
    ]


def excerpts(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields the file that each excerpt is of, and its lines."""
    for match in _EXCERPT.finditer(page.read_text(encoding="utf-8")):
        yield match["path"], match["text"].splitlines()


def links(page: Path) -> list[str]:
    """Returns the targets of links and pictures outside fenced blocks."""
    return [m["target"] for m in _LINK.finditer(_FENCE.sub("", page.read_text(encoding="utf-8")))]


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub and MkDocs make them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s+", "-", text.strip()) for text in words}

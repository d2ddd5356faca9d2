"""What MkDocs does not do by itself: notebooks as pages, and files from outside ``docs``.

Pages link to each other as they lie in the repository, so that the links work there. Here those
that leave ``docs`` are led to a copy in the site (reports, the changelog), or become plain text
(code).
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "checkpoints/README.md")
"""Pages of the site that lie elsewhere, besides the reports."""

REPORT_ENDINGS = (".md", ".png", ".svg", ".html", ".csv")

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~)", re.MULTILINE)
_ELSEWHERE = ("http:", "https:", "mailto:", "#")


def on_files(files: Files, config: Any) -> Files:
    """Adds the notebooks as pages, and the pages and pictures from outside ``docs``."""
    for notebook in sorted((ROOT / "docs").rglob("*.ipynb")):
        uri = notebook.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        text = notebook_page(json.loads(notebook.read_text(encoding="utf-8")), notebook.name)
        files.append(File.generated(config, uri, content=text))
    for path in outside():
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def outside() -> Iterator[Path]:
    """Yields the files outside ``docs`` that are part of the site."""
    for name in OUTSIDE:
        yield ROOT / name
    for path in sorted((ROOT / "reports").rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.suffix in REPORT_ENDINGS and "store" not in parts:
            yield path


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leads links to where their targets lie in the site."""
    uri = page.file.src_uri
    here = f"docs/{uri}" if (ROOT / "docs" / uri).exists() else uri
    here = f"docs/{uri}" if uri.startswith("tutorials/") else here
    known = {file.src_uri for file in files}

    def lead(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if target.startswith(_ELSEWHERE):
            return match.group()
        path, hash_, anchor = target.partition("#")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        own = site_uri(there)
        if own in known:
            way = posixpath.relpath(own, posixpath.dirname(uri) or ".")
            keep = "" if there == "README.md" else hash_ + anchor
            return f"{picture}[{text}]({way}{keep})"
        return text if (ROOT / there).exists() else match.group()

    parts = _FENCE.split(markdown)
    # Split at fences: text, fence, code, fence, text, ...; code stays as it is.
    return "".join(_LINK.sub(lead, part) if i % 4 == 0 else part for i, part in enumerate(parts))


def site_uri(path: str) -> str:
    """Returns where a file of the repository lies in the site, if it is part of it."""
    if path == "README.md":
        return "index.md"
    if path.endswith(".ipynb"):
        path = path.removesuffix(".ipynb") + ".md"
    return path.removeprefix("docs/")


def notebook_page(notebook: dict[str, Any], name: str) -> str:
    """Returns a notebook as Markdown: its text, its code, and what the code printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```")
            parts += filter(None, map(_output, cell["outputs"]))
    parts.insert(1, f"This page is a notebook: [{name}]({name}){{ download }}")
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    """Returns what a cell printed, or an empty string for what is shown nowhere."""
    if output["output_type"] == "stream":
        return "" if output["name"] == "stderr" else _as_text("".join(output["text"]))
    data = output.get("data", {})
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    if "image/png" in data:
        return f"![](data:image/png;base64,{''.join(data['image/png']).strip()})"
    return _as_text("".join(data.get("text/plain", "")))


def _as_text(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""

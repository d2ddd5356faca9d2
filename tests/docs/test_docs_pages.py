"""The documentation says what is: its code runs, its commands exist, its excerpts are true."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest
import typer
import yaml
from doc_blocks import NOTEBOOKS, PAGES, ROOT, Block, anchors, blocks, excerpts, links

from bench.alarms.shared import Code
from bench.cli.app import app
from bench.cli.listing import LISTINGS
from bench.selftest import CASES
from bench.suite.grid import write_out
from bench.suite.spec import SuiteSpec

TO_RUN = [
    pytest.param(block, marks=[pytest.mark.slow] * block.slow, id=str(block))
    for page in PAGES
    for block in blocks(page)
    if block.runs
]


def commands() -> dict[str, click.Command]:
    """Returns every command with its words: ``zoo import``."""
    found: dict[str, click.Command] = {}

    def walk(group: click.Command, prefix: str) -> None:
        for name, command in getattr(group, "commands", {}).items():
            found[prefix + name] = command
            walk(command, f"{prefix}{name} ")

    walk(typer.main.get_command(app), "")
    return found


def code_of(page: Path) -> list[str]:
    """Returns everything on a page that is code: fenced blocks line by line, and inline code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    fenced = [
        line
        for _, code in re.findall(r"```(\w*)\n(.*?)```", text, re.S)
        for line in code.splitlines()
    ]
    rest = re.sub(r"```.*?```", "", text, flags=re.S)
    return fenced + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", rest)]


def command_lines(page: Path) -> list[list[str]]:
    """Returns the words of each ``rbench ...`` on a page, comments left out."""
    found = []
    for code in code_of(page):
        for part in re.split(r"&&|\|(?!\w)|;", code.partition(" #")[0]):
            match = re.search(r"(?:^|[\s'\"])rbench (?!import )((?:\S+ ?)+)", part.strip())
            if match:
                found.append(match[1].strip("'\" ").split())
    return found


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda p: p.name)
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    known = commands()
    for words in command_lines(page):
        if words[0].startswith("--"):
            continue
        name = words[0] if words[0] in known else ""
        if len(words) > 1 and f"{words[0]} {words[1]}" in known:
            name = f"{words[0]} {words[1]}"
        assert name, f"{page.name} names 'rbench {' '.join(words)}'"
        options = {o for p in known[name].params for o in (*p.opts, *p.secondary_opts)}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options | {"--help"}, f"{page.name}: rbench {' '.join(words)}"


def test_the_start_page_names_everything_that_can_be_listed() -> None:
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    found = re.search(r"^rbench list (\w+) +# or (.*(?:\n +# .*)*)", text, re.M)
    assert found
    assert {found[1], *re.findall(r"\w+", found[2])} == set(LISTINGS)


def test_what_make_is_asked_for_is_a_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.M))
    for page in PAGES:
        for code in code_of(page):
            for target in re.findall(r"^make ([a-z-]+)", code):
                assert target in targets, f"{page.name}: make {target}"


@pytest.mark.process
@pytest.mark.parametrize("block", TO_RUN)
def test_blocks_that_are_marked_run(block: Block, tmp_path: Path) -> None:
    _stage(block.page, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": _path_with_rbench(tmp_path)}
    if block.language == "python":
        command = [sys.executable, "-c", block.code]
    else:
        assert block.language in ("sh", "bash"), f"{block}: cannot run '{block.language}'"
        command = ["bash", "-euo", "pipefail", "-c", block.code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{block}:\n{done.stdout}\n{done.stderr}"


def _stage(page: Path, folder: Path) -> None:
    """Writes the suites that a page shows beside its commands, as ``NAME.yaml``."""
    for block in blocks(page):
        if block.language == "yaml" and block.code.startswith("suite: "):
            name = block.code.split()[1]
            (folder / f"{name}.yaml").write_text(block.code, encoding="utf-8")


def _path_with_rbench(folder: Path) -> str:
    """Returns a search path on which ``rbench`` is that of this checkout."""
    place = folder / ".bin"
    place.mkdir()
    script = place / "rbench"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bench "$@"\n')
    script.chmod(0o755)
    return os.pathsep.join((str(place), os.environ.get("PATH", "")))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_suites_on_pages_are_suites(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and block.code.startswith("suite: "):
            grid = write_out(yaml.safe_load(block.code))
            assert not grid.problems
            SuiteSpec.model_validate(grid.value)


def test_excerpts_are_lines_of_committed_reports() -> None:
    found = [one for page in PAGES for one in excerpts(page)]
    assert found
    for path, lines in found:
        text = (ROOT / path).read_text(encoding="utf-8").splitlines()
        places = [text.index(line) for line in lines]
        assert len(lines) > 1 and places == sorted(places), path


def test_the_planted_cases_of_the_traps_exist_and_none_is_missing() -> None:
    text = (ROOT / "docs" / "traps.md").read_text(encoding="utf-8")
    eighteen = text.partition("## Mistakes in the harness itself")[0]
    sections = re.split(r"^### (\d+)\. ", eighteen, flags=re.M)
    named: dict[int, set[str]] = {}
    for number, section in zip(sections[1::2], sections[2::2], strict=True):
        planted = section.partition("**Planted:**")[2].split("\n\n")[0]
        named[int(number)] = set(re.findall(r"`([^`]+)`", planted))
    assert sorted(named) == list(range(1, 19))
    traps = {case.id: case.trap for case in CASES}
    for number, cases in named.items():
        assert cases, f"trap {number} names no case"
        assert all(traps[case] in (number, 19) for case in cases), f"trap {number}: {cases}"
    listed = set(re.findall(r"`([^`]+)`", text))
    assert set(traps) <= listed


def test_every_alarm_is_explained() -> None:
    text = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert sorted(listed) == sorted(get_args(Code))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name} links to {target}"


def test_pages_of_the_site_are_listed_in_its_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (*PAGES, *NOTEBOOKS):
        if page.is_relative_to(ROOT / "docs"):
            name = page.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
            assert re.search(rf"[ :]{re.escape(name)}$", text, re.M), f"{name} is not in mkdocs.yml"


@pytest.mark.slow
def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs docs/requirements.txt; make docs builds too")
    pytest.importorskip("mkdocstrings", reason="needs docs/requirements.txt")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    fetched = r'<(?:script|img|link|iframe)[^>]*(?:src|href)="?(?:https?:)?//[^>]*>'
    for page in site.rglob("*.html"):
        if "reports" not in page.relative_to(site).parts:
            loads = re.findall(fetched, page.read_text(encoding="utf-8"))
            assert not [tag for tag in loads if 'rel="canonical"' not in tag], page
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8")
    assert "evaluate" in (site / "reference.html").read_text(encoding="utf-8")
    shutil.rmtree(site)

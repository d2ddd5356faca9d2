"""Hostile words come out as words: checked with a Markdown parser, pdflatex and a CSV reader."""

from __future__ import annotations

import csv
import shutil
import string
import subprocess
from pathlib import Path

import pytest
import report_runs
from markdown_it import MarkdownIt
from markdown_it.token import Token

from bench.report import write_reports
from bench.report.render import to_latex, to_markdown
from bench.report.table import Cell, Column, Report, Section, Table, TableRow
from bench.untrusted import escape

HOSTILE = [
    r"<script>alert(1)</script>",
    r"\input{/etc/passwd} \write18{ls}",
    "a | b || c",
    "%_&#${}~^\\",
    "[a](javascript:b) ![c](d) [e]: f [g][h]",
    "**b** _i_ __u__ `c` ~~s~~ # h",
    "&lt; &amp;",
    string.punctuation,
]


def report_of(text: str) -> Report:
    row = TableRow((text,), (Cell((text,), ("a",)),))
    table = Table("", ("model",), (Column(text),), (row,))
    return Report(text, (f"A {text}",), (table,), (("a", text),), (Section(text, ((text, text),)),))


def inline_texts(markdown: str) -> tuple[list[str], list[Token]]:
    """Parses Markdown; returns each inline element's text and all tokens."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    blocks = parser.parse(markdown)
    children = [block.children or [] for block in blocks if block.type == "inline"]
    texts = ["".join(t.content for t in line if t.type != "html_inline") for line in children]
    return texts, blocks + [token for line in children for token in line]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_what_was_written(text: str) -> None:
    texts, tokens = inline_texts(to_markdown(report_of(text)))
    wanted = [text, f"A {text}", "model", text, text, f"{text}a", f"a {text}", text]
    assert texts == [*wanted, f"{text}: {text}"]
    tags = {token.content for token in tokens if token.type in ("html_inline", "html_block")}
    assert tags == {"<sup>", "</sup>"}
    assert not {"link_open", "image", "code_inline", "em_open", "s_open"} & {t.type for t in tokens}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_picture_is_described_in_any_words(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    (block,) = parser.parseInline(f"![{escape.markdown_alt(text)}](a.png)")
    (image,) = block.children or []
    assert (image.type, image.attrs["src"]) == ("image", "a.png")
    assert "".join(token.content for token in image.children or []) == text


def test_no_format_lets_line_breaks_or_terminal_codes_through() -> None:
    assert escape.one_line("a\n\n| b\x1b[31m\r\u202ec\x00 ") == "a | b[31m c"
    assert escape.latex("a\n\nb") == "a b"


def test_csv_gives_labels_back(leaderboard_run: Path) -> None:
    path = write_reports(leaderboard_run)[2]
    with path.open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    labels = {line["model"] for line in lines}
    assert report_runs.HOSTILE in labels
    assert len(lines) == 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("50 % & #1_a", r"50 \% \& \#1\_a"),
        ("[2pt]", "{[}2pt{]}"),
        ("é ε 漢", r"\'{e} $\varepsilon$ ?"),
        ("Müller, Łoś, naïve", r"M\"{u}ller, \L{}o\'{s}, na\"{\i}ve"),
        ("Ω Ά µ", r"$\Omega$ $\acute{\mathrm{A}}$ $\mu$"),
        ("\N{SCRIPT SMALL L}∞, \N{SCRIPT SMALL L}2", r"$\ell_{\infty}$, $\ell_{2}$"),
    ],
)
def test_latex_has_no_command_but_ours(text: str, expected: str) -> None:
    assert escape.latex(text) == expected


@pytest.mark.slow
def test_latex_compiles_with_two_packages_alone(
    tmp_path: Path, leaderboard_run: Path, request: pytest.FixtureRequest
) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    texts = {path.stem: path.read_text() for path in write_reports(leaderboard_run)[1:2]}
    path = write_reports(request.getfixturevalue("stats_run"))[1]
    texts[path.stem] = path.read_text()
    for number, text in enumerate([*HOSTILE, string.printable, "ä ß ø ∞ ≤ 漢字 🙂 — † “x”"]):
        texts[f"hostile{number}"] = to_latex(report_of(text))
    for name, text in texts.items():
        (tmp_path / f"{name}.tex").write_text(text)
    inputs = "\n".join(rf"\input{{{name}}}\clearpage" for name in texts)
    document = (
        rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}{inputs}"
    )
    (tmp_path / "all.tex").write_text(document + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000

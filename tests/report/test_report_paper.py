"""Tables for a paper: alone, within their column, the best in bold, groups of rows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_every_kind import KINDS, report_of
from report_kind_runs import BN, IN, built
from report_runs import make_rows

from bench.cli.app import app
from bench.core.errors import UserError
from bench.report.paper_latex import paper_tables
from bench.report.paper_table import PaperStyle
from bench.report.run_view import RunView
from bench.report.write_paper import paper_style, row_groups, write_paper_tables

N = 200
GREEK = "\N{GREEK SMALL LETTER ALPHA} β \N{GREEK SMALL LETTER GAMMA}"
NAMES = (
    f"Müller et al., Łukasz, Erdős, naïve, Ångström; {GREEK} Δ Ω ω, λ = 2, Ά; ß ø æ œ ç; ∞ ≤ ² ₂"
)
Shown = list[list[str]]


def scores(right: int) -> list[float]:
    """200 scores, the first of them right."""
    return [1.0] * right + [0.0] * (N - right)


def body(text: str) -> Shown:
    """The cells of the rows of a table, without padding."""
    found = re.search(r"\\midrule\n(.*)\\bottomrule", text, re.S)
    assert found
    plain = re.sub(r"\\phantom\{0+\}", "", found[1])
    lines = [line.split(r"\\")[0] for line in plain.splitlines()]
    return [[cell.strip() for cell in line.split(" & ")] for line in lines]


def bold(rows: Shown, column: int) -> list[str]:
    """The labels of the rows whose number is bold in a column."""
    return [row[0] for row in rows if len(row) > column and row[column].startswith(r"\textbf{")]


@pytest.fixture
def paper_run(tmp_path: Path) -> Path:
    """Five models: PGD breaks the first two about alike, autoattack is in doubt on the best."""
    attacks = [{"attack": name, "label": name} for name in ("clean", "pgd", "autoattack")]
    models: list[Any] = [
        {"checkpoint": f"{BN}-at", "label": "bn-at"},
        {"checkpoint": f"{IN}-at", "label": "in-at"},
        {"checkpoint": BN, "label": "bn"},
        {"checkpoint": "fmnist-resnet20-gn-at", "label": "gn-at"},
        {"checkpoint": IN, "label": "in"},
    ]
    run = built(tmp_path, "leaderboard", models, attacks)
    for i, right in enumerate((120, 119, 30, 60, 20)):
        run.add(i, 0, make_rows(scores(180)))
        run.add(i, 1, make_rows(scores(right)))
        alarms = ("no_gradient",) if i == 3 else ()
        run.add(i, 2, make_rows(scores(right - 10 if i != 3 else 190)), alarms=alarms)
    return run.finish()


def only(folder: Path, **options: Any) -> str:
    (path,) = write_paper_tables(RunView(folder), (), **options)
    assert path.name == "leaderboard-paper.tex"
    return (folder / path.name).read_text()


def test_a_file_is_one_table_and_nothing_else(paper_run: Path) -> None:
    text = only(paper_run)
    outside = re.sub(r"\\begin\{table\}.*\\end\{table\}", "", text, flags=re.S)
    assert [line for line in outside.splitlines() if not line.startswith("%")] == [""]
    assert text.count(r"\label{tab:small-leaderboard}") == 1
    assert "n=200" in text and r"$\ell_{\infty}$, $\varepsilon$=0.1" in text
    assert not re.search("How to read|sha256|checkpoint|torch|version", text)
    assert body(text)[2] == ["bn", "90.0", "15.0", "10.0", "10.0", "4"]


def test_the_best_is_bold_with_what_is_not_shown_to_be_worse(paper_run: Path) -> None:
    """119 of 120 is no difference; a number under an alarm takes no part; all alike is no best."""
    rows = body(only(paper_run))
    assert bold(rows, 1) == []
    assert bold(rows, 2) == bold(rows, 3) == ["bn-at", "in-at"]
    assert rows[3][3].startswith("95.0")


def test_each_checkpoint_of_a_stats_table_has_its_best(tmp_path: Path) -> None:
    models = [
        {"checkpoint": name, "stats": stats, "label": f"{name} {stats}"}
        for name in (BN, f"{BN}-at")
        for stats in ("population", "batch")
    ]
    run = built(tmp_path, "stats_table", models, [{"attack": "pgd", "label": "pgd"}])
    for i, right in enumerate((20, 60, 150, 149)):
        run.add(i, 0, make_rows(scores(right)))
    folder = run.finish()
    (path,) = write_paper_tables(RunView(folder))
    rows = [row for row in body((folder / path.name).read_text()) if len(row) == 3]
    assert [row[1] for row in rows if "textbf" in row[2]] == ["B"]
    marked = [r"textsuperscript{*}" in row[2] for row in rows if row[1] == "B - P"]
    assert marked == [True, False]


def test_intervals_are_shown_only_when_asked_for(paper_run: Path) -> None:
    assert "tiny" not in only(paper_run)
    text = only(paper_run, style=PaperStyle(intervals=True))
    below = body(text)[1]
    assert below[0] == "" and re.fullmatch(r"\{\\tiny \{\[\}\d.*\d\{\]\}\}", below[1])
    assert r"95\% confidence intervals" in text


def test_rows_are_grouped_by_facts_or_labels(paper_run: Path) -> None:
    rows = body(only(paper_run, groups=["training"]))
    labels = [re.sub(r".*emph\{(.*)\}\}", r"\1", row[0]) for row in rows]
    adversarial = ["Adversarial training", "bn-at", "in-at", "gn-at"]
    assert labels == [*adversarial, r"\midrule", "Natural training", "bn", "in"]
    own = [row[0] for row in body(only(paper_run, groups=["Ours=gn*"]))]
    assert own[:4] == ["bn-at", "in-at", "bn", "in"]
    assert own[4] == r"\midrule" and "Ours" in own[5] and own[6] == "gn-at"


def test_unknown_groups_name_what_there_is(paper_run: Path) -> None:
    view = RunView(paper_run)
    with pytest.raises(UserError, match=r"'trainig'; did you mean 'training'"):
        row_groups(view, ["trainig"])
    with pytest.raises(UserError, match=r"no model is labelled 'x\*'; this run has 'bn-at'"):
        row_groups(view, ["A=x*"])
    with pytest.raises(UserError, match="unknown width 'colum'; did you mean 'column'"):
        paper_style("colum", intervals=False, floats=True)


def test_what_differs_from_the_common_n_is_noted(tmp_path: Path) -> None:
    attacks = [{"attack": "clean", "label": "clean"}, {"attack": "pgd", "label": "pgd", "limit": 8}]
    run = built(tmp_path, "leaderboard", [BN, IN], attacks)
    for i in range(2):
        run.add(i, 0, make_rows(scores(150 + i)))
        run.add(i, 1, make_rows([1, 0] * 4))
    text = only(run.finish())
    assert "n=200 unless noted" in text
    assert r"pgd\textsuperscript{a}" in text and r"\textsuperscript{a}\,n=8" in text


def test_the_width_and_the_float_are_the_users(paper_run: Path) -> None:
    for width, environment in (("column", "table"), ("text", "table*")):
        style = paper_style(width, intervals=False, floats=True)
        assert rf"\begin{{{environment}}}[tbp]" in only(paper_run, style=style)
    bare = only(paper_run, style=PaperStyle(floats=False))
    assert not re.search(r"\\(caption|label|begin\{table)", bare) and r"\toprule" in bare


def test_options_of_the_other_style_are_refused(
    paper_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(paper_run)
    for arguments, words in (
        (["--intervals"], "add --style paper"),
        (["--style", "papr"], "did you mean 'paper'"),
        (["--style", "paper", "--format", "md"], "leave --format out"),
    ):
        with pytest.raises(UserError, match=words):
            app(["report", run, *arguments], standalone_mode=False)
    app(["report", run, "--style", "paper", "--group", "norm"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines() == [f"{run}/leaderboard-paper.tex"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_tables_of_every_kind_stay_within_their_columns(tmp_path: Path, columns: str) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    names = []
    for kind in KINDS:
        report = report_of(kind, tmp_path / kind)
        for width in ("auto", "column", "text"):
            style = paper_style(width, intervals=width != "auto", floats=width != "text")
            for i, text in enumerate(paper_tables(report, f"{kind}-{width}", style, NAMES)):
                names.append(f"{kind}-{width}-{i}")
                (tmp_path / f"{names[-1]}.tex").write_text(text)
    assert len(names) > 3 * 10
    log = compiled(tmp_path, columns, names)
    assert not re.search(r"Overfull|undefined|multiply defined", log), log


def compiled(folder: Path, columns: str, names: list[str]) -> str:
    """Compiles an article of some tables between paragraphs; returns its log."""
    text = "Random words that fill a paragraph of the paper. " * 12
    inputs = "\n".join(rf"{text}\par\input{{{name}}}\clearpage" for name in names)
    preamble = rf"\documentclass[{columns}]{{article}}\usepackage{{booktabs,graphicx}}"
    (folder / "paper.tex").write_text(rf"{preamble}\begin{{document}}{inputs}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    return (folder / "paper.log").read_text(errors="replace")

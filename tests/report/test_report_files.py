"""What `rbench report` writes: figures beside the tables, some kinds, some formats, no torch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from report_every_kind import KINDS, report_of
from report_figures import FIGURES, HEATMAP, whole_run
from report_kind_runs import eps_run
from report_runs import ATTACKS, HOSTILE, RunBuilder, make_rows, suite_of

from bench.core.errors import UserError
from bench.report import write_reports
from bench.report.draw import draw
from bench.report.figure import Figure
from bench.report.kinds import BUILDERS
from bench.report.render import figure_stems, to_latex, to_markdown
from bench.report.run_view import RunView
from bench.report.table import Report
from bench.report.write import FORMATS
from bench.suite.entry import ReportEntry

MODEL = {"checkpoint": "fmnist-resnet20-bn", "label": "bn"}
Build = Callable[[dict[str, Any]], RunBuilder]


@pytest.fixture
def drawn_run(builder: Build, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run whose leaderboard has two figures."""
    original = BUILDERS.get("leaderboard")

    def build(view: RunView, entry: ReportEntry) -> Report:
        figures = (Figure("", "All.", (HEATMAP,)), Figure("Of Some!", HOSTILE, (HEATMAP,)))
        return replace(original(view, entry), figures=figures)

    monkeypatch.setitem(BUILDERS._entries, "leaderboard", build)
    run = builder(suite_of(["leaderboard"], [MODEL], ATTACKS[:2]))
    for j in range(2):
        run.add(0, j, make_rows([1, 0] * 8))
    yield run.finish()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


@pytest.mark.process
def test_figures_are_written_beside_the_tables_and_shown_in_them(drawn_run: Path) -> None:
    written = write_reports(drawn_run)
    stems = ("leaderboard", "leaderboard-of-some")
    pictures = {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg", "pdf")}
    texts = {f"leaderboard.{ending}" for ending in ("md", "tex", "csv")}
    assert names_in(drawn_run) == pictures | texts | {"report.html"}
    assert {path.name for path in written} == names_in(drawn_run)
    parser = MarkdownIt("commonmark")
    blocks = parser.parse((drawn_run / "leaderboard.md").read_text())
    images = [t for b in blocks for t in b.children or [] if t.type == "image"]
    assert [image.attrs["src"] for image in images] == [f"{stem}.png" for stem in stems]
    alts = ["".join(token.content for token in image.children or []) for image in images]
    assert all(HOSTILE in alt and "heatmap of robust accuracy (%), 4 by 4" in alt for alt in alts)
    latex = (drawn_run / "leaderboard.tex").read_text()
    assert re.findall(r"includegraphics\{(.*?)\}", latex) == [f"{stem}.pdf" for stem in stems]
    labels = [*(f"fig:{stem}" for stem in stems), "tab:leaderboard"]
    assert re.findall(r"label\{(.*?)\}", latex) == labels


@pytest.mark.process
def test_the_same_store_gives_the_same_pictures(drawn_run: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_reports(drawn_run)}
    assert {path.name: path.read_bytes() for path in write_reports(drawn_run)} == first


@pytest.mark.process
def test_only_what_is_asked_for_is_written(drawn_run: Path) -> None:
    write_reports(drawn_run, formats=("csv", "svg"))
    endings = {name.rpartition(".")[2] for name in names_in(drawn_run)}
    assert endings == {"csv", "svg"}


@pytest.mark.process
def test_a_kind_that_the_suite_does_not_list_can_be_had(builder: Build) -> None:
    models = [{**MODEL, "stats": s, "label": s} for s in ("population", "batch")]
    run = builder(suite_of(["leaderboard"], models, ATTACKS[:2]))
    for i in range(2):
        for j in range(2):
            run.add(i, j, make_rows([1, 0] * 8))
    folder = run.finish()
    written = write_reports(folder, ["stats_table"], ("md", "html"))
    assert [path.name for path in written] == ["stats_table.md", "report.html"]
    page = (folder / "report.html").read_text()
    assert 'id="leaderboard"' in page and 'id="stats_table"' in page


@pytest.mark.parametrize(
    ("kinds", "formats", "message"),
    [
        (["leaderbord"], FORMATS, r"unknown report 'leaderbord'; did you mean 'leaderboard'"),
        ([], ("md", "htm"), r"unknown format 'htm'; did you mean 'html'"),
        (["agreement"], FORMATS, r"'agreement' is not in this run's suite.* needs pairs"),
    ],
)
def test_what_cannot_be_written_is_refused(
    drawn_run: Path, kinds: list[str], formats: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_reports(drawn_run, kinds, formats)
    assert not names_in(drawn_run)


def test_reports_without_figures_say_nothing_of_them(leaderboard_run: Path) -> None:
    _, (pair, *_) = whole_run(leaderboard_run.parent / "other")
    report = replace(pair[1], figures=())
    assert "![" not in to_markdown(report, "leaderboard")
    assert "includegraphics" not in to_latex(report, "leaderboard")


def test_figures_of_one_name_get_files_of_their_own(tmp_path: Path) -> None:
    _, ((_, report), *_) = whole_run(tmp_path)
    twins = tuple(Figure(name, "", ()) for name in ("a b", "A-B", "a/b", ""))
    stems = figure_stems("eps_curve", replace(report, figures=twins))
    assert stems == ["eps_curve-a-b", "eps_curve-a-b-2", "eps_curve-a-b-3", "eps_curve"]


SCRIPT = """
import sys
from pathlib import Path
from bench.cli.app import app
try:
    app(["report", sys.argv[1]])
except SystemExit as end:
    assert not end.code
loaded = {"torch", "torchvision", "torchattacks", "pyautoattack", "matplotlib.pyplot"}
print("LOADED", sorted(loaded & set(sys.modules)))
"""


@pytest.mark.process
def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    run = eps_run(tmp_path).finish()
    command = [sys.executable, "-c", SCRIPT, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert names_in(run) == {f"eps_curve.{e}" for e in FORMATS if e != "html"} | {"report.html"}


@pytest.mark.slow
def test_latex_of_every_kind_and_every_figure_compiles(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    texts = {kind: to_latex(report_of(kind, tmp_path / kind), kind) for kind in KINDS}
    _, ((_, report), *_) = whole_run(tmp_path)
    texts["figures"] = to_latex(replace(report, figures=FIGURES), "figures")
    drawn = [draw(figure, ["pdf"])["pdf"] for figure in FIGURES]
    for text in texts.values():
        for i, name in enumerate(re.findall(r"includegraphics\{(.*?)\}", text)):
            (tmp_path / name).write_bytes(drawn[i % len(drawn)])
    for name, text in texts.items():
        (tmp_path / f"{name}.tex").write_text(text)
    for name, text in texts.items():  # the lists below tables hold words that no line can break
        floats, _, _ = text.partition("{\\footnotesize\\setlength")
        (tmp_path / f"floats-{name}.tex").write_text(floats)
    compile_latex(tmp_path, "all", "", texts)
    for columns in ("onecolumn", "twocolumn"):
        log = compile_latex(tmp_path, columns, columns, [f"floats-{name}" for name in texts])
        assert "too wide" not in log and "multiply defined" not in log


def compile_latex(folder: Path, name: str, options: str, inputs: Iterable[str]) -> str:
    """Compiles a document of some files; returns its log."""
    included = "\n".join(rf"\input{{{one}}}\clearpage" for one in inputs)
    preamble = rf"\documentclass[{options}]{{article}}\usepackage{{booktabs,graphicx}}"
    document = rf"{preamble}\begin{{document}}{included}\end{{document}}"
    (folder / f"{name}.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (folder / f"{name}.pdf").stat().st_size > 50_000
    return (folder / f"{name}.log").read_text(errors="replace")

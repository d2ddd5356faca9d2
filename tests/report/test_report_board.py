"""The leaderboard on the page: worst case first, the best marked, a chart, and wide tables."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_browser import Browser
from report_html import Page
from report_runs import ATTACKS, RunBuilder, make_rows, suite_of

from bench.metrics import wilson
from bench.report import to_markdown
from bench.report.page.html import to_html
from bench.report.run_view import RunView
from bench.report.write import build_from

pytestmark = pytest.mark.process

SCORES = {"bn": 8, "bn, adversarially trained": 15, "gn": 14, "in": 16, "rna": 4}
"""Images right under pgd20, of 16. ``in`` is under an alarm, ``rna`` has no autoattack."""


def board(folder: Path) -> RunView:
    """Five models, of which two tie for the best."""
    models: list[dict[str, Any]] = [
        {"checkpoint": "fmnist-resnet20-bn", "label": name} for name in SCORES
    ]
    models[-1]["attacks"] = ["natural", "pgd20", "deepfool"]
    wide = [{"attack": "pgd", "label": f"pgd{n}", "params": {"n_iter": n}} for n in range(30, 40)]
    run = RunBuilder(folder, suite_of(["leaderboard"], models, [*ATTACKS, *wide]))
    for i, (name, right) in enumerate(SCORES.items()):
        run.add(i, 0, make_rows([1] * 16))
        for j in (1, 2) if name == "rna" else range(1, 14):
            alarms = ("higher_than_clean: doubt",) if name == "in" and j == 1 else ()
            run.add(i, j, make_rows([1] * right + [0] * (16 - right)), alarms=alarms)
    return RunView(run.finish())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    view = board(tmp_path_factory.mktemp("board"))
    return to_html(view, build_from(view))


def rows_of(text: str, part: str) -> list[str]:
    return re.findall(rf"<{part}\b.*?</{part}>", text[text.index('id="leaderboard"') :], re.S)


def test_worst_case_and_rank_stand_beside_the_name_on_the_page_alone(tmp_path: Path) -> None:
    view = board(tmp_path)
    ((_, report),) = reports = build_from(view)
    heads = re.findall(r'<th scope="col".*?<span>(.*?)</span>', to_html(view, reports))
    assert heads[:4] == ["model", "worst case", "rank", "natural"]
    (line,) = [one for one in to_markdown(report).splitlines() if one.startswith("| model")][:1]
    assert line.split("|")[-3].strip() == "worst case", "files keep their order"


def test_the_best_is_marked_with_what_does_not_differ_from_it(text: str) -> None:
    best = [row for row in rows_of(text, "tr") if 'class="star"' in row]
    names = [re.findall(r"<span>(.*?)</span>", row)[0] for row in best]
    # 15 and 14 of 16 are not told apart; all of "in" are right, but under an alarm.
    assert names == ["bn, adversarially trained", "gn"]
    assert all('class="best"' in row for row in best)
    shown = " ".join(text for _, text in Page(text).texts)
    assert "best worst case under white_box, or not significantly different from it" in shown
    assert (
        "Of the 3 models with a worst case over all attacks under white_box and without an alarm, "
        "the best ones, without a significant difference, are “bn, adversarially trained” "
        "(93.8 %), “gn” (87.5 %)."
    ) in shown


def test_the_chart_has_the_numbers_of_the_table(text: str) -> None:
    lines = [line for line in rows_of(text, "li") if 'class="name"' in line]
    names = [Page(line).texts for line in lines]
    shown = [next(t for tag, t in texts if tag == "span" and t.strip("★\n ")) for texts in names]
    assert [name.strip() for name in shown] == sorted(SCORES, key=lambda name: -SCORES[name])
    for name, line in zip(shown, lines, strict=True):
        right = SCORES[name.strip()]
        low, high = wilson(right, 16)
        found = dict(re.findall(r"--(\w+): ([\d.]+)%", line))
        expected = {"robust": right / 16, "clean": 1.0, "low": low, "high": high}
        assert {k: float(v) for k, v in found.items()} == pytest.approx(
            {k: 100 * v for k, v in expected.items()}, abs=0.005
        )
        assert f"{100 * right / 16:.1f}" in line
    marks = [re.search(r'class="(track[^"]*)"', line) for line in lines]
    assert [m and m[1].split() for m in marks] == [
        ["track", "alarm"], ["track"], ["track"], ["track"], ["track", "partial"],
    ]  # fmt: skip


def test_what_nobody_asked_for_is_no_warning_and_nothing_is_said_above_the_numbers(
    text: str,
) -> None:
    assert 'class="box open"' not in text
    assert "Not asked for: 11 combinations of a model and an attack" in text
    assert text.index("Versions: ") > text.index('id="cells"')


def test_a_cell_that_is_missing_is_one(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, suite_of(["leaderboard"], [{"checkpoint": "a-b-bn", "label": "a"}],
                                        ATTACKS[:2]))  # fmt: skip
    run.add(0, 0, make_rows([1] * 16))
    view = RunView(run.finish())
    text = to_html(view, build_from(view))
    assert text.count('class="box open"') == 2 and "Not run yet" in text
    assert "Not asked for" not in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


TABLE = "document.querySelector('#leaderboard table').parentElement"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_wide_table_says_so_and_keeps_its_names(
    browser: Browser, text: str, width: int, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(text)
    browser.open(page, width)
    assert browser.run(f"{TABLE}.previousElementSibling.textContent").startswith("scroll sideways")
    assert browser.run(f"[...{TABLE}.classList]") == ["scroll", "overflows", "more"]
    right = "{}.getBoundingClientRect().right"
    worst = right.format("document.querySelector('#leaderboard tbody td')")
    assert browser.run(worst) < width, "the worst case is seen without scrolling"
    browser.run(f"{TABLE}.scrollLeft = 1e6; 0")
    browser.run("new Promise(done => setTimeout(done, 50))")
    for cell in ("thead th", "tbody th"):
        box = f"document.querySelector('#leaderboard {cell}').getBoundingClientRect()"
        assert browser.run(f"{box}.left") >= 0 and browser.run(f"{box}.width") < 0.45 * width
    last = right.format("document.querySelector('#leaderboard tbody tr').lastElementChild")
    assert browser.run(last) <= width


def test_a_narrow_table_says_nothing(browser: Browser, tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, suite_of(["leaderboard"], [{"checkpoint": "a-b-bn", "label": "a"}],
                                        ATTACKS[:2]))  # fmt: skip
    for j in range(2):
        run.add(0, j, make_rows([1] * 16))
    view = RunView(run.finish())
    page = tmp_path / "report.html"
    page.write_text(to_html(view, build_from(view)))
    browser.open(page, 1280)
    assert browser.run("document.querySelectorAll('#leaderboard .hint').length") == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_bars_are_as_long_as_their_numbers(
    browser: Browser, text: str, width: int, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(text)
    browser.open(page, width)
    share = "document.querySelector('.track .{}').getBoundingClientRect().width"
    whole = browser.run("document.querySelector('.track').clientWidth")
    assert whole > 0.3 * width
    tracks = "[...document.querySelectorAll('.track .robust')].map(one => one.offsetWidth)"
    shown = [length / whole for length in browser.run(tracks)]
    assert shown == pytest.approx([n / 16 for n in sorted(SCORES.values())[::-1]], abs=0.01)
    assert browser.run(share.format("clean")) == pytest.approx(whole, abs=1)

"""The page of a run: one whole file, its words as words; in a real browser where there is one."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from report_browser import Browser
from report_every_kind import KINDS, report_of, stored
from report_figures import whole_run, write_page
from report_html import Page
from report_runs import HOSTILE

from bench.report.page.html import to_html
from bench.report.run_view import RunView
from bench.suite.report_kinds import REPORT_KINDS
from bench.suite.spec import SuiteSpec
from bench.untrusted.escape import one_line

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(page_file: Path) -> Page:
    return Page(page_file.read_text())


def test_the_page_is_sound_and_only_its_own_script_may_run(page: Page) -> None:
    assert [tag for tag, _ in page.elements].count("script") == 1
    (script,) = [text for tag, text in page.texts if tag == "script"]
    policy = page.all("meta")[1]["content"]
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{sha}'" in policy and "default-src 'none'" in policy
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert re.match(r"#|data:image/png;base64,|data:,$", attributes.get(name, "#"))


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [a["href"][1:] for a in page.all("a")] + [u["href"][1:] for u in page.all("use")]
    assert set(links) <= set(ids)
    labelled = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(labelled) <= set(ids)


def test_tables_and_pictures_are_said_to_those_who_do_not_see_them(page: Page) -> None:
    assert all(a.get("scope") in ("row", "col") for a in page.all("th"))
    assert len(page.all("caption")) >= len(page.all("table")) - 1
    assert all(a["alt"] for a in page.all("img"))
    assert all(a["role"] == "img" and a["aria-label"] for a in page.all("svg"))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))


@pytest.mark.parametrize("kind", KINDS)
def test_the_part_of_every_kind_is_sound_and_holds_its_numbers(kind: str, tmp_path: Path) -> None:
    report = report_of(kind, tmp_path / "report")
    page = Page(to_html(RunView(stored(kind, tmp_path / "run")), [(kind, report)]))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids) and kind in ids
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)
    assert all(a["alt"] for a in page.all("img"))
    assert len(page.all("svg")) + len(page.all("img")) >= len(report.figures)
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert re.match(r"#|data:image/png;base64,|data:,$", attributes.get(name, "#"))
    shown = {one_line(text) for _, text in page.texts}
    for table in report.shown_tables:
        for line in (line for row in table.rows for cell in row.cells for line in cell.lines):
            assert one_line(line) in shown
    for _, text in report.footnotes:
        assert one_line(text) in shown


def test_hostile_words_are_words(page: Page) -> None:
    shown = [text.strip() for _, text in page.texts]
    assert HOSTILE in shown
    plain = " ".join(shown)
    for place in ("higher_than_clean: ", "Broke off, so there is no number: batch 2: "):
        assert place + HOSTILE in plain


def test_alarms_and_gaps_are_said_in_plain_words(page: Page) -> None:
    text = " ".join(text for _, text in page.texts)
    assert "4 models met 3 attacks on 16 images of fashion-mnist (test split)" in text
    assert "within linf 0.1" in text and "Alarms: numbers to doubt" in text
    assert "Not run, as the number would not be valid: " in text
    assert "with a worst case over all attacks under" not in text, "one of the two is in doubt"
    assert "Published (rna/table1) and measured" in text
    assert "fixed_path" in text and "one of its random paths" in text


def test_the_suite_on_the_page_is_the_suite_that_was_run(tmp_path: Path) -> None:
    view, reports = whole_run(tmp_path)
    page = Page(to_html(view, reports))
    (text,) = [text for tag, text in page.texts if tag == "pre" and "threat_model" in text]
    assert SuiteSpec.model_validate(yaml.safe_load(text)) == view.suite


def test_every_kind_of_report_has_a_heading_of_its_own() -> None:
    headings = [kind.heading for kind in REPORT_KINDS.values()]
    assert all(headings) and len(set(headings)) == len(headings)


def test_the_same_store_gives_the_same_page(tmp_path: Path) -> None:
    view, reports = whole_run(tmp_path)
    assert to_html(view, reports) == to_html(view, reports)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


COLUMN = "[...document.querySelectorAll('#leaderboard table.sortable')[0].tBodies[0].rows]"
MODELS = f"{COLUMN}.map(row => row.cells[0].textContent)"
SORT = "#leaderboard table.sortable thead th:nth-child({}) button"


def sorting(browser: Browser) -> list[str]:
    heads = "[...document.querySelectorAll('#leaderboard table.sortable')[0].tHead.rows[0].cells]"
    found: list[str] = browser.run(f"{heads}.map(head => head.getAttribute('aria-sort'))")
    return found


def test_tables_are_sorted_by_mouse_and_keyboard(browser: Browser, page_file: Path) -> None:
    browser.open(page_file, 1280)
    listed = browser.run(MODELS)
    assert listed == ["bn", "rna", "gn", HOSTILE]
    browser.click(SORT.format(5))  # pgd20: 75.0, 50.0, 93.8, incomplete
    assert browser.run(MODELS) == ["gn", "bn", "rna", HOSTILE]
    assert sorting(browser)[2:6] == ["none", "none", "descending", "none"]
    browser.click(SORT.format(5))
    assert browser.run(MODELS) == ["rna", "bn", "gn", HOSTILE]
    assert sorting(browser)[4] == "ascending"
    browser.press_enter()  # the heading has the focus
    assert browser.run(MODELS) == listed and set(sorting(browser)) == {"none"}
    browser.click(SORT.format(1))
    assert browser.run(MODELS) == [HOSTILE, "bn", "gn", "rna"]


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_is_quiet(
    browser: Browser, page_file: Path, width: int, scheme: str
) -> None:
    browser.events.clear()
    browser.open(page_file, width, scheme=scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    shade = browser.run("getComputedStyle(document.body).backgroundColor")
    ink = browser.run("getComputedStyle(document.body).color")
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (shade, ink)]
    assert (bright[0] > 600 and bright[1] < 200) == (scheme == "light")
    label = "getComputedStyle(document.querySelector('svg.panel text')).fill"
    assert browser.run(label) == ink
    browser.click("#theme")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != shade
    browser.reload()
    assert browser.run("getComputedStyle(document.body).backgroundColor") != shade, "forgotten"
    browser.run("localStorage.clear()")
    assert all(address.startswith(("file:", "data:image/")) for address in browser.requests())
    assert browser.complaints() == []


def test_policy_stops_what_escaping_would_miss(
    browser: Browser, page_file: Path, tmp_path: Path
) -> None:
    """Also shows that the tests above would hear a script, a request or an error."""
    page = tmp_path / "broken.html"
    hole = "<script>document.title='broken'</script><img src='http://127.0.0.1:9/x.png'>"
    page.write_text(page_file.read_text().replace("</main>", hole + "</main>"))
    browser.events.clear()
    browser.open(page, 1280)
    assert browser.run("document.title") == HOSTILE
    assert len(browser.complaints()) >= 2
    browser.events.clear()
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    page.write_text(free)
    browser.open(page, 1280)
    assert browser.run("document.title") == "broken"
    assert any(address.startswith("http:") for address in browser.requests())


def test_the_page_prints_on_white_paper(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    browser.open(page_file, 1280, scheme="dark")
    browser.call("Emulation.setEmulatedMedia", media="print")
    shade = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert shade == "rgb(255, 255, 255)"
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")

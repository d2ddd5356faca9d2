"""Words from files are shown as they are in every format, and do nothing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hostile_place import SUITE, Place, Rbench, make_run
from markdown_it import MarkdownIt
from markdown_it.token import Token

from bench.report import write_reports
from bench.report.run_view import RunView
from bench.report.write_paper import write_paper_tables
from bench.untrusted.escape import one_line

WORDS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' x='",
    "[click](javascript:alert(1)) <javascript:alert(1)> ![x](javascript:alert(1))",
    "</title></style></svg><svg/onload=alert(1)>--><!-- ]]>",
    "{{ 7*7 }} {% raw %} << 7*7 >> <% include x %> {# <#",
    r"\input{/etc/passwd} \write18{id} $\evil$ 50 % & # _a_ ^ ~ { } | x | `y` **z**",
    "<b onclick",
]
SENT = ("md", "tex", "csv", "svg", "html")
OWN_ICON = "data:,"
FORBIDDEN = {"iframe", "object", "embed", "base", "form", "applet", "foreignobject"}


class Elements(HTMLParser):
    """The elements of a page, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in == ["script"] else self.words).append(data)


@pytest.fixture(params=range(len(WORDS)))
def worded(request: pytest.FixtureRequest, place: Place) -> tuple[str, Place]:
    """A run in which everything that has words says one thing."""
    word = WORDS[request.param]
    quoted = json.dumps(word)
    label = json.dumps(f"model {word}")
    attack = json.dumps(f"attack {word}")
    title = json.dumps(f"title {word}")
    text = SUITE.replace("[good]", f"[{{checkpoint: good, label: {label}}}]")
    text = text.replace("fgsm]\nan", f"{{attack: fgsm, label: {attack}}}]\nan")
    text = text.replace("attack: fgsm, params", f"attack: {attack}, label: {label}, params")
    place.suite(text=f"title: {title}\ndescription: {quoted}\n{text}")
    shutil.rmtree(place.root / "run")
    make_run(place, word)
    write_reports(place.root / "run", formats=SENT)
    write_paper_tables(RunView(place.root / "run"), groups=[f"{word.replace('=', '')}=*"])
    return word, place


@pytest.mark.process
def test_no_format_obeys_words(worded: tuple[str, Place]) -> None:
    word, place = worded
    run = place.root / "run"
    check_page((run / "report.html").read_text(), word)
    for path in run.glob("*.md"):
        check_markdown(path.read_text(), word)
    for path in run.glob("*.tex"):
        check_latex(path.read_text())
    for path in run.glob("*.svg"):
        check_svg(path)
    with (run / "leaderboard.csv").open(newline="") as handle:
        labels = {line["model"] for line in csv.DictReader(handle)}
    assert labels == {f"model {word}"}


def check_page(text: str, word: str) -> None:
    page = Elements(text)
    own = resources.files("bench.report").joinpath("templates", "page.js").read_text()
    assert ["".join(page.scripts)] == [own]
    assert [tag for tag, _ in page.found].count("script") == 1
    for tag, attributes in page.found:
        assert tag not in FORBIDDEN
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("srcdoc", "formaction", "ping")
            if name in ("href", "src", "xlink:href", "action"):
                assert value == OWN_ICON or (value or "").startswith(
                    ("#", "data:image/png;base64,")
                )
    shown = " ".join("".join(page.words).split())
    assert shown.count(one_line(word)) >= 5
    policies = [a["content"] for tag, a in page.found if "http-equiv" in a]
    assert len(policies) == 1 and "default-src 'none'" in str(policies[0])


def tokens_of(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        yield token
        yield from token.children or ()


def check_markdown(text: str, word: str) -> None:
    tokens = list(tokens_of(text))
    raw = {t.content for t in tokens if t.type in ("html_inline", "html_block")}
    assert {one for one in raw if not one.startswith("<!-- Written by")} <= {"<sup>", "</sup>"}
    links = [str(t.attrGet("href")) for t in tokens if t.type == "link_open"]
    links += [str(t.attrGet("src")) for t in tokens if t.type == "image"]
    assert all(re.fullmatch(r"[\w./%~()-]+", link) for link in links), links
    shown = "".join(t.content for t in tokens if t.type in ("text", "text_special", "softbreak"))
    assert one_line(word) in shown
    columns = [t.type for t in tokens if t.type in ("tr_open", "th_open", "td_open")]
    rows = " ".join(columns).split("tr_open")[1:]
    assert len({len(row.split()) for row in rows}) <= len(
        [t for t in tokens if t.type == "table_open"]
    )


def check_latex(text: str) -> None:
    for command in (r"\input{", r"\write18", r"\evil"):
        assert command not in text
    for line in text.splitlines():
        # A percent sign starts a comment unless it is ours, at the start or end of a line.
        assert re.search(r"(?<!\\)%", line[1:].rstrip("%")) is None
        assert re.search(r"(?<!\\)#", line) is None


def check_svg(path: Path) -> None:
    for element in ElementTree.parse(path).iter():
        assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "a")
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            plain = name.rpartition("}")[2]
            assert plain != "href" or value.startswith(("#", "data:image/png;base64,"))


def test_the_index_obeys_no_folder(place: Place, rbench: Rbench) -> None:
    for number, name in enumerate(("a](javascript:alert(1)) [b", "<img src=x onerror=alert(1)>")):
        shutil.copytree(place.root / "run", place.root / "reports" / name)
        path = place.root / "reports" / name / f"[x](javascript:alert({number})).md"
        path.write_text("x")
        bare = place.root / "reports" / f"bare {name}"
        bare.mkdir()
        (bare / "<b>.md").write_text("x")
    broken = place.root / "reports" / "<script>broken"
    shutil.copytree(place.root / "run", broken)
    (broken / "store" / "run.json").write_text("{")
    for info in (place.root / "reports").rglob("cells/*/info.json"):
        info.write_text(info.read_text().replace('"date": "zero"', '"date": "<b>26-01-01"'))
    assert rbench(["index", "reports"])[0] == 0
    check_markdown((place.root / "reports" / "README.md").read_text(), "onerror=alert(1)")


@pytest.mark.parametrize("word", WORDS)
def test_the_readme_of_checkpoints_obeys_no_card(word: str, place: Place, rbench: Rbench) -> None:
    place.card(
        name=word,
        dataset=word,
        training=word,
        trained=word,
        clean_accuracy={"value": 0.5, "n": 1, "split": word},
        robust_accuracy={
            "value": 0.5,
            "n": 1,
            "split": word,
            "attack": f"PGD-20, linf {word}",
            "protocol": word,
        },
    )
    (place.root / "recipes").mkdir()
    assert rbench(["zoo", "readme", "--recipes", "recipes"])[0] == 0
    page = (place.root / "checkpoints" / "README.md").read_text()
    check_markdown(page, word)
    for arguments in (["zoo", "show", "good"], ["list", "checkpoints"]):
        code, out, _ = rbench(arguments)
        assert code == 0 and word in out
    assert rbench(["zoo", "verify", "--quick", "--out", "audit.md"])[0] in (0, 1)
    check_markdown(Path("audit.md").read_text(), "good")

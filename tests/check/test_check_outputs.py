"""Every output byte for byte, and hostile words in each; RBENCH_UPDATE_GOLDEN=1 writes anew."""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from hypothesis import example, given
from hypothesis import strategies as st
from made_checks import HOSTILE, change, every_verdict, large, nothing_changed
from markdown_it import MarkdownIt

from bench.check.compare import Check, Checked
from bench.check.formats import command, to_annotations, to_json, to_junit
from bench.check.markdown import LONGEST, safe, to_markdown
from bench.cli.check import show
from bench.cli.options import PlainConsole
from bench.untrusted.escape import one_line

HERE = Path(__file__).parent
SCHEMA = xmlschema.XMLSchema(HERE / "junit-10.xsd")


def terminal(check: Check) -> str:
    """What people see without a terminal."""
    file = io.StringIO()
    show(PlainConsole(file=file, width=120), check)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def annotations(check: Check) -> str:
    return "".join(f"{line}\n" for line in to_annotations(check))


FORMATS: dict[str, Callable[[Check], str]] = {
    "txt": terminal,
    "md": to_markdown,
    "xml": to_junit,
    "json": to_json,
    "annotations": annotations,
}


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("check", [every_verdict, nothing_changed])
def test_a_check_is_written_as_it_was_looked_at(check: Callable[[], Check], ending: str) -> None:
    path = HERE / "golden" / f"{check.__name__}.{ending}"
    content = FORMATS[ending](check()).encode()
    if os.environ.get("RBENCH_UPDATE_GOLDEN"):
        path.write_bytes(content)
    assert content == path.read_bytes(), f"{path.name} changed"


def named(text: str) -> Check:
    """A check in which all that comes from files is one text."""
    made = every_verdict()
    cells = tuple(replace(c, model=text, attack=text, reasons=(text,)) for c in made.cells)
    return replace(made, suite=text, baseline=text, run=text, cells=cells, notes=(text,))


WORDS = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
TROUBLE = st.lists(
    st.sampled_from(
        [*"@#|`*_[]()!<>&\\\n\r:-~$%,\x00\u2028\ud800\uffff", "www.", "http://", "a", "1"]
    ),
    max_size=25,
).map("".join)


# Markdown ---------------------------------------------------------------------------------------


class _Seen(HTMLParser):
    """The text that a reader sees, and the tags around it."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def looked_at(markdown: str) -> _Seen:
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    seen = _Seen()
    seen.feed(html)
    seen.close()
    return seen


def squeezed(text: str) -> str:
    return " ".join(text.split())


OURS = {"h3", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}
OURS |= {"ul", "li"}
LIVE = re.compile(r"@\w|#\d|\bgh-\d|://|\bwww\.|:[\w+-]+:", re.IGNORECASE)


@example(":_:")
@given(WORDS | TROUBLE | st.just(HOSTILE))
def test_markdown_shows_any_words_as_they_are(text: str) -> None:
    seen = looked_at(f"x {safe(text)} x")
    shown = "".join(seen.words)
    assert squeezed(shown.replace("\u200b", "")) == squeezed(f"x {one_line(text)} x")
    assert seen.tags == {"p"}
    assert not LIVE.search(shown)


@pytest.mark.process
@given(TROUBLE)
def test_a_table_stays_a_table(text: str) -> None:
    seen = looked_at(to_markdown(named(text)))
    assert seen.tags <= OURS
    rows = to_markdown(named(text)).count("\n| ")
    html = MarkdownIt("commonmark").enable("table").render(to_markdown(named(text)))
    assert html.count("<tr>") == rows - 2  # without the lines below the two heads
    assert html.count("<td") == 8 * 8 + 3 * 8


def test_hostile_words_make_no_tag_link_or_mention() -> None:
    seen = looked_at(to_markdown(named(HOSTILE)))
    assert seen.tags == OURS
    assert not LIVE.search("".join(seen.words).replace("\n", " "))
    assert "<script>" in "".join(seen.words)  # as words


@pytest.mark.process
@pytest.mark.parametrize("text", ["model", "@" * 5_000, HOSTILE * 20])
def test_a_large_check_fits_into_a_comment(text: str) -> None:
    markdown = to_markdown(replace(large(3_000, text), run=text, baseline=text, notes=(text,)))
    assert len(markdown) <= LONGEST < 65_536
    assert "There was no room for" in markdown
    assert looked_at(markdown).tags <= OURS


def test_what_has_changed_comes_before_what_has_not() -> None:
    markdown = to_markdown(every_verdict())
    assert markdown.index("| **regressed**") < markdown.index("| **missing**")
    assert markdown.index("| new |") < markdown.index("<details>")
    assert "<details>" not in to_markdown(replace(every_verdict(), cells=every_verdict().cells[:2]))


# JUnit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [every_verdict(), nothing_changed(), large(50), named(HOSTILE)])
def test_junit_follows_the_schema(check: Check) -> None:
    text = to_junit(check)
    assert list(SCHEMA.iter_errors(text)) == []
    suite = ElementTree.fromstring(text)[0]
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{kind}"))
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(check.cells)


def test_the_schema_would_notice() -> None:
    broken = to_junit(nothing_changed()).replace("<testcase ", "<testcase unknown='1' ")
    assert not SCHEMA.is_valid(broken)


@given(WORDS | TROUBLE)
def test_junit_can_be_read_whatever_the_words(text: str) -> None:
    content = to_junit(named(text)).encode()
    suite = ElementTree.fromstring(content)[0]
    case = suite.findall("testcase")[0]
    assert case.attrib["classname"] == case.attrib["name"] == one_line(text)


def test_junit_says_what_each_cell_is() -> None:
    suite = ElementTree.fromstring(to_junit(every_verdict()))[0]
    assert suite.attrib["name"] == "rbench.check.smoke"
    kinds = {}
    for case in suite.findall("testcase"):
        outcomes = [child.tag for child in case if child.tag != "system-out"]
        kinds[case.attrib["classname"], case.attrib["name"]] = outcomes
    assert kinds.pop((one_line(HOSTILE), one_line(HOSTILE))) == ["failure"]
    assert kinds == {
        ("bn", "pgd20"): ["failure"],
        ("bn", "apgd"): ["error"],
        ("bn", "cw"): ["error"],
        ("gn", "cw"): ["skipped"],
        ("gn", "fgsm"): [],
        ("gn", "pgd20"): [],
        ("in", "pgd20"): [],
        ("in", "natural"): [],
        ("in", "cw"): [],
        ("rna", "cw"): [],
    }


# GitHub's workflow commands ---------------------------------------------------------------------


def obeyed(line: str) -> tuple[str, str, str]:
    """Reads a command as the runner does (actions/runner, ActionCommand.TryParseV2)."""
    assert line.startswith("::") and "\n" not in line and "\r" not in line
    end = line.index("::", 2)
    level, _, rest = line[2:end].partition(" ")
    properties = dict(part.split("=", 1) for part in rest.split(",") if "=" in part)
    assert set(properties) == {"title"}
    title, message = properties["title"], line[end + 2 :]
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        title = title.replace(code, char)
        if char not in ":,":
            message = message.replace(code, char)
    return level, title, message


@given(WORDS | TROUBLE, WORDS | TROUBLE)
def test_a_command_gives_its_words_back(title: str, message: str) -> None:
    found = obeyed(command("error", title, message))
    assert found == ("error", one_line(title), one_line(message))


def test_commands_have_githubs_escapes() -> None:
    assert command("notice", "50 %: a, b", "1 %25: c, d\n::error::e") == (
        "::notice title=50 %25%3A a%2C b::1 %2525: c, d ::error::e"
    )


def test_levels_of_notes() -> None:
    found = [obeyed(line)[:2] for line in to_annotations(every_verdict())]
    levels = [level for level, _ in found]
    assert levels == ["error"] * 3 + ["warning"] * 3 + ["notice"] * 3
    assert found[0] == ("error", "rbench check smoke")
    assert [obeyed(line)[0] for line in to_annotations(nothing_changed())] == ["notice"]


def test_no_more_notes_than_github_shows() -> None:
    found = [obeyed(line) for line in to_annotations(large(600))]
    levels = [level for level, _, _ in found]
    assert levels.count("error") == 9 and levels.count("warning") == 9
    assert ("error", "93 more cells") in [(level, title) for level, title, _ in found]
    exact = [obeyed(line)[0] for line in to_annotations(large(6 * 8))]
    assert exact.count("error") == 9 and exact.count("warning") == 8


# JSON -------------------------------------------------------------------------------------------


def test_json_has_every_field_and_no_nan() -> None:
    odd = replace(every_verdict().cells[0], difference=change(math.nan), p=math.inf)
    check = replace(every_verdict(), cells=(odd, *every_verdict().cells[1:]))
    value = json.loads(to_json(check), parse_constant=pytest.fail)
    assert value["schema_version"] == 1 and value["exit_code"] == 1 and value["tested"] == 8
    assert value["cells"][0]["p"] is None
    assert value["cells"][0]["difference"]["value"] is None
    assert value["cells"][0]["lost"] == list(range(17, 74))
    assert set(value["cells"][0]) == set(Checked.__dataclass_fields__)
    assert set(Check.__dataclass_fields__) < set(value)
    assert value["cells"][1]["model"] == HOSTILE
    assert list(value) == sorted(value)


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_json_gives_labels_back_in_ascii(text: str) -> None:
    content = to_json(named(text)).encode("ascii")
    assert json.loads(content)["cells"][0]["model"] == text


# The terminal -----------------------------------------------------------------------------------


def test_the_terminal_is_not_obeyed() -> None:
    shown = terminal(named(HOSTILE))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert not any(line.startswith("::") for line in shown.splitlines())


def test_verdicts_have_colours_on_a_terminal_only() -> None:
    file = io.StringIO()
    show(PlainConsole(file=file, width=120, force_terminal=True, color_system="standard"), large(6))
    assert "\x1b[31m" in file.getvalue() and "\x1b[33m" in file.getvalue()
    assert "\x1b" not in terminal(large(6))


def test_very_many_cells_are_not_all_told_about() -> None:
    assert "and 160 more; see --json" in terminal(large(600))

"""What the documentation and the docstrings say of the code is so."""

from __future__ import annotations

import ast
import re
from configparser import ConfigParser

import pytest
from doc_blocks import ROOT, blocks

from bench.attacks import get_attack, parse_params
from bench.attacks.params import OUR_WORDS
from bench.core.errors import UserError

TO_BE_WRITTEN = {
    "bench/attacks/corners.py",
    "bench/data/FILE.py",
    "bench/norms/FILE.py",
    "bench/report/kinds/NAME.py",
}
"""Files that docs/extend.md tells a reader to make."""


def setup_cfg() -> ConfigParser:
    found = ConfigParser(interpolation=None)
    found.read(ROOT / "setup.cfg", encoding="utf-8")
    return found


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_worked_example_fails_until_its_line_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [block.code.strip() for block in blocks(ROOT / "CONTRIBUTING.md")]
    (tested,) = (code for code in shown if code.startswith("("))
    (added,) = (code for code in shown if code.startswith('"'))
    if tested in page("tests/attacks/test_attacks_registry.py"):
        pytest.skip("somebody follows it")
    ((name, values, expected),) = ast.literal_eval(tested)
    ((word, ours),) = ast.literal_eval(f"{{{added}}}").items()

    def told() -> str:
        with pytest.raises(UserError) as caught:
            parse_params(get_attack(name), values)
        return str(caught.value)

    assert word not in OUR_WORDS and expected not in told()
    monkeypatch.setitem(OUR_WORDS, word, ours)
    assert expected in told()


def test_names_of_the_extension_guide_are_in_the_files_that_it_names() -> None:
    items = re.split(r"\n(?=\d+\. |\n|#)", page("docs/extend.md"))
    missing, looked_up = set(), 0
    for item in (one for one in items if re.match(r"\d+\. ", one)):
        quoted = re.findall(r"`([^`]+)`", item)
        files = [word for word in quoted if re.fullmatch(r"(?:bench|tests)/[\w/]+\.py", word)]
        there = [ROOT / file for file in files if (ROOT / file).is_file()]
        missing |= {file for file in files if ROOT / file not in there}
        if not files or files[0] in TO_BE_WRITTEN:
            continue  # what it names is to be written, or is in no file alone
        text = "\n".join(path.read_text(encoding="utf-8") for path in there)
        for word in (word for word in quoted if re.fullmatch(r"[A-Za-z_]\w*", word)):
            assert re.search(rf"\b{word}\b", text), f"`{word}` is not in {', '.join(files)}"
            looked_up += 1
    assert missing == TO_BE_WRITTEN and looked_up > 10


def test_the_rooms_are_those_that_the_linter_holds() -> None:
    found = re.search(r"holds them to it: (.*?)\. ", page("docs/architecture.md"), re.S)
    assert found
    said = [set(re.findall(r"`(\w+)`", layer)) for layer in found[1].split(">")]
    layers = setup_cfg()["importlinter:contract:direction"]["layers"].replace("bench.", "")
    assert said == [set(line.split(" | ")) for line in layers.split("\n") if line]


def test_every_extra_is_listed() -> None:
    found = re.search(r"^Extras: .*?\. ", page("docs/dependencies.md"), re.M | re.S)
    assert found
    assert set(setup_cfg()["options.extras_require"]) <= set(re.findall(r"`(\w+)`", found[0]))


@pytest.mark.process
def test_a_class_that_documents_its_fields_documents_all() -> None:
    for path in sorted((ROOT / "bench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert not undocumented(node), f"{path.name}: {node.name}"


def undocumented(node: ast.ClassDef) -> set[str]:
    """Returns the public fields of a class that its list of attributes, if it has one, lacks."""
    _, section, listed = (ast.get_docstring(node) or "").partition("Attributes:\n")
    if not section or "nn.Module" in map(ast.unparse, node.bases):
        return set()  # a module annotates its buffers, which are not its caller's
    targets = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
    names = {one.id for one in targets if isinstance(one, ast.Name)}
    return {n for n in names if n[0] != "_"} - set(re.findall(r"^ +(\w+): ", listed, re.M))

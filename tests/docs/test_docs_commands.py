"""Every command of the README, of the docs and of ``--help`` works in a fresh clone.

All are parsed by the command line itself. Those that take seconds are run, in a clone that holds
what is committed and nothing else; of a long run, its suite is planned there. What is left is in
``NOT_RUN`` with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from doc_blocks import NOTEBOOKS, PAGES, ROOT, blocks
from test_docs_pages import commands

UsageError = typer.BadParameter.__mro__[1]
"""typer brings a click of its own, so that click's classes are not those that it raises."""

FAST = {
    "rbench --version": "rbench ",
    "rbench init": "wrote suites/mine.yaml",
    "rbench init my-project": "cd my-project && rbench plan mine",
    "rbench plan table1 --no-time --json": '"cells"',
    "rbench list": "list attacks",
    "rbench list attacks": "apgd_t",
    "rbench list checkpoints": "fmnist-resnet20-rna-at",
    "rbench list checkpoints --json": '"fmnist-resnet20-rna-at"',
    "rbench list models": "resnet20",
    "rbench list norms": "rna",
    "rbench list recipes": "fmnist-resnet20-bn-at",
    "rbench list reports": "leaderboard",
    "rbench list schemes": "torchvision",
    "rbench list suites": "rna/table1",
    "rbench report reports/table1": "reports/table1/report.html",
    "rbench report reports/table1 --kind leaderboard --format md,csv": "leaderboard.csv",
    "rbench report reports/table1 --style paper --group training": "leaderboard-paper.tex",
    "rbench report reports/table1 --compare rna/table1": "compare-rna-table1.md",
    "rbench report reports/table1 --suite table1 --compare rna/table1": "compare-rna-table1.md",
    "rbench query reports/table1": "rows",
    'rbench query reports/table1 "select model, attack, accuracy, low, high, n from cells"': "bn",
    'rbench query reports/table1 "select * from cells" --out cells.parquet': "wrote cells.parquet",
    'rbench query reports/table1 "select * from rows where robust < 1" --out broken.parquet': (
        "wrote broken.parquet"
    ),
    "rbench query reports/table1 \"select label, avg(robust) r from rows where model = 'bn-at'"
    " and attack = 'PGD20' and complete group by label order by r\" --format csv": "label,r",
    "rbench export reports/table1 --to parquet --out rows.parquet": "wrote rows.parquet",
    "rbench export reports/table1 --to hf": "bn-at.md",
    "rbench index": "wrote reports/README.md",
    "rbench index reports": "wrote reports/README.md",
    "rbench zoo show fmnist-resnet20-bn": "resnet20, norm bn",
    "rbench zoo readme --check": "",
    "rbench published list": "rna/table1",
    "rbench published list --json": '"rna/table1"',
    "rbench published show rna/table1": "pgd20",
}
"""Commands that are run in order in one process of a clone, and a text that each prints."""

NEEDS_DATA = {
    "papers/rna/table1": "rbench data fetch cifar10",
    "robustnorm/table1_cifar10": "cifar10_test_lossless_first1017.npz",
    "robustnorm/table1_mnist": "rbench data fetch mnist",
    "suites/single_step.yaml": "cifar10_test_lossless_first1017.npz",
}
"""Suites whose data no clone has, and what their error names."""

SLOW = {
    "rbench init": "wrote suites/mine.yaml",
    "rbench plan mine": "to run",
    "rbench run mine": "worst case",
    "rbench run mine --save-adv": "worst case",
    "rbench report reports/mine --style paper": "leaderboard-paper.tex",
    "rbench verify reports/mine": "All stored adversarial examples match their results",
    'rbench query reports/mine "select model, attack, accuracy, low, high, n from cells"': "PGD-20",
    "rbench prune reports/mine --dry-run": "nothing to delete",
    "rbench prune reports/mine": "nothing to delete",
    "rbench repair reports/mine": "0 are damaged",
    "rbench baseline update reports/mine": "suites/baselines/mine.jsonl",
    "git add suites/baselines/mine.jsonl": "",
    "git -c user.name=n -c user.email=e commit -m baseline": "",
    "git branch --force main": "",
    "rbench check reports/mine": "0 of 6 cells regressed",
    "rbench check reports/mine --baseline main:suites/baselines/mine.jsonl": "0 of 6 cells",
    "rbench check reports/mine --baseline main:suites/baselines/mine.jsonl --min-drop 1": "0 of 6",
    "cp -r reports/mine reports/before": "",
    "rbench check reports/mine --baseline reports/before --markdown check.md --junit check.xml": (
        "0 of 6 cells regressed"
    ),
    "rbench run suites/smoke.yaml --out build/smoke": "worst case",
    "rbench check build/smoke": "0 of 12 cells regressed",
    "rbench baseline update build/smoke": "suites/baselines/smoke.jsonl",
    "rbench run quickstart": "bn, adversarially trained",
    "rbench run suites/quickstart.yaml": "bn, adversarially trained",
    "rbench plan table1": "to run",
    "rbench probe fmnist-resnet20-rna-at": "stochastic",
    "rbench zoo verify fmnist-resnet20-bn --json": "fmnist-resnet20-bn",
}
"""The same, each in a process of its own."""

NOT_RUN = {
    r"--engine ray": "needs Ray, or a cluster",
    r"--track": "needs a tracker",
    r"rbench (run|plan|report|verify|repair|prune|export|check) (SUITE|RUN|reports/SUITE)\b": (
        "a placeholder for the reader's own"
    ),
    r"s3://": "needs an object store",
    r"rbench train ": "trains for minutes to days",
    r"rbench selftest": "takes four minutes; tests/selftest runs its cases",
    r"rbench zoo verify( --quick)?$": "scores every checkpoint",
    r"rbench zoo import ": "needs somebody's file",
    r"rbench verify --model ": "needs somebody's file",
    r"rbench data fetch ": "needs a network",
    r"rbench published import ": "needs a clone of RobustBench",
    r"rbench probe .*torchvision": "downloads weights",
}
"""Commands that are only parsed, by a pattern, and why."""


def examples(page: Path) -> Iterator[tuple[str, bool]]:
    """Yields the commands of a page in full, and whether it is in a block, where it is complete."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    else:
        text = page.read_text(encoding="utf-8")
        for block in blocks(page):
            if block.language in ("", "sh", "bash"):
                yield from ((line, True) for line in _lines(block.code))
    for code in re.findall(r"`(rbench [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S)):
        yield " ".join(code.split()), False


def _lines(code: str) -> Iterator[str]:
    """Yields the commands of a block; a quoted text may go on in the next line."""
    begun = ""
    for line in re.sub(r"\s*\\\n\s*", " ", code).splitlines():
        begun = f"{begun} {line.strip()}" if begun else re.sub(r"\s+#.*$", "", line).strip()
        if begun.count('"') % 2:
            continue
        if begun.startswith("rbench "):
            yield begun
        begun = ""


def helped() -> Iterator[str]:
    """Yields the examples below the commands' helps."""
    for command in commands().values():
        yield from (one for one in (command.epilog or "").split("\n\n") if "rbench " in one)


def found(whole: bool) -> dict[str, str]:
    """Returns the commands of all pages, those in blocks or those in the text, each with a page."""
    pages = (*PAGES, *NOTEBOOKS)
    return {text: page.name for page in pages for text, full in examples(page) if full == whole}


ALL = {**{command: "--help" for command in helped()}, **found(whole=True)}
MENTIONED = found(whole=False)


def parse(command: str) -> object:
    """Parses a command as the command line does; ``None`` for an option of ``rbench`` itself."""
    words, known = shlex.split(command)[1:], commands()
    if words[0].startswith("-"):
        return None
    name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
    if getattr(known[name], "commands", None):
        return None  # "`rbench zoo`" names a group of commands
    return known[name].make_context(name, words[len(name.split()) :])


def planned(command: str) -> str:
    """Returns the suite of a command that runs or plans one; empty for any other."""
    found = re.match(r"rbench (?:run|plan) (\S+)", command)
    return found[1] if found else ""


@pytest.mark.parametrize("command", sorted(ALL))
def test_every_example_is_parsed_by_the_command_line(command: str) -> None:
    try:
        parse(command)
    except UsageError as error:
        pytest.fail(f"{ALL[command]}: {command}: {error.format_message()}")


@pytest.mark.parametrize("command", sorted(MENTIONED))
def test_every_mentioned_command_is_parsed_as_far_as_it_goes(command: str) -> None:
    try:
        parse(command)
    except UsageError as error:
        said = error.format_message()  # "`rbench run`" names the command, and is none
        assert said.startswith("Missing "), f"{MENTIONED[command]}: {command}: {said}"


def test_every_example_is_run_or_says_why_not() -> None:
    for command, place in ALL.items():
        if command in FAST or command in SLOW or planned(command):
            continue
        assert any(re.search(pattern, command) for pattern in NOT_RUN), (
            f"{place}: {command}: add it to FAST or SLOW with what it prints, or to NOT_RUN"
        )


def test_no_list_of_commands_is_out_of_date() -> None:
    shown = {*ALL, *MENTIONED}
    assert not [c for c in (*FAST, *SLOW) if c.startswith("rbench ") and c not in shown]
    for pattern, why in NOT_RUN.items():
        assert any(re.search(pattern, command) for command in shown), f"{pattern}: {why}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what is committed; changes to files that git knows are taken over."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout")
    place = tmp_path_factory.mktemp("clone") / "rbench"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    changed = subprocess.run(
        ["git", "diff", "--name-only", "--diff-filter=d", "HEAD"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in changed.stdout.splitlines():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    return place


def environment(clone: Path) -> dict[str, str]:
    """Returns the environment of somebody who has cloned rbench and nothing else."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RBENCH_")}
    cache = str(clone.parent / "cache")
    return {**own, "PYTHONPATH": str(clone), "RBENCH_CACHE": cache, "COLUMNS": "200"}


IN_ONE_PROCESS = """
import contextlib, io, json, sys
from bench.cli import main
said = []
for words in json.load(sys.stdin):
    sys.argv, code, out = ["rbench", *words], 0, io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    out.flush()
    said.append([code, out.buffer.getvalue().decode()])
print(json.dumps(said))
"""


def run_together(commands: list[str], clone: Path) -> list[tuple[int, str]]:
    """Runs commands one after the other in one process, since a start takes most of their time."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS],
        input=json.dumps([shlex.split(command)[1:] for command in commands]),
        cwd=clone,
        env=environment(clone),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out) for code, out in json.loads(done.stdout)]


def failures(expected: dict[str, str], said: list[tuple[int, str]]) -> list[str]:
    """Returns the commands that failed, or did not say what they should."""
    return [
        f"{command}: exit code {code}\n{out}"
        for (command, text), (code, out) in zip(expected.items(), said, strict=True)
        if code or text not in out
    ]


@pytest.mark.process
def test_fast_examples_run_in_a_fresh_clone(clone: Path) -> None:
    assert not failures(FAST, run_together(list(FAST), clone))


@pytest.mark.process
def test_suites_of_long_examples_are_planned_in_a_fresh_clone(clone: Path) -> None:
    plans = {}
    for command in sorted({*ALL, *MENTIONED}):
        suite = planned(command)
        own = any(re.search(pattern, command) for pattern in NOT_RUN)
        if suite and not own and command not in {*FAST, *SLOW} and "mine" not in suite:
            skipping = " --skip-missing" if "--skip-missing" in command else ""
            plans[f"rbench plan {suite} --no-time{skipping}"] = suite
    said = dict(zip(plans.values(), run_together(list(plans), clone), strict=True))
    assert len(said) > 5
    for suite, (code, out) in said.items():
        if suite in NEEDS_DATA:
            assert code == 2 and NEEDS_DATA[suite] in out, out
        else:
            assert code == 0 and "to run" in out, out


@pytest.mark.slow
@pytest.mark.process
def test_slow_examples_run_in_a_fresh_clone(clone: Path) -> None:
    said = []
    for command in SLOW:
        words = shlex.split(command)
        line = [sys.executable, "-m", "bench", *words[1:]] if words[0] == "rbench" else words
        done = subprocess.run(
            line, cwd=clone, env=environment(clone), capture_output=True, text=True, timeout=3600
        )
        said.append((done.returncode, done.stdout + done.stderr))
    assert not failures(SLOW, said)

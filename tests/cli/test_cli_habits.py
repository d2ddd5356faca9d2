"""Habits of good command lines: examples, JSON, colours, pipes, completion, a start."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bench.cli import options as completing
from bench.cli.app import app, commands, main
from bench.cli.listing import LISTINGS
from bench.core.paths import Where
from bench.run.prepare import local_lookup
from bench.suite.find import starter_suite
from bench.suite.load import load_suite
from bench.suite.plan import make_plan

ROOT = Path(__file__).parents[2]
CHECKPOINTS = ROOT / "checkpoints"
COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")
MAIN = [sys.executable, "-c", "from bench.cli import main; main()"]
Rbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rbench:
    """Runs a command as its script does; returns exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def run_to_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a committed run, whose reports may be written again."""
    copy = tmp_path_factory.mktemp("runs") / "batch_statistics"
    return Path(shutil.copytree(ROOT / "reports" / "batch_statistics", copy))


@pytest.mark.parametrize("name", [name for name, _ in commands(app)])
def test_every_command_has_an_example_that_names_its_options(name: str) -> None:
    done = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "300"})
    assert done.exit_code == 0
    before, _, examples = done.output.partition("Examples:")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines and all(line.startswith(f"rbench {name}") for line in lines), done.output
    for option in re.findall(r"(?<=\s)--[a-z-]+", " ".join(lines)):
        assert option in before, (name, option)


@pytest.mark.process  # a library of attacks starts one as it is imported
@pytest.mark.parametrize("what", LISTINGS)
def test_listings_are_json_if_asked(rbench: Rbench, what: str) -> None:
    code, text, _ = rbench("list", what, "--checkpoints", CHECKPOINTS, "--json")
    lines = json.loads(text)
    assert code == 0 and len(lines) > 2
    assert all(" " not in key for key in lines[0])
    _, table, _ = rbench("list", what, "--checkpoints", CHECKPOINTS)
    first = str(next(iter(lines[0].values())))
    assert first in table


def test_list_alone_says_what_can_be_listed(rbench: Rbench) -> None:
    code, text, _ = rbench("list")
    assert code == 0 and all(f"rbench list {what} " in text for what in LISTINGS)
    lines = json.loads(rbench("list", "--json")[1])
    assert [line["command"] for line in lines] == [f"rbench list {what}" for what in LISTINGS]
    assert all(line["what_it_lists"] for line in lines)


@pytest.mark.parametrize(
    ("what", "column"), [("reports", "what_it_shows"), ("models", "what_it_is")]
)
def test_reports_and_models_are_listed_with_what_they_are(
    what: str, column: str, rbench: Rbench
) -> None:
    lines = json.loads(rbench("list", what, "--json")[1])
    told = [line[column] for line in lines]
    assert all(len(words) > 10 for words in told) and len(set(told)) == len(told)


def test_reports_are_listed_with_what_a_suite_needs_for_them(rbench: Rbench) -> None:
    lines = {line["report"]: line for line in json.loads(rbench("list", "reports", "--json")[1])}
    needs = {name: line["what_a_suite_needs_for_it"] for name, line in lines.items()}
    assert needs["power_curve"] == "RobustNorm checkpoints of two powers or more"
    assert needs["examples"] == "analyses: - examples" and needs["leaderboard"] == ""


def test_the_help_names_every_listing() -> None:
    shown = CliRunner().invoke(app, ["list", "--help"], env={"COLUMNS": "300"}).output
    assert f"One of {', '.join(LISTINGS)}." in shown


@pytest.mark.process
def test_help_is_shown_without_what_takes_long_to_import() -> None:
    code = """
import sys
from bench.cli.app import app
app(["list", "--help"], standalone_mode=False)
slow = {"torch", "pandas", "pyarrow", "matplotlib", "bench.suite", "bench.store"}
sys.exit(" ".join(slow & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LOADED = """
import sys
from bench.cli import main
sys.argv = ["rbench", *sys.argv[1:]]
try:
    main()
finally:
    print("loaded:", *sorted({"torch", "torch._dynamo", "torchvision"} & set(sys.modules)))
"""


def loaded(*arguments: object, cache: Path) -> list[str]:
    """Runs a command in a process of its own; returns what it has loaded of what takes long."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "RBENCH_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.process
@pytest.mark.parametrize(
    "command",
    [
        *(f"list {what}" for what in LISTINGS if what not in ("attacks", "analyses", "schemes")),
        "published list",
        "zoo show fmnist-resnet20-bn",
        "zoo readme --check",
        "report RUN",
        "index RUNS",
        "check RUN --baseline RUN",
        "repair RUN",
        "prune RUN --dry-run",
        "plan quickstart --no-time --device cpu --out OUT",
        "plan none.yaml",
        "run none.yaml --out OUT",
    ],
)
def test_commands_that_run_no_model_import_no_torch(
    command: str, run_to_report: Path, tmp_path: Path
) -> None:
    places = {"RUN": run_to_report, "RUNS": run_to_report.parent, "OUT": tmp_path / "out"}
    words = [places.get(word, word) for word in command.split()]
    assert loaded(*words, cache=tmp_path) == []


@pytest.mark.process
def test_the_attacks_of_libraries_are_asked_for_once(tmp_path: Path) -> None:
    def listed() -> tuple[list[str], str]:
        done = subprocess.run(
            [sys.executable, "-c", LOADED, "list", "attacks", "--json"],
            cwd=ROOT,
            env={**os.environ, "RBENCH_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        table, _, last = done.stdout.rpartition("loaded:")
        return last.split(), table

    (first, told), (second, again) = listed(), listed()
    assert "torch" in first and second == [] and told == again
    kept = tmp_path / "attacks" / "torchattacks.json"
    kept.write_text(kept.read_text().replace('"key": "', '"key": "of another version '))
    assert "torch" in listed()[0], "another version of the library is asked anew"
    kept.write_text("{")
    assert listed()[1] == told


@pytest.mark.process
def test_what_is_loaded_is_told() -> None:
    """Else the test above would show nothing."""
    code = LOADED.replace("main()\nfinally", "import torch\nfinally")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "loaded: torch" in done.stdout


@pytest.mark.process
def test_a_plan_imports_torch_to_time_models_and_never_again(tmp_path: Path) -> None:
    command = ("plan", "quickstart", "--device", "cpu", "--out", tmp_path / "out")
    assert "torch" in loaded(*command, cache=tmp_path)
    assert loaded(*command, cache=tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan quickstart", "probe fmnist-resnet20-bn"])
def test_nothing_is_compiled_so_no_compiler_is_imported(command: str, tmp_path: Path) -> None:
    """``torch._dynamo`` takes as long to import as torch itself."""
    found = loaded(*command.split(), "--device", "cpu", cache=tmp_path)
    assert "torch" in found and "torch._dynamo" not in found


def test_numbers_of_listings_are_numbers(rbench: Rbench) -> None:
    lines = json.loads(rbench("list", "checkpoints", "--checkpoints", CHECKPOINTS, "--json")[1])
    assert all(0 < line["clean_accuracy"] < 1 for line in lines)
    lines = json.loads(rbench("list", "datasets", "--json")[1])
    assert {line["data_set"]: line["classes"] for line in lines}["cifar100"] == 100


def test_published_tables_and_cards_are_json_if_asked(rbench: Rbench) -> None:
    tables = {line["table"]: line for line in json.loads(rbench("published", "list", "--json")[1])}
    assert tables["rna/table1"]["rows"] == 12
    card = rbench("zoo", "show", "fmnist-resnet20-bn", "--checkpoints", CHECKPOINTS, "--json")[1]
    assert json.loads(card)["model"]["arch"] == "resnet20"


def test_a_plan_is_json_if_asked(rbench: Rbench, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path, "--checkpoints", CHECKPOINTS, "--no-time", "--json")
    code, text, _ = rbench("plan", "quickstart", *arguments)
    found = json.loads(text)
    assert code == 0 and found["suite"] == "quickstart" and len(found["cells"]) == 9
    assert {cell["state"] for cell in found["cells"]} == {"to run"}
    assert all(re.fullmatch("[0-9a-f]{16}", cell["cell_id"]) for cell in found["cells"])


def test_a_suite_to_start_from_plans_against_the_shipped_checkpoints(
    rbench: Rbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, _ = rbench("init", "work")
    path = tmp_path / "work" / "suites" / "mine.yaml"
    assert code == 0 and "rbench plan mine" in text
    assert path.read_text() == starter_suite() and path.read_text().count("#") > 10
    lookup = local_lookup(Where(CHECKPOINTS))
    plan = make_plan(load_suite(path, lookup))
    assert len(plan.cells) == 6 and not any(cell.refused for cell in plan.cells)
    code, _, err = rbench("init", "work")
    assert code == 2 and "mine.yaml" in err and path.read_text() == starter_suite()
    monkeypatch.chdir(tmp_path / "work")
    arguments = ("--no-time", "--json", "--checkpoints", CHECKPOINTS)
    assert json.loads(rbench("plan", "mine", *arguments)[1])["suite"] == "mine"


def test_what_the_starter_comments_out_is_a_suite_too(tmp_path: Path) -> None:
    text = starter_suite().replace("# - autoattack", "- autoattack")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    lookup = local_lookup(Where(CHECKPOINTS))
    assert len(make_plan(load_suite(path, lookup)).cells) == 8
    assert "{checkpoint: mine}" in text and yaml.safe_load(text)["suite"] == "mine"


def in_a_terminal(**environment: str) -> bytes:
    """What a listing prints into a terminal."""
    inside, outside = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "COLUMNS")}
    command = [*MAIN, "repair", "nowhere"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**kept, "TERM": "xterm-256color", **environment},
        stdout=outside,
        stderr=outside,
    ) as process:
        process.wait()
    os.close(outside)
    found = b""
    while True:
        try:
            part = os.read(inside, 65536)
        except OSError:  # all is read
            break
        if not part:
            break
        found += part
    os.close(inside)
    return found


@pytest.mark.process
def test_no_color_is_respected() -> None:
    coloured = in_a_terminal()
    assert COLOUR.search(coloured) and b"error" in coloured
    plain = in_a_terminal(NO_COLOR="1")
    assert b"error" in plain and not COLOUR.search(plain)


@pytest.mark.process
def test_pipes_are_plain_and_may_be_closed() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "stderr": subprocess.PIPE}
    done = subprocess.run([*MAIN, "list", "attacks"], stdout=subprocess.PIPE, **options)
    assert done.returncode == 0 and b"\x1b" not in done.stdout
    command = [*MAIN, "list", "recipes", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.process
def test_names_are_completed_without_torch() -> None:
    code = """
import sys
from bench.cli import listing, options as completing
print(completing.suites("quick"), completing.checkpoints("fmnist-resnet20-bn-"))
print(listing.listings("at"), completing.kinds("leader"))
print(completing.tables("rna/table1"), completing.trackers("m"), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "['quickstart'] ['fmnist-resnet20-bn-at']",
        "['attacks'] ['leaderboard']",
        "['rna/table1'] ['mlflow'] False",
    ]


def test_the_shell_is_offered_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    environment = {"_RBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "rbench run quick"}
    done = CliRunner().invoke(app, [], prog_name="rbench", env={**environment, "COMP_CWORD": "2"})
    assert done.output.split() == ["quickstart"]


def test_a_wrong_published_file_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.yaml").write_text("[")
    monkeypatch.setenv("RBENCH_PUBLISHED", str(tmp_path))
    assert completing.tables("") == []

"""A baseline's file: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import made_facts, made_record, made_recording
from made_runs import write_run

from bench.check import source
from bench.check.baseline_file import (
    MOST,
    from_text,
    pack_counts,
    pack_runs,
    to_text,
    unpack_counts,
    unpack_runs,
)
from bench.check.compare import compare
from bench.check.record import Record, Recording
from bench.check.source import default_file, open_baseline
from bench.core.cell import Surrogate
from bench.core.errors import UserError

RIGHT = [1] * 80 + [0] * 20


def base() -> Recording:
    """A recording of one cell."""
    return made_recording(made_record(RIGHT), facts=made_facts())


# Packing ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 999_999_999_999), max_size=200))
def test_runs_come_back(numbers: list[int]) -> None:
    assert unpack_runs(pack_runs(numbers)) == tuple(numbers)


def test_runs_are_short() -> None:
    assert pack_runs([3, 7, *range(10, 15), 14, 13]) == "3 7 10-14 14 13"
    assert pack_runs(range(10_000)) == "0-9999"
    assert unpack_runs("") == ()


@given(st.integers(1, 1_000), st.data())
def test_counts_come_back(most: int, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, most), max_size=50))
    text = pack_counts(counts, most)
    assert unpack_counts(text, len(counts), most) == tuple(counts)
    with pytest.raises(ValueError, match="expected the scores of"):
        unpack_counts(text, len(counts) + 8, most)


@pytest.mark.parametrize(("most", "size"), [(1, 125), (2, 1_000), (255, 1_000), (256, 4_000)])
def test_counts_take_the_least_room(most: int, size: int) -> None:
    assert len(base64.b64decode(pack_counts([most] * 1_000, most))) == size


# To text and back -------------------------------------------------------------------------------

LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | LABELS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LABELS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def records(draw: st.DrawFn, key: tuple[str, str]) -> Record:
    draws, size = draw(st.sampled_from([1, 20, 300])), draw(st.integers(1, 60))
    hits = draw(st.lists(st.integers(0, draws), min_size=1, max_size=60))
    record = made_record(
        hits,
        *key,
        alarms=tuple(sorted(draw(st.sets(LABELS, max_size=2)))),
        cluster=draw(st.sampled_from(["sample", "batch"])),
        n_draws=draws,
        batch_size=size,
        checkpoint=draw(LABELS),
        attack_params=draw(st.dictionaries(LABELS, JSON, max_size=3)),
        # The same hash has the same images.
        data_hash=f"{len(hits):064x}",
        surrogate=draw(st.none() | st.just(Surrogate(checkpoint="s", sha256="e" * 64, stats=None))),
    )
    return replace(record, passes=round(draw(st.floats(0, 1e6)), 1))


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    keys = draw(st.lists(st.tuples(LABELS, LABELS), max_size=4, unique=True))
    found = [draw(records(key)) for key in keys]
    names = {name for record in found for name in (record.spec.checkpoint, "s", "unused")}
    facts = {
        name: made_facts(sketch=draw(LABELS), seed=draw(st.none() | st.integers(0, 9)))
        for name in names
    }
    versions = tuple(sorted(draw(st.sets(LABELS, max_size=3))))
    return replace(made_recording(*found, versions=versions), checkpoints=facts)


@pytest.mark.process
@given(recordings())
def test_a_recording_comes_back(recording: Recording) -> None:
    text = to_text(recording)
    found = from_text(text, recording.origin)
    assert found.records == recording.records
    assert (found.suite, found.versions) == (recording.suite, recording.versions)
    assert all(recording.checkpoints[name] == facts for name, facts in found.checkpoints.items())
    assert {r.spec.checkpoint for r in recording.records.values()} <= set(found.checkpoints)
    assert "unused" not in found.checkpoints
    assert to_text(found) == text
    assert from_text(text.replace("\n", "\r\n"), "with Windows' line ends").records == found.records


def test_the_order_of_cells_and_histories_leave_no_trace() -> None:
    one, other = made_record(RIGHT, "b"), made_record(RIGHT, "a")
    assert to_text(made_recording(one, other)) == to_text(made_recording(other, one))


def test_images_out_of_order_are_not_written() -> None:
    record = replace(made_record(RIGHT), batch=(1,) * 50 + (0,) * 50)
    with pytest.raises(ValueError, match="not in batch order"):
        to_text(made_recording(record))


# Hostile files ----------------------------------------------------------------------------------


def lines() -> list[Any]:
    """The lines of a baseline: head, checkpoint, images, cell."""
    return [json.loads(line) for line in to_text(base()).split("\n") if line]


def text_of(values: list[Any]) -> str:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "\n".join(texts) + "\n"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def in_cell(**changes: Any) -> Callable[[list[Any]], None]:
    return lambda values: values[-1].update(changes)


def in_spec(**changes: Any) -> Callable[[list[Any]], None]:
    return lambda values: values[-1]["spec"].update(changes)


def in_images(index: str) -> Callable[[list[Any]], None]:
    return lambda values: values[2].update(index=index)


def in_head(**changes: Any) -> Callable[[list[Any]], None]:
    return lambda values: values[0].update(changes)


def add(*more: Any) -> Callable[[list[Any]], None]:
    return lambda values: values.extend(more)


HOSTILE: dict[str, tuple[Callable[[list[Any]], None], str]] = {
    "nothing": (lambda values: values.clear(), "empty; expected a baseline"),
    "no head": (lambda values: values.pop(0), "not a baseline; expected a first line"),
    "no version": (in_head(rbench_baseline="1"), "not a baseline"),
    "true": (in_head(rbench_baseline=True), "not a baseline"),
    "newer": (in_head(rbench_baseline=2), "expected version 1, found 2; upgrade rbench"),
    "older": (in_head(rbench_baseline=0), "expected version 1, found 0; write it anew"),
    "huge": (in_head(rbench_baseline=10**4_000), "found 10000000000000000000; upgrade"),
    "more in head": (in_head(more=1), "x:1: damaged baseline: more:"),
    "half a line": (add('{"model": "m", "att'), "x:5: damaged baseline: not JSON"),
    "no object": (add("null"), "x:5: damaged baseline: expected an object"),
    "NaN": (in_cell(passes=float("nan")), "x:4: damaged baseline: not JSON"),
    "infinite": (add('{"passes": 1e999}'), "x:5: damaged baseline: not JSON"),
    "half a pair": (in_cell(model="\ud800"), "x:4: damaged baseline: not JSON"),
    "digits": (add(f'{{"n": {"1" * 5_000}}}'), "x:5: damaged baseline: not JSON"),
    "deep": (add("[" * 100_000), "x:5: damaged baseline: not JSON"),
    "deep objects": (add('{"a":' * 100_000), "x:5: damaged baseline: not JSON"),
    "nested": (in_spec(attack_params={"a": nested(300)}), "x:4: damaged baseline: "),
    "conflict": (add("<<<<<<< HEAD"), "x:5: damaged baseline: not JSON"),
    "twice": (lambda values: values.append(values[-1]), "x:5: damaged baseline: m / a occurs t"),
    "edited": (in_cell(accuracy=0.9), "accuracy says 0.9, the scores of its images say 0.8000: do"),
    "beyond 1": (in_cell(accuracy=1e308), "accuracy: Input should be less than or equal to 1"),
    "no base64": (in_cell(hits="!!!!"), "x:4: damaged baseline: expected base64"),
    "no ASCII": (in_cell(hits="ä" * 20), "expected base64"),
    "short": (in_cell(hits=""), "expected the scores of 100 images, found 0 bytes"),
    "long": (in_cell(hits="A" * 4_000), "expected the scores of 100 images, found 3000 bytes"),
    "n": (in_cell(n=101), "expected the positions of 101 images above, found 100"),
    "n is 0": (in_cell(n=0), "n: Input should be greater than or equal to 1"),
    "huge n": (in_cell(n=10**300), "n: Input should be less than or equal to"),
    "cluster": (in_cell(cluster="x"), "cluster: Input should be 'sample' or 'batch'"),
    "unknown": (in_cell(more=1), "more: Extra inputs are not permitted"),
    "draws": (in_spec(n_draws=10**12), "expected the scores of 100 images, found 13 bytes"),
    "more draws": (in_spec(n_draws=2**70), "expected the scores of 100 images, found 13 bytes"),
    "no draws": (in_spec(n_draws=0), "spec.n_draws: Input should be greater"),
    "draws beyond": (
        lambda values: (
            in_spec(n_draws=20)(values),
            in_cell(hits=base64.b64encode(b"\x15" * 100).decode())(values),
        )[0],
        "expected at most 20 right draws, found 21",
    ),
    "no batches": (in_spec(batch_size=0), "spec.batch_size: Input should be greater"),
    "other data": (in_spec(data_hash="e" * 64), "expected the positions of 100 images above, f"),
    "a run too long": (in_images("0-999999999999"), f"expected at most {MOST:,} numbers"),
    "runs too long": (in_images("0-999999999999 " * 50), "expected at most"),
    "falls": (in_images("5-3"), "expected an increasing run, found '5-3'"),
    "negative": (in_images("-5"), "expected numbers and runs such as 3 or 10-14, found '-5'"),
    "more digits": (in_images("1" * 13), "expected numbers and runs"),
    "other digits": (in_images("\N{ARABIC-INDIC DIGIT ONE}"), "expected numbers and runs"),
    "an image twice": (in_images("0-98 98"), "an image occurs twice"),
    "no hash": (add({"images": "../x", "index": "1"}), "x:5: damaged baseline: images:"),
    "no facts": (add({"checkpoint": "n", "facts": {}}), "x:5: damaged baseline: facts.arch"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_damaged_gives_one_message(name: str) -> None:
    damage, said = HOSTILE[name]
    values = lines()
    damage(values)
    with pytest.raises(UserError) as caught:
        from_text(text_of(values), "x")
    message = str(caught.value)
    assert said in message, message
    assert message.startswith("x:") and "\n" not in message and len(message) < 500


def test_many_sets_of_images_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.check.baseline_file.MOST", 1_000)
    more = [{"images": f"{i:064x}", "index": "0-499"} for i in range(3)]
    with pytest.raises(UserError, match="x:6: damaged baseline: expected at most 1,000 images"):
        from_text(text_of([*lines(), *more]), "x")


@pytest.mark.parametrize(
    "damage",
    [
        in_spec(batch_size=10**400),
        in_spec(seed=10**400),
        in_spec(attack_params={"": [{"": None}], "n_iter": 10**4_000}),
        in_spec(attack_params={"a": nested(150)}),
        lambda values: (
            in_spec(n_draws=10**400)(values),
            in_cell(hits=base64.b64encode(b"\xff" * 400).decode(), accuracy=0.0)(values),
        )[0],
        in_cell(model="a\u2028b\x00\x85"),
        in_cell(passes=1e308),
        in_images("0-99"),
        lambda values: values[1]["facts"].update(sketch="x" * 10_000),
    ],
)
def test_what_is_odd_but_whole_can_be_compared(damage: Callable[[list[Any]], None]) -> None:
    values = lines()
    damage(values)
    check = compare(base(), from_text(text_of(values), "x"))
    assert check.exit_code in (0, 3)


@given(st.data())
def test_any_byte_may_be_wrong(data: st.DataObject) -> None:
    text = to_text(base())
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(exclude_categories=["Cs"]))
    try:
        compare(base(), from_text(text[:at] + other + text[at + 1 :], "x"))
    except UserError as error:
        assert str(error).startswith("x:")


# Where baselines are ----------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a baseline in its first commit, which the second deletes."""
    top = tmp_path / "repository"
    (top / "sub").mkdir(parents=True)
    git(top, "init", "--initial-branch", "main")
    (top / "sub" / "b.jsonl").write_text(to_text(base()))
    (top / "sub" / "binary").write_bytes(b"\xff\xfe")
    git(top, "add", ".")
    git(top, "commit", "-m", "one")
    git(top, "rm", "-r", "--quiet", "sub")
    git(top, "commit", "--allow-empty", "-m", "two")
    (top / "sub").mkdir(exist_ok=True)
    monkeypatch.chdir(top)
    return top


@pytest.mark.process
def test_a_baseline_of_a_revision(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_baseline("HEAD~1:sub/b.jsonl")
    assert found.records == base().records and found.origin == "HEAD~1:sub/b.jsonl"
    monkeypatch.chdir(repository / "sub")
    assert open_baseline("HEAD~1:b.jsonl").records == base().records
    assert open_baseline("HEAD~1:sub/b.jsonl").records == base().records


@pytest.mark.process
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("main:sub/b.jsonl", "neither a file here nor one in git"),
        ("none:sub/b.jsonl", "neither a file here nor one in git"),
        ("HEAD~1:sub", "neither a file here nor one in git"),
        ("--batch:sub/b.jsonl", "neither a file here nor one in git"),
        ("HEAD~1:sub/binary", "expected UTF-8 text"),
        ("nothing", "no such baseline; expected a run folder, a file"),
        (":", "no such baseline"),
        ("", "neither a run folder"),
        ("sub", "neither a run folder, which has store/run.json, nor"),
        ("a" * 5_000, "cannot be read (File name too long)"),
        ("nosuchkind://a/b", "expected a folder, or a URL"),
    ],
)
def test_what_is_no_baseline_is_named(repository: Path, where: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        open_baseline(where)
    assert said in str(caught.value)


@pytest.mark.process
def test_outside_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="not a git repository"):
        open_baseline("main:b.jsonl")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="cannot run git"):
        open_baseline("main:b.jsonl")


def test_a_baseline_without_cells_would_pass_anything(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(to_text(made_recording()))
    record = made_record(RIGHT)
    run = write_run(tmp_path / "run", missing={record.key: record})
    for where in (path, run):
        with pytest.raises(UserError, match="has no complete cell to compare with"):
            open_baseline(str(where))


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(to_text(base()))
    monkeypatch.setattr(source, "LARGEST", 100)
    with pytest.raises(UserError, match="larger than 100 bytes"):
        open_baseline(str(path))


@pytest.mark.parametrize("suite", ["", "../x", "a/b", "A", "a\n", "x" * 500 + "/"])
def test_no_suite_leads_out_of_the_folder(suite: str) -> None:
    assert default_file("smoke-1_b") == Path("suites/baselines/smoke-1_b.jsonl")
    with pytest.raises(UserError, match="say which file is its baseline"):
        default_file(suite)

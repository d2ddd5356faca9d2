"""Kills runs at random moments, removes nodes, and counts lost results: ``make reliability``.

Results are stored in ``reports/reliability.json`` and reported in ``reports/reliability.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.core.host import processor, usable_cores
from bench.run.local import TRIES
from bench.store.run_store import RunStore

ROOT = Path(__file__).parents[1]
DATA, PAGE = ROOT / "reports" / "reliability.json", ROOT / "reports" / "reliability.md"

SUITE = """
suite: killed
data: {name: fashion-mnist, limit: 60, seed: 0, stratified: true}
threat_model: {norm: linf, eps: 0.05}
batch_size: 5
n_draws: 4
convergence_images: 0
models:
  - {checkpoint: fmnist-resnet20-bn, stats: batch}
  - fmnist-resnet20-rna-at
  - {checkpoint: fmnist-resnet20-in, protocol: transfer, surrogate: fmnist-resnet20-bn}
attacks:
  - natural
  - {attack: pgd, params: {n_iter: 10, alpha: 0.0125}}
  - {attack: "torchattacks:NIFGSM", params: {n_iter: 10, alpha: 0.0125}}
  - {attack: "torchattacks:EOTPGD", params: {n_iter: 10, alpha: 0.0125}}
"""
"""12 cells; the six of torchattacks, whose passes are unknown, have one chunk per batch."""


def command(suite: Path, out: Path, engine: str, *more: str) -> list[str]:
    """Returns the command to be killed."""
    start = [sys.executable, "-m", "bench", "run", str(suite), "--out", str(out)]
    return [*start, "--engine", engine, "--device", "cpu", *more]


def tables(out: Path) -> dict[str, bytes]:
    """Returns the report files of a run by name."""
    found = (path for path in out.iterdir() if path.suffix in (".md", ".tex", ".csv"))
    return {path.name: path.read_bytes() for path in found}


def rows(out: Path) -> Counter[tuple[str, int]]:
    """Counts the stored rows of each cell and image."""
    store = RunStore(out)
    return Counter((i, row.index) for i in store.cell_ids() for row in store.read_cell(i)[1])


def descendants(pid: int) -> list[int]:
    """Returns the descendants of a process."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        left += (children := parents.get(left.pop(), []))
        found += children
    return found


def alive(pids: list[int]) -> list[int]:
    """Returns the processes that are still running."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [pid] * (state != "Z")
    return found


def kills(engine: str, n: int, seed: int, say: Any) -> dict[str, Any]:
    """Kills runs n times, at moments drawn uniformly over the duration of a whole run.

    A killed run is resumed by the same command until it ends; then a new one is started.
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = folder / "killed.yaml"
        suite.write_text(SUITE)
        begun = time.monotonic()
        subprocess.run(command(suite, folder / "whole", engine), check=True, capture_output=True)
        length = time.monotonic() - begun
        expected, expected_rows = tables(folder / "whole"), rows(folder / "whole")
        found: Counter[str] = Counter()
        while found["kills"] < n:
            out = folder / f"run{found['runs']}"
            while found["kills"] < n:
                log = (folder / "log").open("w")
                with subprocess.Popen(
                    command(suite, out, engine), stdout=log, stderr=subprocess.STDOUT
                ) as process:
                    try:
                        process.wait(draw.uniform(0, length))
                    except subprocess.TimeoutExpired:
                        below = descendants(process.pid)
                        process.send_signal(signal.SIGKILL)
                        process.wait()
                        found["kills"] += 1
                        found["kills_with_chunks"] += any((out / "store/chunks").glob("[0-9a-f]*"))
                        ends = time.monotonic() + 20
                        while alive(below) and time.monotonic() < ends:
                            time.sleep(0.2)
                        found["orphans"] += len(alive(below))
                        say(f"{engine}: {found['kills']} of {n} kills")
                        continue
                break
            else:
                subprocess.run(command(suite, out, engine), check=True, capture_output=True)
            found["runs"] += 1
            mine = rows(out)
            found["lost"] += sum((expected_rows - mine).values())
            found["doubled"] += sum((mine - expected_rows).values())
            now = tables(out)
            found["tables"] += len(expected)
            found["tables_alike"] += sum(now.get(k) == v for k, v in expected.items())
    return {
        "seconds_of_a_whole_run": round(length, 1),
        "rows": sum(expected_rows.values()),
        **found,
    }


def workers_killed(n: int, seed: int, say: Any) -> dict[str, Any]:
    """Kills worker processes n times in all; each chunk is tried three times."""
    draw = random.Random(seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = folder / "killed.yaml"
        suite.write_text(SUITE)
        subprocess.run(command(suite, folder / "whole", "local"), check=True, capture_output=True)
        expected = tables(folder / "whole")
        while found["kills"] < n:
            out = folder / f"run{found['runs']}"
            with subprocess.Popen(
                command(suite, out, "local"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                while process.poll() is None:
                    time.sleep(draw.uniform(4, 12))
                    below = [pid for pid in descendants(process.pid) if _is_worker(pid)]
                    if below and process.poll() is None and found["kills"] < n:
                        os.kill(draw.choice(below), signal.SIGKILL)
                        found["kills"] += 1
                        say(f"workers: {found['kills']} of {n} kills")
            found["runs"] += 1
            found["exit_0"] += process.returncode == 0
            now = tables(out)
            found["tables"] += len(expected)
            found["tables_alike"] += sum(now.get(k) == v for k, v in expected.items())
    return dict(found)


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def nodes(say: Any) -> dict[str, Any]:
    """Runs the suite on one node, on two, and on two of which one is removed halfway."""
    from ray.cluster_utils import Cluster

    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = folder / "killed.yaml"
        suite.write_text(
            SUITE.replace("limit: 60", "limit: 150").replace("n_iter: 10", "n_iter: 20")
        )
        for case in ("one", "two", "one_of_two_lost"):
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
            added = [cluster.add_node(num_cpus=1) for _ in range(1 if case == "one" else 2)]
            begun = time.monotonic()
            out = folder / case
            run = command(suite, out, "ray", "--address", cluster.address)
            with subprocess.Popen(run, stdout=subprocess.DEVNULL) as process:
                if case == "one_of_two_lost":
                    while process.poll() is None and not _cells(out, 6):
                        time.sleep(0.5)
                    cluster.remove_node(added[0], allow_graceful=False)
                if process.wait() != 0:
                    raise SystemExit(f"{case}: exit code {process.returncode}")
            seconds[case] = round(time.monotonic() - begun, 1)
            cluster.shutdown()
            say(f"{case}: {seconds[case]} s")
        alike = [tables(folder / "one") == tables(folder / case) for case in list(seconds)[1:]]
    return {**seconds, "tables_alike": all(alike)}


def fuzzed(n: int, seed: int, say: Any) -> dict[str, dict[str, int]]:
    """Reads n mutated suites and n cards, in this process."""
    sys.path.insert(0, str(ROOT / "tests" / "hostile"))
    from fuzz import fuzz, parsers

    found = {}
    for what, (read, files) in parsers().items():
        counts, others = fuzz(read, files, n, seed)
        found[what] = {"read": counts["parsed"], **{k: counts[k] for k in ("refused", "other")}}
        say("\n".join([f"{what}: {found[what]}", *others[:20]]))
    return found


def _cells(out: Path, least: int) -> bool:
    folder = out / "store" / "cells"
    return folder.is_dir() and len(list(folder.glob("[0-9a-f]*"))) >= least


def page(known: dict[str, Any]) -> str:
    """Returns the report."""
    lines = [
        "# What a crash costs",
        "",
        "The suite has 12 cells: three models (BatchNorm on batch statistics, RNA, and one attacked"
        " by transfer) and four attacks, 60 Fashion-MNIST images in batches of 5; six cells land in"
        " chunks of one batch. Each kill is a SIGKILL at a moment drawn evenly from the length of a"
        " whole run; the same command then goes on. Tables are the Markdown, LaTeX and CSV of the"
        " run, compared byte by byte with those of a run that was not killed. Orphans are"
        " processes that are still there 20 seconds after their parent was killed.",
        "",
        "| what is killed | kills | of these with chunks stored | runs ended | rows lost |"
        " rows doubled | tables alike | orphans |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for key, title in (
        ("local", "the command, local engine"),
        ("local_whole", "the same, of a suite whose cells are stored whole"),
        ("ray", "the command, on Ray"),
    ):
        if key in known:
            one = Counter(known[key])
            lines.append(
                f"| {title} | {one['kills']} | {one['kills_with_chunks']} | {one['runs']} "
                f"| {one['lost']} | {one['doubled']} | {one['tables_alike']} of {one['tables']} "
                f"| {one['orphans']} |"
            )
    if "workers" in known:
        one = Counter(known["workers"])
        lines.append(
            f"| worker processes, local engine | {one['kills']} | | {one['exit_0']} of "
            f"{one['runs']} with exit code 0 | | | {one['tables_alike']} of {one['tables']} | |"
        )
    if known.get("ray", {}).get("orphans"):
        lines += [
            "",
            "The orphans on Ray are its own DashboardAgent and RuntimeEnvAgent, which notice"
            " after about a minute (62 s when one was followed) that their node is gone; no worker"
            " is among them.",
        ]
    if "workers" in known:
        lines += [
            "",
            "A chunk whose worker dies as often as it may be begun is given up, and its cell marked"
            " as incomplete (exit code 3) until the same command runs it again. When this was"
            f" counted it was begun {known['workers'].get('tries', 3)} times.",
        ]
    if "nodes" in known:
        one = known["nodes"]
        gain = one["one"] / one["two"]
        lines += [
            "",
            "## Two Ray nodes on one machine, a core each",
            "",
            f"The suite with 150 images and 20 steps takes {one['one']} s on one node and"
            f" {one['two']} s on two: {gain:.2f} times faster, starting included. With one of two"
            f" nodes killed after six cells it ends after {one['one_of_two_lost']} s. Tables of"
            f" all three runs are {'alike' if one['tables_alike'] else 'NOT alike'}.",
        ]
    if "fuzzing" in known:
        lines += [
            "",
            "## Files of strangers",
            "",
            "| made by mutation | read | refused in one line | anything else |",
            "| :-- | --: | --: | --: |",
            *(
                f"| {what} | {one['read']:,} | {one['refused']:,} | {one['other']:,} |"
                for what, one in known["fuzzing"].items()
            ),
            "",
            "`tests/hostile` holds the hand-made"
            " files, each put through a command: pickles with side effects, truncated and flipped"
            " weights and tables, YAML bombs, names that lead out, scripts in labels, wrong shapes,"
            " NaN weights. `tests/run/test_run_gap.py` is the suite of 24 cells of which one"
            " fails.",
        ]
    lines += ["", f"Machine: {known['machine']}, {known['date']}. Command: `make reliability`.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measures the requested parts, and writes the report of all results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=["local", "ray", "workers", "nodes", "fuzzing"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=20_000, help="of each kind, to be fuzzed")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    for what in given.what:
        if what == "nodes":
            result = nodes(say)
        elif what == "fuzzing":
            result = fuzzed(given.files, given.seed, say)
        elif what == "workers":
            result = workers_killed(given.kills, given.seed, say) | {"tries": TRIES}
        else:
            result = kills(what, given.kills, given.seed, say)
        known = json.loads(DATA.read_text()) if DATA.exists() else {}
        known |= {what: result, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        known["machine"] = f"{processor()}, {usable_cores()} cores"
        DATA.write_text(json.dumps(known, indent=2) + "\n")
        PAGE.write_text(page(known))
        say(json.dumps(result))


if __name__ == "__main__":
    main()

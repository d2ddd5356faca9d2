"""The shipped suites are good, hold what their papers' tables hold, and are found by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.published import load_table
from bench.suite.find import find_suite, list_suites
from bench.suite.load import load_suite
from bench.suite.plan import make_plan
from bench.suite.resolve import Lookup


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        "table1",
        "table1_full",
        "robustnorm/table1",
        "parity",
        "parity_components",
        "rna_eot",
        "eot_cost",
        "batch_statistics",
    ],
)
def test_shipped_suite_loads_and_is_named_like_its_file(
    name: str, suites_dir: Path, lookup: Lookup
) -> None:
    suite = load_suite(suites_dir / f"{name}.yaml", lookup)
    assert suite.spec.suite == name.replace("/", "_")
    assert suite.spec.title
    assert make_plan(suite).to_run


def test_table1_has_every_checkpoint_and_the_papers_columns(
    suites_dir: Path, lookup: Lookup
) -> None:
    suite = load_suite(suites_dir / "table1.yaml", lookup).spec
    norms = ("bn", "bgn", "in", "gn", "ln", "rn", "none", "fixup", "bn-at", "in-at", "rna-at")
    assert {m.checkpoint for m in suite.models} == {f"fmnist-resnet20-{norm}" for norm in norms}
    table = load_table("rna/table1")
    shown = dict.fromkeys(a.published for a in suite.attacks if a.published)
    assert tuple(shown) == table.columns
    assert lookup.images(suite.data).n_images >= 200
    full = next(a for a in suite.attacks if a.label == "AutoAttack")
    assert full.params == {}  # at full length


def test_the_table_of_statistics_takes_steps_of_a_tenth_of_eps_in_pixels(
    suites_dir: Path, lookup: Lookup
) -> None:
    resolved = load_suite(suites_dir / "robustnorm" / "table1.yaml", lookup)
    suite = resolved.spec
    assert [m.stats for m in suite.models] == ["population", "batch"]
    (std,) = lookup.checkpoint(suite.models[0].checkpoint).std
    steps = [a.params["alpha"] for a in suite.attacks if "alpha" in a.params]
    assert steps == pytest.approx([suite.threat_model.eps * std / 10] * 3)
    assert not any(cell.refused for cell in make_plan(resolved).cells)


def _write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"suite: {path.stem}\n", encoding="utf-8")


def test_suite_is_found_by_path_and_by_name_in_the_order_of_the_folders(tmp_path: Path) -> None:
    own, packaged = tmp_path / "own", tmp_path / "packaged"
    _write(own, "table1")
    _write(packaged, "table1", "quickstart", "papers/rna")
    folders = [own, packaged]
    assert find_suite(str(packaged / "table1.yaml"), folders) == packaged / "table1.yaml"
    assert find_suite("table1", folders) == own / "table1.yaml"
    assert find_suite("quickstart.yaml", folders) == packaged / "quickstart.yaml"
    assert find_suite("papers/rna", folders) == packaged / "papers" / "rna.yaml"
    assert list(list_suites(folders)) == ["papers/rna", "quickstart", "table1"]


def test_unknown_suite_names_the_nearest(tmp_path: Path) -> None:
    _write(tmp_path, "table1", "quickstart")
    with pytest.raises(UserError, match=r"no suite 'tabel1'.*did you mean 'table1'"):
        find_suite("tabel1", [tmp_path, tmp_path / "missing"])
    with pytest.raises(UserError, match=r"no suite file .*did you mean '.*quickstart\.yaml'"):
        find_suite(str(tmp_path / "quikstart.yaml"), [])


def test_the_path_of_a_suite_in_another_folder_says_that_no_such_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, here = tmp_path / "shipped", tmp_path / "here"
    _write(shipped, "quickstart", "papers/rna/table1")
    here.mkdir()
    monkeypatch.chdir(here)
    for path, name in {
        "suites/quickstart.yaml": "quickstart",
        "rbench/suites/papers/rna/table1.yaml": "papers/rna/table1",
    }.items():
        with pytest.raises(UserError) as caught:
            find_suite(path, [shipped])
        assert str(caught.value) == (
            f"no suite file '{path}' in {here}; a suite '{name}' is found by its name alone: "
            f"give '{name}'"
        )
    with pytest.raises(UserError, match=r"no suite file 'a/b\.yaml' in .*rbench list suites shows"):
        find_suite("a/b.yaml", [shipped])


def test_a_file_named_without_its_ending_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no suite 'mine'.*; did you mean the file 'mine\.yaml'\?"):
        find_suite("mine", [])


@pytest.mark.process
def test_reading_and_planning_a_suite_never_imports_torch() -> None:
    code = "import bench.suite, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

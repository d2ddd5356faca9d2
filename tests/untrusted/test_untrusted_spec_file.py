from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.untrusted.spec_file import read_spec

GOOD = (
    "arch: resnet20\nnorm: {name: rna, pool: [bn, in]}\nchannels: 1\nsize: 28\n"
    "classes: 10\nmean: [0.1]\nstd: [0.3]\n"
)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert read_spec(path, ModelSpec, "a model").norm.label() == "rna(bn+in)"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classes", "clases", r": clases: unknown key; did you mean 'classes'"),
        ("mean: [0.1]", "mean: [0.1]\nstdd: 1", r": stdd: unknown key; did you mean 'std'"),
        ("name: rna,", "name: rna, scop: 1,", r": norm.scop: unknown key; did you mean 'scope'"),
        ("[bn, in]", "[{name: bn, stat: 1}]", r": norm.pool.0.stat: unknown key; .*'stats'"),
        ("size: 28", "size: x", r": size: .*whole number.*, found 'x'$"),
        ("size: 28\n", "", r": size: Field required$"),
        ("[0.3]", "[0.3, 0.3]", r": the whole file: mean and std need 1 values"),
        ("arch: ", "arch: [", r"not valid YAML \(.*line"),
        ("size: 28", "size: 2024-99-99", r"not valid YAML"),
        ("size: 28", "size: !!python/object/apply:os.getcwd []", r"not valid YAML .*python/obj"),
        (GOOD, "", r"the whole file: .*dictionary"),
        (GOOD, "- 1\n", r"the whole file: .*dictionary"),
        (GOOD, "[" * 3_000, r"not valid YAML"),
    ],
)
def test_a_wrong_file_is_named_with_its_wrong_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_spec(path, ModelSpec, "a model")
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_foreign_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.yaml: no such file; expected a model"):
        read_spec(tmp_path / "no.yaml", ModelSpec, "a model")
    with pytest.raises(UserError, match="cannot be read"):
        read_spec(tmp_path, ModelSpec, "a model")
    path = tmp_path / "latin.yaml"
    path.write_bytes("arch: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: not UTF-8 text"):
        read_spec(path, ModelSpec, "a model")

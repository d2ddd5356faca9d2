"""Whatever a file holds, loading it gives a suite or a UserError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core.errors import UserError
from bench.suite.load import load_suite
from bench.suite.plan import make_plan
from bench.suite.resolve import Lookup, ResolvedSuite

KEYS = st.sampled_from(
    [
        *("suite", "data", "threat_model", "models", "attacks", "reports", "name", "limit"),
        *("eps", "norm", "eps_space", "checkpoint", "label", "stats", "protocol", "published"),
        *("attack", "params", "kind", "where", "seed", "batch_size", "n_iter", "<<", "a\nb"),
        *("surrogate", "eot_iter", "adversary", "each", "series", "varied", "panels"),
        *("params.n_iter", "title"),
    ]
)
WORDS = st.sampled_from(
    [
        *("fashion-mnist", "cifar10", "linf", "l2", "8/255", "1e-3", "normalized", "batch"),
        *("fmnist-resnet20-bn", "fmnist-resnet20-rna-at", "fixed_path", "natural", "autoattack"),
        *("torchattacks:PGD", "leaderboard", "rna/table1", "bn", "off"),
        *("transfer", "stats_transfer", "population", "single"),
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(max_size=8), st.dates()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(KEYS, st.text(max_size=4), st.integers()), inner, max_size=4),
    ),
    max_leaves=12,
)
GOOD: dict[str, Any] = {
    "suite": "demo",
    "data": {"name": "fashion-mnist", "limit": 8},
    "threat_model": {"eps": 0.1},
    "models": ["fmnist-resnet20-bn"],
    "attacks": ["natural"],
}
MARKUP = st.text(alphabet=" \n\t:-[]{}&*!|>'\"%#@`,?.<=\\0x1eab\u00e9\ud7ff\ue000", max_size=60)
few = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _load_and_plan(path: Path, lookup: Lookup) -> None:
    """Loads; whatever loads can be planned, and its cells have ids."""
    try:
        suite = load_suite(path, lookup)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert isinstance(suite, ResolvedSuite)
    assert all(cell.cell_id for cell in make_plan(suite).cells)


@few
@given(content=st.one_of(st.binary(max_size=60), MARKUP.map(str.encode)))
def test_arbitrary_text_never_breaks_the_loader(
    content: bytes, tmp_path: Path, lookup: Lookup
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes(content)
    _load_and_plan(path, lookup)


@pytest.mark.process
@few
@given(changes=st.dictionaries(st.sampled_from([*GOOD, "reports", "seed"]), VALUES, max_size=3))
def test_arbitrary_values_in_a_suite_never_break_the_loader(
    changes: dict[str, Any], tmp_path: Path, lookup: Lookup
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}, allow_unicode=True), encoding="utf-8")
    _load_and_plan(path, lookup)


@pytest.mark.process
@few
@given(changes=st.dictionaries(KEYS, VALUES, max_size=3))
@pytest.mark.parametrize("section_name", ["data", "threat_model", "models", "attacks", "reports"])
def test_arbitrary_keys_in_a_section_never_break_the_loader(
    section_name: str, changes: dict[str, Any], tmp_path: Path, lookup: Lookup
) -> None:
    base: dict[str, Any] = {
        "data": {"name": "fashion-mnist"},
        "threat_model": {"eps": 0.1},
        "models": {"checkpoint": "fmnist-resnet20-bn"},
        "attacks": {"attack": "torchattacks:PGD"},
        "reports": {"kind": "leaderboard", "published": "rna/table1"},
    }
    entry = {**base[section_name], **changes}
    value = entry if section_name in ("data", "threat_model") else [entry]
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({**GOOD, section_name: value}), encoding="utf-8")
    _load_and_plan(path, lookup)

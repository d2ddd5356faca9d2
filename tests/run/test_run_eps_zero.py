"""eps 0 is where a curve begins: every attack's number there is the clean accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_checkpoints import save

from bench import run_suite
from bench.core.errors import UserError

pytestmark = pytest.mark.process


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "checkpoints" / "first", "bn", 1)
    save(tmp_path / "checkpoints" / "second", {"name": "bn", "stats": "batch"}, 2)
    x = np.random.default_rng(0).random((8, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(8) % 3)
    attacks = ["pgd", "deepfool", "cw", "torchattacks:FGSM"]
    short = {"pgd": {"n_iter": 2}, "cw": {"n_iter": 3}, "deepfool": {"n_iter": 2}}
    return {
        "suite": "curve",
        "data": {"name": "npz:made.npz"},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "batch_size": 4,
        "models": ["first", "second"],
        "attacks": [
            "natural",
            *({"attack": name, "eps": 0, "params": short.get(name, {})} for name in attacks),
            {"attack": "pgd", "params": {"n_iter": 2}},
        ],
        "reports": ["leaderboard", "eps_curve"],
    }


def test_at_eps_0_an_attack_has_the_clean_accuracy(suite: dict[str, Any]) -> None:
    ended = run_suite(suite, out="out", workers=1, device="cpu")
    table = ended.table()
    assert list(table["status"]) == ["ok"] * 12, list(table["reason"])
    for model in ("first", "second"):
        part = table.loc[model]
        clean = part.loc["natural", "accuracy"]
        at_zero = [label for label in part.index if label.endswith("eps 0")]
        assert len(at_zero) == 4
        for label in at_zero:
            assert part.loc[label, "accuracy"] == clean
            assert "images_unchanged" not in part.loc[label, "alarms"]
            assert "misleading_gradient" not in part.loc[label, "alarms"]
    assert any("curve" in path.name for path in ended.reports)


def test_eps_0_of_a_whole_suite_is_refused(suite: dict[str, Any]) -> None:
    wrong = {**suite, "threat_model": {"norm": "linf", "eps": 0}}
    with pytest.raises(UserError, match="eps must be greater than 0, found 0; give eps 0 to a"):
        run_suite(wrong, out="out", workers=1, device="cpu")

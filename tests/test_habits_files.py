"""Files that other tools read of this repository."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_issue_forms_ask_for_what_a_number_needs() -> None:
    forms = {p.stem: yaml.safe_load(p.read_text()) for p in (ROOT / ".github").rglob("*.yml")}
    for name in ("bug", "wrong_number", "feature"):
        form = forms[name]
        assert form["name"] and form["description"]
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(set(ids)) == len(ids)
    required = [
        part["id"]
        for part in forms["wrong_number"]["body"]
        if part.get("validations", {}).get("required")
    ]
    assert required == ["number", "expected", "suite"]


def test_hooks_fetch_nothing_and_run_what_make_check_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        program = hook["entry"].removeprefix(".venv/bin/").split()[0]
        assert f"$(BIN)/{program}" in makefile

"""What ``evaluate()`` shows on stderr while it works."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from evaluation_scenes import QUICK, Brightness, images, sign_step
from torch import Tensor, nn

import bench.evaluation.progress as progress
from bench import evaluate
from bench.oracle.passes import Passes, listening

SHOWN = {**QUICK, "progress": True}


def run(**options: object) -> None:
    x, y = images()
    evaluate(Brightness(), x, y, "linf:0.1", [("pgd", {"n_iter": 20}), sign_step], **options)


def test_a_terminal_shows_a_bar_with_the_attack_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(**SHOWN)
    shown = capsys.readouterr()
    assert re.search(r"Brightness: pgd: +\d+ % .*gone, about .* left", shown.err)
    assert "Brightness: sign_step:" in shown.err and shown.out == ""
    assert shown.err.endswith("\r"), "the bar is cleared"


def test_a_pipe_shows_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST", 600.0)
    monkeypatch.setattr(progress, "EVERY", 600.0)
    run(**SHOWN)
    assert capsys.readouterr().err == "", "a short one is silent"
    monkeypatch.setattr(progress, "EVERY", 0.0)
    run(**SHOWN)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(re.match(r"evaluate: Brightness: \w+: \d+% done", line) for line in lines)
    shares = [int(re.findall(r"(\d+)%", line)[0]) for line in lines]
    assert shares == sorted(shares) and shares[-1] == 100


def test_a_silent_start_shows_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No pass of an oracle is made for long: the probe's are not, nor a function's own."""
    monkeypatch.setattr(progress, "FIRST", 0.01)

    def slow(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        torch.zeros(1).add_(1)
        import time

        time.sleep(0.2)
        return x

    x, y = images()
    evaluate(Brightness(), x, y, "linf:0.1", [slow], **SHOWN)
    assert "evaluate: Brightness: " in capsys.readouterr().err


def test_false_silences_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(**QUICK)
    shown = capsys.readouterr()
    assert shown.err == shown.out == ""


def test_passes_are_heard_as_they_are_counted() -> None:
    heard: list[float] = []
    passes = Passes(4)
    with listening(heard.append):
        passes.add("forwards", torch.tensor([0, 2]), 3)
        passes.add("backwards", None, 8)
    passes.add("forwards", None, 8)
    assert heard == [6, 8] and float(passes.forwards.sum()) == 14

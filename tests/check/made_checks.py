"""Made-up checks for tests of what is said of them."""

from __future__ import annotations

from bench.check.compare import Check, Checked, in_order
from bench.metrics import Estimate

HOSTILE = (
    "a|b `c` **d** <script>alert(1)</script> @everyone #12 GH-7 [x](http://evil.test) "
    "www.evil.test :tada:\n::error::e ##[group]g, 100 %\x00\x1b[31m\u202e\ufffe ]]> &amp; $x$"
)
"""Means something in every format that it must not mean."""


def accuracy(value: float, n: int = 1_000) -> Estimate:
    """Returns an accuracy with an interval of two points either way."""
    return Estimate(value, max(0.0, value - 0.02), min(1.0, value + 0.02), n, "Wilson")


def change(value: float, n: int = 1_000) -> Estimate:
    """Returns a difference with an interval of two points either way."""
    return Estimate(value, value - 0.02, value + 0.02, n, "adjusted Wald")


def every_verdict() -> Check:
    """Returns a check with every verdict, and with words that mean harm."""
    mcnemar = "McNemar, exact"
    cells = (
        Checked(
            "bn",
            "pgd20",
            "regressed",
            fails=True,
            before=accuracy(0.521),
            now=accuracy(0.472),
            difference=change(-0.049),
            p=0.000025,
            adjusted=0.0003,
            test=mcnemar,
            lost=tuple(range(17, 17 + 57)),
            gained=(3, 4, 5, 6, 7, 8, 9, 10),
            reasons=("weights, data and attack are those of the baseline",),
        ),
        Checked(
            HOSTILE,
            HOSTILE,
            "regressed",
            fails=True,
            before=accuracy(0.5, 20_000),
            now=accuracy(0.5, 20_000),
            difference=Estimate(0.0, None, None, 20_000, "no interval"),
            p=1.0,
            adjusted=1.0,
            test=mcnemar,
            reasons=(f"a new alarm: {HOSTILE}",),
        ),
        Checked(
            "bn", "apgd", "missing", leaves_open=True, before=accuracy(0.4), reasons=("not run",)
        ),
        Checked(
            "bn",
            "cw",
            "not comparable",
            leaves_open=True,
            before=accuracy(0.4),
            now=accuracy(0.3),
            reasons=("n_iter 20, was 40", "batch_size 8, was 4"),
        ),
        Checked(
            "gn",
            "cw",
            "not comparable",
            before=accuracy(0.4),
            now=accuracy(0.41),
            difference=change(0.01),
            p=0.6,
            adjusted=1.0,
            test="Fisher, exact, unpaired",
            reasons=("another training: another seed of the training 1, was 0",),
        ),
        Checked(
            "gn",
            "fgsm",
            "small drop",
            before=accuracy(0.7),
            now=accuracy(0.69),
            difference=change(-0.01),
            p=1e-9,
            adjusted=1e-8,
            test=mcnemar,
            lost=(1,),
            reasons=("a real drop, but below 2 points",),
        ),
        Checked(
            "gn",
            "pgd20",
            "improved",
            before=accuracy(0.5),
            now=accuracy(0.56),
            difference=change(0.06),
            p=0.0001,
            adjusted=0.0007,
            test=mcnemar,
            lost=(8, 9),
            gained=tuple(range(100, 162)),
        ),
        Checked("in", "pgd20", "new", now=accuracy(0.33)),
        Checked(
            "in",
            "natural",
            "same",
            before=accuracy(0.9),
            now=accuracy(0.901),
            difference=change(0.001),
            p=1.0,
            adjusted=1.0,
            test=mcnemar,
            seen=0.018,
            gained=(77,),
        ),
        Checked(
            "in",
            "cw",
            "same",
            before=accuracy(0.9, 5_000),
            now=accuracy(0.8999, 5_000),
            difference=change(-0.0001, 5_000),
            p=0.3,
            adjusted=1.0,
            test=mcnemar,
            seen=0.0341,
            lost=(1, 2, 3),
            gained=(4, 5),
        ),
        Checked(
            "rna",
            "cw",
            "same",
            before=accuracy(0.9),
            now=accuracy(0.9),
            difference=change(0.0),
            p=1.0,
            adjusted=1.0,
            test="signs of 20 draws' means, exact",
        ),
    )
    return Check(
        suite="smoke",
        baseline="main:suites/baselines/smoke.jsonl",
        run="reports/smoke",
        alpha=0.01,
        min_drop=0.02,
        cells=in_order(cells),
        notes=(f"made with other versions or on another machine: torch 2.8.0, {HOSTILE}",),
    )


def nothing_changed() -> Check:
    """Returns a check that passes."""
    cell = Checked(
        "bn",
        "pgd20",
        "same",
        before=accuracy(0.5),
        now=accuracy(0.5),
        difference=change(0.0),
        p=1.0,
        adjusted=1.0,
        test="McNemar, exact",
        seen=0.011,
    )
    return Check("smoke", "b.jsonl", "reports/smoke", 0.01, 0.0, (cell,))


def large(n: int, text: str = "model") -> Check:
    """Returns a check of very many cells, a third of them bad in one way or another."""
    cells = []
    for i in range(n):
        both = {"before": accuracy(0.5), "now": accuracy(0.4), "difference": change(-0.1)}
        tested = {"p": 0.0, "adjusted": 0.0, "test": "McNemar, exact", "lost": tuple(range(100))}
        if i % 6 == 0:
            cells.append(Checked(f"{text} {i}", "a", "regressed", fails=True, **both, **tested))
        elif i % 6 == 1:
            cells.append(Checked(f"{text} {i}", "a", "missing", leaves_open=True))
        else:
            cells.append(Checked(f"{text} {i}", "a", "same", **both, **tested))
    return Check("smoke", "b.jsonl", "reports/smoke", 0.01, 0.0, in_order(cells))

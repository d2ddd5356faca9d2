"""Small runs for the reports that need a grid of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report_runs import (
    ATTACKS,
    HOSTILE,
    N,
    RunBuilder,
    facts_of,
    make_rows,
    suite_of,
    written_out,
)

from bench.core.checkpoint import Epoch

BN, IN, RNA = "fmnist-resnet20-bn", "fmnist-resnet20-in", "fmnist-resnet20-rna"
NATURAL = {"attack": "clean", "label": "natural"}
PGD = {"attack": "pgd", "label": "pgd"}


def shares(right: float) -> list[float]:
    """Scores of 16 images, the first of them right."""
    return [1.0] * round(right) + [0.0] * (N - round(right))


def built(folder: Path, report: Any, models: list[Any], attacks: list[Any]) -> RunBuilder:
    """A run of a report, models and attacks; a bare string is a model of that checkpoint."""
    models = [{"checkpoint": m, "label": m} if isinstance(m, str) else m for m in models]
    return RunBuilder(folder / "run", written_out(suite_of([report], models, attacks)))


def eps_run(folder: Path) -> RunBuilder:
    """Two attacks at three eps; a stochastic model, a cell that broke, one not run, one alarmed."""
    eps = ["2/255", "4/255", "8/255"]
    attacks: list[Any] = [
        {**NATURAL, "published": "natural"},
        {**PGD, "each": {"eps": eps[:2]}},
        {**PGD, "published": "pgd20", "each": {"eps": eps[2:]}},
        {"attack": "autoattack", "each": {"eps": eps}},
    ]
    models: list[Any] = [
        {"checkpoint": BN, "label": "bn", "published": {"norm": "bn"}},
        {"checkpoint": RNA, "label": "rna", "attacks": ["natural", "pgd"]},
        {"checkpoint": IN, "label": "in | *x*"},
    ]
    entry = {"kind": "eps_curve", "published": "rna/table1", "where": {"model": "resnet18"}}
    run = built(folder, entry, models, attacks)
    for i, right in enumerate((15, 14, 13)):
        run.add(i, 0, make_rows(shares(right) if i != 1 else [0.9] * N, clean=0.9))
        for j in range(3):
            scores = shares(right - 4 * j - 1) if i != 1 else [0.9 - 0.2 * j] * N
            run.add(i, 1 + j, make_rows(scores), alarms=("noise",) * (i == 2 and j == 1))
    for j in range(3):
        run.add(0, 4 + j, make_rows(shares(12 - 5 * j)))
    run.add(2, 4, [], complete=False, error="the attack left the ball on 3 images")
    run.add(2, 5, make_rows(shares(5)))
    return run


def iteration_run(folder: Path) -> RunBuilder:
    """Steps by ``each`` for one attack, one by one for another, and an attack without steps."""
    attacks: list[Any] = [
        NATURAL,
        {**PGD, "each": {"params.n_iter": [5, 20, 100]}},
        {"attack": "autoattack", "label": "AA-50", "params": {"n_iter": 50}, "series": "AA"},
        {"attack": "autoattack", "label": "AA-100", "params": {"n_iter": 100}, "series": "AA"},
        {"attack": "deepfool", "label": "deepfool"},
    ]
    panels = [{"title": "Gradients alone", "attacks": ["pgd"]}, {"title": "All"}]
    entry = {"kind": "iteration_curve", "panels": panels}
    run = built(folder, entry, [BN, IN], attacks)
    for i in range(2):
        for j, right in enumerate((16, 12, 9, 8, 7, 6, 3)):
            run.add(i, j, make_rows(shares(right - 2 * i)))
    return run


def batch_size_run(folder: Path) -> RunBuilder:
    """Two norms over batch sizes, each line from one ``each``; clean accuracy in a panel."""
    each = {"checkpoint": {"bn": BN, "rn": "fmnist-resnet20-rn"}, "batch_size": [2, 4, 8]}
    entry = {"kind": "batch_size_curve"}
    run = built(folder, entry, [{"stats": "batch", "each": each}], [NATURAL, PGD])
    for i in range(6):
        run.add(i, 0, make_rows(shares(16 - i % 3)))
        run.add(i, 1, make_rows(shares(2 + 3 * (i % 3) + i // 3)))
    return run


def corruptions_run(folder: Path) -> RunBuilder:
    """Two corruptions in two severities; a stochastic model, a cell that broke, one alarmed."""
    each = {"params.name": ["fog", "gaussian_noise"], "params.severity": [1, 5]}
    attacks: list[Any] = [NATURAL, {"attack": "corruption", "each": each}]
    models: list[Any] = [BN, {"checkpoint": RNA, "label": "rna"}, IN]
    run = built(folder, "corruptions", models, attacks)
    for i, right in enumerate((16, 14, 12)):
        run.add(i, 0, make_rows(shares(right) if i != 1 else [0.9] * N, clean=0.9))
        for j in range(4):
            if (i, j) == (2, 3):
                run.add(i, 1 + j, [], complete=False, error="the corruption failed")
                continue
            scores = shares(right - 3 * j) if i != 1 else [0.9 - 0.2 * j] * N
            run.add(i, 1 + j, make_rows(scores), alarms=("noise",) * (i == 2 and j == 1))
    return run


def power_run(folder: Path) -> RunBuilder:
    """One checkpoint for each power under two kinds of statistics, and one that has no power."""
    names = [f"fmnist-resnet20-rn-p{p}" for p in (10, 5, 2)]
    models: list[Any] = [
        {"each": {"stats": ["batch", "population"], "checkpoint": names}},
        {"checkpoint": BN, "label": "bn"},
    ]
    run = built(folder, "power_curve", models, [NATURAL, PGD])
    for i in range(6):
        run.add(i, 0, make_rows(shares(15)))
        run.add(i, 1, make_rows(shares(8 + i % 3 - i // 3)))
    run.add(6, 0, make_rows(shares(16)))
    return run


def transfer_run(folder: Path) -> RunBuilder:
    """Natural and adversarial panels; a pair that broke, one that is missing, a stochastic one."""
    at = {"bn": f"{BN}-at", "rna": f"{RNA}-at"}
    natural = {"bn": BN, "in": IN, "rna": RNA}
    models: list[Any] = [
        {"label": label, "protocol": "transfer", "each": {"checkpoint": names, "surrogate": names}}
        for label, names in (("natural", natural), ("adversarial", at))
    ]
    panels = [
        {"title": "Natural training", "models": ["natural"]},
        {"title": "Adversarial training", "models": ["adversarial"]},
    ]
    run = built(folder, {"kind": "transfer_heatmap", "panels": panels}, models, [NATURAL, {**PGD}])
    for i in range(13):
        entry = run.suite["models"][i]
        own = entry["checkpoint"] == entry["surrogate"]
        stochastic = "rna" in entry["checkpoint"]
        scores = [0.8 - 0.5 * own] * N if stochastic else shares(2 if own else 11)
        run.add(i, 0, make_rows([0.9] * N if stochastic else shares(15)))
        if i == 1:
            run.add(i, 1, [], complete=False, error="the attack left the ball on 3 images")
        elif i != 2:
            run.add(i, 1, make_rows(scores), alarms=("noise breaks more",) * (i == 3))
    return run


def gain_run(folder: Path) -> RunBuilder:
    """Natural and adversarial training; a P of 0, a cell that broke, a published row."""
    models: list[Any] = [
        {
            "checkpoint": name,
            "stats": stats,
            "label": f"{name} {stats}",
            "published": {"training": training},
        }
        for name, training in ((f"{BN}-at", "adversarial"), (BN, "natural"))
        for stats in ("population", "batch")
    ]
    attacks = [
        NATURAL,
        {**PGD, "published": "pgd"},
        {"attack": "deepfool", "label": "deepfool"},
        {"attack": "autoattack", "label": "autoattack"},
    ]
    where = {"dataset": "cifar10"}
    entry = {"kind": "gain_table", "published": "robustnorm/table4", "where": where}
    run = built(folder, entry, models, attacks)
    rights = {0: (16, 15, 14, 15), 1: (8, 12, 4, 10), 2: (6, 3, 0, 9), 3: (5, 5, 4, None)}
    for j, of_models in rights.items():
        for i, right in enumerate(of_models):
            if right is None:
                run.add(i, j, [], complete=False, error="the attack crashed")
            else:
                run.add(i, j, make_rows(shares(right)))
    return run


def leaderboard_run(folder: Path) -> RunBuilder:
    """Complete, stochastic, refused, incomplete, alarmed and missing cells, and a hostile label."""
    models = [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn", "published": {"norm": "bn"}},
        {
            "checkpoint": "fmnist-resnet20-rna",
            "label": "rna",
            "protocol": "fixed_path",
            "published": {"norm": "rna"},
        },
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn (batch)", "stats": "batch"},
        {"checkpoint": "fmnist-resnet20-in", "label": HOSTILE},
    ]
    entry = {"kind": "leaderboard", "published": "rna/table1", "where": {"model": "resnet18"}}
    run = RunBuilder(folder / "run", suite_of([entry], models, ATTACKS))
    run.add(0, 0, make_rows([1] * 15 + [0]))
    run.add(0, 1, make_rows([1, 0] * 8))
    run.add(0, 2, make_rows([1, 1, 1, 0] * 4))
    run.add(0, 3, make_rows([1, 0, 0, 0] * 4))
    run.add(1, 0, make_rows([0.9] * 16, clean=0.9))
    run.add(1, 1, make_rows([0.8] * 8 + [0.6] * 8, clean=0.9))
    run.add(1, 2, make_rows([0.9] * 16, clean=0.9))
    run.add(1, 3, make_rows([0.7] * 16, clean=0.9))
    run.add(2, 0, make_rows([1] * 16))
    run.add(
        2, 1, make_rows([1, 1, 1, 0] * 3 + [0] * 4), alarms=("more steps\nbreak more | images",)
    )
    run.add(2, 2, make_rows([1] * 8), complete=False, error=f"batch 2: {HOSTILE}")
    run.plan(2, 3, refused="drops samples from the batch")
    run.add(3, 0, make_rows([1] * 16))
    return run


def stats_run(folder: Path) -> RunBuilder:
    """A checkpoint under both statistics, one whose P lacks a cell, and one without the choice."""
    models = [
        {
            "checkpoint": name,
            "label": f"{name} {letter}",
            "stats": stats,
            "published": {"stats": letter},
        }
        for name in ("fmnist-resnet20-bn", "fmnist-resnet20-bgn")
        for letter, stats in (("B", "batch"), ("P", "population"))
    ]
    models.append({"checkpoint": "fmnist-resnet20-gn", "label": "gn"})
    names = {"clean": "normal", "pgd": "pgd", "deepfool": ""}
    attacks = [{"attack": k, "label": k, "published": v} for k, v in names.items()]
    entry = {
        "kind": "stats_table",
        "published": "robustnorm/table1",
        "where": {"dataset": "fashion-mnist"},
    }
    threat = {"norm": "linf", "eps": 0.06, "eps_space": "normalized"}
    suite = suite_of([entry], models, attacks, threat_model=threat)
    del suite["title"]
    run = RunBuilder(folder / "run", suite)
    for model in range(5):
        run.add(model, 0, make_rows([1] * 12 + [0, 1, 0, 1]))
    run.add(0, 1, make_rows([1] * 14 + [0, 1]))
    run.add(1, 1, make_rows([0] * 15 + [1]), alarms=("gradients vanish",))
    run.add(2, 1, make_rows([1] * 16))
    run.add(3, 1, [], complete=False, error="the attack left the ball on 3 images")
    run.add(4, 1, make_rows([0] * 8 + [1] * 8))
    for model in range(5):
        run.add(model, 2, make_rows([1] * model + [0] * (16 - model)))
    return run


def agreement_run(folder: Path) -> RunBuilder:
    """A pair that is complete on one model and not on the other, and one by batches."""
    models = [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn"},
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn (batch)", "stats": "batch"},
        {"checkpoint": "fmnist-resnet20-in", "label": "in"},
        {"checkpoint": "fmnist-resnet20-in", "label": "one of a pair", "attacks": ["pgd20"]},
    ]
    pairs = [["pgd20", "autoattack"], ["autoattack", "natural"]]
    run = RunBuilder(
        folder / "run", suite_of([{"kind": "agreement", "pairs": pairs}], models, ATTACKS)
    )
    for model in range(2):
        run.add(model, 0, make_rows([1] * 16))
        run.add(model, 1, make_rows([1, 1, 1, 0] * 4))
        run.add(model, 3, make_rows([1, 1, 0, 1] + [1, 1, 0, 0] * 3))
    run.add(2, 1, make_rows([0] * 16))
    run.add(2, 3, [], complete=False, error="the attack left the ball on 3 images")
    return run


def history(n: int, scored: bool) -> tuple[Epoch, ...]:
    """Epochs of a training, with or without an accuracy on test images."""
    return tuple(
        Epoch(
            epoch=i + 1,
            loss=2.0 / (i + 1),
            accuracy=0.5 + i / 10,
            test_accuracy=0.6 + i / 10 if scored else None,
        )
        for i in range(n)
    )


POWERS = {"fmnist-resnet20-rn-p005": 3, "fmnist-resnet20-rn": 2, "fmnist-resnet20-rn-p1": 0}


def training_run(folder: Path) -> RunBuilder:
    """Three checkpoints, one of them in two rows, one scored on no test images, one unrecorded."""
    models = [{"checkpoint": name, "label": f"p of {name[15:]}"} for name in POWERS]
    models.append({"checkpoint": "fmnist-resnet20-rn", "label": "again", "stats": "tracked-mean"})
    run = RunBuilder(folder / "run", suite_of(["training_curve"], models, ATTACKS[:1]))
    run.add(0, 0, make_rows([1] * 16))
    run.facts = {
        name: facts_of(name).model_copy(update={"history": history(n, scored=n == 3)})
        for name, n in POWERS.items()
    }
    return run


RUNS = {
    "agreement": agreement_run,
    "batch_size_curve": batch_size_run,
    "corruptions": corruptions_run,
    "eps_curve": eps_run,
    "gain_table": gain_run,
    "iteration_curve": iteration_run,
    "leaderboard": leaderboard_run,
    "power_curve": power_run,
    "stats_table": stats_run,
    "training_curve": training_run,
    "transfer_heatmap": transfer_run,
}
"""A run for each kind of report of cells."""

"""What a GPU must not change: verdicts, counts, draws, memory. Skipped on machines without one.

Run with ``pytest -m gpu``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import evaluate, run_suite
from bench.attacks import get_attack, parse_params
from bench.attacks.base import Budget
from bench.core.norm_spec import NormSpec
from bench.evaluation.cell import run_cell
from bench.evaluation.device import pick_device
from bench.evaluation.in_memory import as_slice
from bench.evaluation.model import Target
from bench.norms import norm_factory
from bench.oracle import Oracle, QueryRules, cross_entropy
from bench.probe.model import probe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
N, CLASSES = 32, 5
NATIVE: list[Any] = [
    "natural", "fgsm", "bim", "mim", "noise", "cw_linf", ("cw", {"n_iter": 10}), "deepfool",
    ("pgd", {"n_iter": 5}), ("apgd", {"n_iter": 5}), ("apgd_t", {"n_iter": 3}),
    ("fab_t", {"n_iter": 5}), ("square", {"n_queries": 50}), ("auto", {"n_passes": 60}),
    ("autoattack", {"n_iter": 5, "n_queries": 20}),
]  # fmt: skip


def network(norm: object = "bn", classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    make = norm_factory(NormSpec.model_validate(norm))
    layers = [nn.Conv2d(3, 16, 3), make(16), nn.ReLU(), nn.Conv2d(16, 16, 3), make(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, classes))


def images(model: nn.Module, n: int = N) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, model.eval().cpu()(x).argmax(1)


def test_auto_takes_the_gpu_and_turns_tf32_off() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    assert pick_device("auto") == DEVICE
    assert not torch.backends.cuda.matmul.allow_tf32


def test_verdicts_are_those_of_the_cpu() -> None:
    """Rounding may decide an image at the boundary, not more."""
    model = network()
    x, y = images(model)
    attacks: list[Any] = ["natural", "fgsm", ("pgd", {"n_iter": 10}), ("fab_t", {"n_iter": 10})]
    asked: dict[str, Any] = {"attacks": attacks, "search": "exact", "sentinel": False}
    here, there = (evaluate(model, x, y, "linf:0.01", device=d, **asked) for d in ("cpu", DEVICE))
    for label in here:
        a, b = ([row.robust for row in found[label].rows] for found in (here, there))
        assert sum(p != q for p, q in zip(a, b, strict=True)) <= 1, label
        assert here[label].info.cell_id == there[label].info.cell_id


def test_the_model_comes_back_to_where_it_was() -> None:
    model = network()
    x, y = images(model)
    torch.backends.cudnn.allow_tf32 = True
    evaluate(model, x.to(DEVICE), y.to(DEVICE), "linf:0.01", ["fgsm"], device=DEVICE)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert torch.backends.cudnn.allow_tf32, "the caller's setting is restored"


def test_what_a_fast_search_finds_holds_in_float32() -> None:
    """Attacks may run in bfloat16 or compiled; rows are of the exact model, as the CPU has it."""
    model = network()
    x, y = images(model)
    result = evaluate(
        model, x, y, "linf:0.02", [("pgd", {"n_iter": 20})], device=DEVICE, search="fast"
    )
    kept: list[Tensor] = []
    target = Target(model.to(DEVICE), (1.0,) * 3, CLASSES)
    _, rows = run_cell(result["pgd"].info.spec, target, as_slice(x, y), keep=kept.append)
    with torch.no_grad():
        found = model.cpu()(torch.cat(kept).cpu()).argmax(1)
    assert sum(row.adv_pred != p for row, p in zip(rows, found.tolist(), strict=True)) <= 1
    assert [row.robust for row in rows] == [row.robust for row in result["pgd"].rows]


def test_passes_are_counted_as_on_the_cpu() -> None:
    model = network()
    x, y = images(model)
    spent = []
    for device in ("cpu", DEVICE):
        oracle = Oracle(model.to(device), x.to(device), CLASSES, QueryRules())
        oracle.query(x.to(device), y.to(device), cross_entropy)
        oracle.jacobian(x.to(device))
        spent.append((oracle.passes.forwards.tolist(), oracle.passes.backwards.tolist()))
    assert spent[0] == spent[1] == ([2.0] * N, [1.0 + CLASSES] * N)


def test_a_query_that_does_not_fit_into_memory_is_cut() -> None:
    model = nn.Sequential(nn.Conv2d(3, 256, 3), nn.ReLU(), nn.Flatten(2), nn.AdaptiveAvgPool1d(1))
    model = nn.Sequential(model, nn.Flatten(), nn.Linear(256, CLASSES)).to(DEVICE).eval()
    x = torch.rand(256, 3, 64, 64, device=DEVICE)
    y = torch.zeros(256, dtype=torch.int64, device=DEVICE)
    whole = Oracle(model, x, CLASSES, QueryRules()).query(x, y, cross_entropy)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 600 * 2**20) / total)
    try:
        cut = Oracle(model, x, CLASSES, QueryRules()).query(x, y, cross_entropy)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cut.grad is not None and whole.grad is not None
    torch.testing.assert_close(cut.loss, whole.loss)
    torch.testing.assert_close(cut.grad, whole.grad)


def test_random_paths_are_those_of_the_cpu() -> None:
    """Paths are drawn on the CPU, so that a stochastic model has one set of draws everywhere."""
    model = network({"name": "rna", "pool": ["in", {"name": "gn", "groups": 4}]})
    x, y = images(model)
    rows = [
        evaluate(model, x, y, "linf:0.01", ["natural"], device=device, n_draws=10, sentinel=False)[
            "natural"
        ].rows
        for device in ("cpu", DEVICE)
    ]
    differ = [abs(a.clean_correct - b.clean_correct) for a, b in zip(*rows, strict=True)]
    assert max(differ) <= 0.1 and sum(d > 0 for d in differ) <= 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_native_attack_completes_in_every_precision(dtype: torch.dtype) -> None:
    model = network()
    x, y = images(model)
    result = evaluate(model.to(dtype), x, y, "linf:0.02", NATIVE, device=DEVICE, sentinel=False)
    assert {k: c.info.error for k, c in result.cells.items() if not c.info.complete} == {}
    info = result["natural"].info
    assert info.cluster == "sample" and info.spec.n_draws == 1, "not noise but rounding"


def test_gradients_of_a_thousand_classes_are_held_in_turns() -> None:
    """All at once they are 36 GiB for 64 images of 3 x 224 x 224, and steps some times that."""
    model = network(classes=1000).to(DEVICE).eval().requires_grad_(False)
    x = torch.rand(64, 3, 224, 224, device=DEVICE)
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = get_attack("deepfool")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    oracle = Oracle(model, x, 1000, QueryRules())
    params = parse_params(attack, {"n_iter": 1, "n_candidates": 1000})
    x_adv = attack.run(oracle, x, y, Budget("l2", (0.5,)), params, 0)
    assert torch.isfinite(x_adv).all()
    assert torch.cuda.max_memory_allocated() - before < 8 * 2**30


def test_a_sound_network_is_found_deterministic_and_per_sample() -> None:
    """cuDNN may choose other kernels for other batches; that is rounding, and no finding."""
    model = network()
    x, y = images(model)
    found = probe(
        model.to(DEVICE), x.to(DEVICE), y.to(DEVICE), classes=CLASSES, batch_size=N,
        budget=Budget("linf", (0.01,)),
    )  # fmt: skip
    assert (found.stochastic, found.batch_dependent) == (False, False)
    assert not any(finding.severity == "error" for finding in found.findings)


def test_a_suite_runs_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.random((N, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(N) % CLASSES)
    suite = {
        "suite": "gpu",
        "data": {"name": "npz:made.npz"},
        "threat_model": {"norm": "linf", "eps": 0.02},
        "batch_size": 16,
        "models": [f"torchvision:resnet18?size=32&classes={CLASSES}"],
        "attacks": ["natural", {"attack": "pgd", "params": {"n_iter": 5}}],
    }
    runs = [run_suite(suite, out=d, device=d, workers=1) for d in ("cpu", DEVICE)]
    assert [run.exit_code for run in runs] == [0, 0]
    a, b = (run.rows() for run in runs)
    assert (a["clean_pred"] != b["clean_pred"]).sum() <= 1
